"""``walstream import``: backups and archived WAL of other tools into a store."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from walstream.cli.arguments import TIMELINE
from walstream.cli.step_progress import show_steps
from walstream.text import to_json


@click.command()
@click.argument("store", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--base",
    "bases",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A base backup: a directory or the base.tar[.gz|.lz4|.zst] of pg_basebackup, the data "
    "directory of a server that was shut down, a backup of Barman, or a Barman server's directory.",
)
@click.option(
    "--wal",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A directory of archived WAL, at any depth: plain or packed, of Barman, pgBackRest, "
    "wal-g; or a tar archive of it.",
)
@click.option(
    "-t", "--timeline", type=TIMELINE, help="Timeline to follow.  [default: the newest there is]"
)
@click.option("-j", "--threads", type=click.IntRange(1, 64), help="Threads.  [default: all CPUs]")
@click.option("--copy", is_flag=True, help="Copy archived WAL, also where a hard link would do.")
@click.option(
    "--link-base",
    is_flag=True,
    help="Hard link the files of base backups: nobody may ever start or change these.",
)
@click.option("--no-index", is_flag=True, help="Make no index at the end: walstream reindex will.")
@click.option("-n", "--dry-run", is_flag=True, help="Tell what would be taken, and the holes.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="No progress, no report: the exit code.")
def command(
    store: Path,
    bases: tuple[Path, ...],
    wal: tuple[Path, ...],
    timeline: int | None,
    threads: int | None,
    copy: bool,
    link_base: bool,
    no_index: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Take base backups and archived WAL of other tools into STORE, which is made if need be.

    Every file is proven while it is taken: those of a base backup by its manifest (or, of a server
    that was shut down, by their page checksums), WAL by its records and their chain over segments
    and timelines. What is damaged is left out and told. Interrupted, the same command goes on;
    given more, it adds to the store. Then the store is as one that was streamed.

    \b
    Example:
      walstream import /srv/store --base /backups/monday --wal /archive

    Exit code 0: complete; 7: damaged WAL was left out; 12: WAL is missing; 13: another cluster's.
    """
    from walstream.app.import_store import ImportConfig, import_store
    from walstream.cli import exit_codes
    from walstream.scanning.range_scan import default_threads

    if not bases and not wal:
        raise click.UsageError("give a base backup with --base, archived WAL with --wal, or both")
    config = ImportConfig(
        store.absolute(),
        bases,
        wal,
        timeline,
        threads or default_threads(),
        links=not copy,
        link_bases=link_base,
        dry_run=dry_run,
        index=not no_index,
    )
    with show_steps(shown=not quiet) as progress:
        report = import_store(config, progress)
    if as_json:
        click.echo(to_json(report.as_json(), indent=2))
    elif not quiet:
        for line in report.lines():
            click.echo(line)
    if report.complete:
        return
    missing = any(hole.kind == "missing" for hole in report.holes)
    sys.exit(exit_codes.SEGMENT_MISSING if missing else exit_codes.WAL_DAMAGED)
