"""``walstream base``: the base backups of a store."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from walstream.cli.arguments import BYTES, MOMENT, STORE

if TYPE_CHECKING:
    from walstream.app.bases import BaseFacts
    from walstream.index.moment import MomentText
    from walstream.store.base_backup import BaseBackup

JSON_OPTION = click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """List, make, advance and check the base backups of a store.

    A store needs at least one; each moment after its end can be rebuilt from it. All of this works
    beside a walstream run on the same store, which notices a new base by itself.
    """


@command.command("list")
@click.argument("store", type=STORE)
@JSON_OPTION
def list_(store: Path, as_json: bool) -> None:
    """List the complete base backups of STORE, oldest first.

    Example: walstream base list /srv/wal/db1
    """
    from walstream.app.bases import list_bases
    from walstream.text import to_json

    found = list_bases(store)
    if as_json:
        click.echo(to_json([facts_table(facts) for facts in found], indent=2))
        return
    if not found:
        click.echo("no base backup yet: let walstream run finish one", err=True)
        return
    _print_table(found)


def _print_table(found: list[BaseFacts]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from walstream.status.text import size
    from walstream.wal.model import format_lsn

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("start", "moments from", "WAL from", "timeline", "size", "made"):
        table.add_column(name, justify="right" if name in ("timeline", "size") else "left")
    table.add_column("how", no_wrap=True)
    for facts in found:
        backup = facts.backup
        table.add_row(
            format_lsn(backup.start_lsn),
            format_lsn(backup.stop_lsn),
            format_lsn(backup.first_needed_lsn),
            str(backup.timeline),
            size(facts.bytes),
            _time_text(facts.made_s),
            made_by(backup) + ("" if facts.alive else ", of a dead branch"),
        )
    width = None if sys.stdout.isatty() else 200
    Console(width=width, highlight=False).print(table)


def made_by(backup: BaseBackup) -> str:
    """Returns in a word how a base backup came about."""
    return "from a server" if backup.wal_from is None else "advanced"


def _time_text(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).isoformat(" ")


def backup_table(backup: BaseBackup) -> dict[str, Any]:
    """Returns what JSON says of a base backup."""
    from walstream.wal.model import format_lsn

    return {
        "path": str(backup.path),
        "start_lsn": format_lsn(backup.start_lsn),
        "stop_lsn": format_lsn(backup.stop_lsn),
        "checkpoint_lsn": format_lsn(backup.checkpoint_lsn),
        "first_needed_lsn": format_lsn(backup.first_needed_lsn),
        "timeline": backup.timeline,
        "advanced": backup.wal_from is not None,
        "tablespaces": {str(oid): path for oid, path in sorted(backup.tablespaces.items())},
    }


def facts_table(facts: BaseFacts) -> dict[str, Any]:
    """Returns what JSON says of a listed base backup. Sizes in bytes, times as ISO 8601."""
    return {
        **backup_table(facts.backup),
        "files": facts.files,
        "bytes": facts.bytes,
        "made": _time_text(facts.made_s),
        "dead_branch": not facts.alive,
    }


def _say_made(backup: BaseBackup, as_json: bool) -> None:
    from walstream.text import to_json
    from walstream.wal.model import format_lsn

    if as_json:
        click.echo(to_json(backup_table(backup), indent=2))
    else:
        click.echo(
            f"{backup.path}: moments from {format_lsn(backup.stop_lsn)} on; "
            f"needs WAL from {format_lsn(backup.first_needed_lsn)}"
        )


@command.command("create")
@click.argument("store", type=STORE)
@click.option("-d", "--dbname", "conninfo", required=True, metavar="DSN", help="The server.")
@click.option(
    "-c",
    "--checkpoint",
    type=click.Choice(["fast", "spread"]),
    default="fast",
    show_default=True,
    help="How the server makes its checkpoint.",
)
@JSON_OPTION
def create(store: Path, conninfo: str, checkpoint: str, as_json: bool) -> None:
    """Take another base backup of the server into STORE.

    DSN is any libpq connection string; its role needs REPLICATION. The WAL that the backup needs is
    what walstream run streams meanwhile, or later. Interrupted, what was begun is removed by the
    next one.

    Example: walstream base create /srv/wal/db1 -d 'host=db1 user=backup'
    """
    import trio

    from walstream.app.bases import create_base

    _log()
    made = trio.run(
        lambda: create_base(
            store, conninfo, fast=checkpoint == "fast", show_progress=sys.stderr.isatty()
        )
    )
    _say_made(made, as_json)


@command.command("advance")
@click.argument("store", type=STORE)
@click.option(
    "--at",
    "moment",
    type=MOMENT,
    help="The moment: an LSN, latest, a time with its zone, '5 minutes ago', xid:N, "
    "'before xid:N' or name:NAME of a restore point.  [default: go on with what was interrupted, "
    "else latest]",
)
@click.option(
    "--rate-limit",
    type=BYTES,
    metavar="BYTES",
    help="Read and write at most so many bytes a second, such as 50MB.",
)
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(1, 64),
    help="Make so many files at a time [default: the number of CPUs].",
)
@JSON_OPTION
def advance(
    store: Path,
    moment: MomentText | None,
    rate_limit: int | None,
    jobs: int | None,
    as_json: bool,
) -> None:
    """Make a base backup of a later moment from the pages of STORE; no server is touched.

    It is a full backup as the server would have given it then, with a manifest: unchanged files are
    copied, by reference where the file system can, of the others the blocks that were changed are
    rebuilt. PostgreSQL can be recovered from it, and pages start from it, so that none is made of
    more WAL than there is since. Interrupted, the same command goes on with it.

    Example: walstream base advance /srv/wal/db1 --rate-limit 50MB
    """
    import trio

    from walstream.app.bases import AdvanceJob, advance_base
    from walstream.cli.file_progress import show_files
    from walstream.datadir.materialize import Progress, default_jobs

    _log()
    progress = Progress()

    async def main() -> BaseBackup:
        with show_files(progress) as planned:
            job = AdvanceJob(
                moment,
                jobs or default_jobs(),
                rate_limit,
                progress,
                planned,
                lambda line: click.echo(line, err=True),
            )
            return await advance_base(store, job)

    _say_made(trio.run(main), as_json)


@command.command("verify")
@click.argument("store", type=STORE)
@click.argument("base", required=False)
@click.option("-q", "--quiet", is_flag=True, help="No progress bar, no report: the exit code.")
@JSON_OPTION
def verify(store: Path, base: str | None, quiet: bool, as_json: bool) -> None:
    """Compare the files of the base backups of STORE with their manifests.

    BASE is the start LSN of one, or the name of its directory.

    Exit code 0: all are what was backed up; 10: files differ, are missing or too many.

    Example: walstream base verify /srv/wal/db1 0/2000028
    """
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from walstream.app.bases import find_base
    from walstream.cli import exit_codes
    from walstream.store.backup_files import BackupFiles
    from walstream.store.base_backup import list_base_backups
    from walstream.store.store import Store
    from walstream.text import to_json

    backups = list_base_backups(Store.open(store, lock=False).base_path)
    chosen = backups if base is None else [find_base(backups, base)]
    files = [BackupFiles(backup.path, needs_manifest=True) for backup in chosen]
    columns = (TextColumn("{task.description}"), DownloadColumn(), TimeRemainingColumn())
    problems: list[str] = []
    with Progress(
        *columns,
        console=Console(stderr=True),
        disable=quiet or not sys.stderr.isatty(),
        transient=True,
    ) as bar:
        total = sum(size for one in files for _, size in one.sizes())
        task = bar.add_task("comparing", total=total)
        for one in files:
            problems += one.problems(lambda done: bar.advance(task, done))
    if as_json:
        click.echo(to_json({"bases": len(chosen), "problems": problems}, indent=2))
    elif not quiet:
        for problem in problems:
            click.echo(problem)
        click.echo(f"{len(chosen)} base backups: " + ("damaged" if problems else "sound"))
    sys.exit(exit_codes.DIFFERENT if problems else exit_codes.OK)


def _log() -> None:
    import logging

    from walstream.terminal import log_handler

    handler: logging.Handler = log_handler() if sys.stderr.isatty() else logging.StreamHandler()
    logging.basicConfig(level=logging.INFO, handlers=[handler], format="%(message)s")
