"""``walstream dump``: pg_waldump for every major version, and more."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from walstream.cli.arguments import FORK, POSTGRES, PostgresCommand, version_option
from walstream.cli.leases import lease_for
from walstream.dump.formats import FORMATS, SinkOptions

if TYPE_CHECKING:
    from walstream.dump.run import Dumped


def say(text: str) -> None:
    click.echo(f"walstream dump: {text}", err=True)


# ``--stats`` without a value, as it may be abbreviated.
STATS = ("--stat", "--stats")


class DumpCommand(PostgresCommand):
    """Lets ``--stats`` stand without a value, as pg_waldump does."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, ["--stats=rmgr" if a in STATS else a for a in args])


def parse_rmgr(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> list[int]:
    from walstream.rmgr.rmgrlist import RMGR_NAMES
    from walstream.wal.layout import RM_MIN_CUSTOM_ID

    found = []
    names = {name.lower(): i for i, name in enumerate(RMGR_NAMES)}
    for value in values:
        if value.lower() == "list":
            click.echo("\n".join(RMGR_NAMES))
            ctx.exit()
        custom = re.fullmatch(r"custom(\d{1,3})", value)
        if custom is not None:
            if not RM_MIN_CUSTOM_ID <= int(custom[1]) <= 255:
                raise click.BadParameter(f'custom resource manager "{value}" does not exist')
            found.append(int(custom[1]))
        elif value.lower() in names:
            found.append(names[value.lower()])
        else:
            raise click.BadParameter(f'resource manager "{value}" does not exist')
    return found


def parse_location(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    from walstream.wal.model import parse_lsn

    if value is None:
        return None
    try:
        return parse_lsn(value)
    except ValueError:
        raise click.BadParameter(f'invalid WAL location: "{value}"') from None


def parse_locator(
    _ctx: click.Context, _param: click.Parameter, value: str | None
) -> tuple[int, int, int] | None:
    if value is None:
        return None
    match = re.fullmatch(r"(\d+)/(\d+)/(\d+)", value)
    if match is None or int(match[1]) == 0 or int(match[3]) == 0:
        raise click.BadParameter(
            f'invalid relation specification: "{value}"; '
            'expecting "tablespace OID/database OID/relation filenode"'
        )
    return int(match[1]), int(match[2]), int(match[3])


def parse_timeline(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    try:
        timeline = int(value, 0)
    except ValueError:
        raise click.BadParameter(f'invalid value "{value}"') from None
    if not 1 <= timeline <= 0xFFFFFFFF:
        raise click.BadParameter("must be in range 1..4294967295")
    return timeline


def need_pyarrow() -> None:
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise click.ClickException(
            f"{error.name} is not installed: pip install 'walstream[sql]'"
        ) from error


def tell_ending(dumped: Dumped) -> None:
    """Says how it ended, and leaves with the exit code of docs/reference/exit-codes.md."""
    from walstream.cli.exit_codes import SEGMENT_MISSING, WAL_TRUNCATED
    from walstream.scanning.ending import EndKind, raise_ending
    from walstream.wal.model import format_lsn

    ending = dumped.ending
    if ending is None:
        return
    if ending.kind is EndKind.TRUNCATED:
        say(ending.message)
        sys.exit(WAL_TRUNCATED)
    raise_ending(ending)
    if dumped.first_lsn is None:
        say(f"could not find a valid record after {format_lsn(dumped.start_lsn)}")
        sys.exit(SEGMENT_MISSING)
    if ending.kind is EndKind.CLEAN:
        inside = ", within a record that was not finished" if ending.inside else ""
        say(f"end of WAL at {format_lsn(ending.lsn)}{inside}")


@click.command("dump", cls=DumpCommand, context_settings=POSTGRES)
@click.argument("segments", nargs=-1, metavar="[STARTSEG [ENDSEG]] | DIRECTORY | TAR | - | DSN")
@click.option("-b", "--bkp-details", is_flag=True, help="Print block references in detail.")
@click.option("-B", "--block", type=click.IntRange(0, 0xFFFFFFFE), help="With -R: only this block.")
@click.option("-e", "--end", callback=parse_location, metavar="LSN", help="Stop there.")
@click.option("-f", "--follow", is_flag=True, help="Wait for more at the end of WAL.")
@click.option("-F", "--fork", type=FORK, help="Only this fork.")
@click.option(
    "-j",
    "--threads",
    type=click.IntRange(1, 64),
    help="Threads that look for chosen records.  [default: all CPUs]",
)
@click.option("-n", "--limit", type=int, default=0, help="Stop after so many records.")
@click.option("-p", "--path", type=click.Path(path_type=Path), help="Directory or tar of WAL.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
@click.option("-r", "--rmgr", multiple=True, callback=parse_rmgr, help="Resource manager; list.")
@click.option("-R", "--relation", callback=parse_locator, metavar="T/D/R", help="Relation file.")
@click.option("-s", "--start", callback=parse_location, metavar="LSN", help="Begin there.")
@click.option("-t", "--timeline", callback=parse_timeline, help="Timeline to read (the newest).")
@click.option("-w", "--fullpage", is_flag=True, help="Only records with a page image.")
@click.option("-x", "--xid", type=click.IntRange(0, 0xFFFFFFFF), help="Only this transaction.")
@click.option("-z", "short_stats", is_flag=True, help="Same as --stats.")
@click.option("--stats", type=click.Choice(["rmgr", "record"]), help="Statistics instead.")
@click.option("--save-fullpage", type=click.Path(path_type=Path), help="Save page images there.")
@click.option(
    "--format",
    "form",
    type=click.Choice(list(FORMATS)),
    default="text",
    show_default=True,
    help="See docs/reference/dump.md for the schemas.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write to.")
@click.option("--describe", is_flag=True, help="Descriptions in Arrow and Parquet, too.")
@version_option
def command(
    segments: tuple[str, ...],
    bkp_details: bool,
    block: int | None,
    end: int | None,
    follow: bool,
    fork: str | None,
    threads: int | None,
    limit: int,
    path: Path | None,
    quiet: bool,
    rmgr: list[int],
    relation: tuple[int, int, int] | None,
    start: int | None,
    timeline: int | None,
    fullpage: bool,
    xid: int | None,
    short_stats: bool,
    stats: str | None,
    save_fullpage: Path | None,
    form: str,
    output: Path | None,
    describe: bool,
) -> None:
    """Print the records of WAL, as pg_waldump of the WAL's own major version prints them.

    Reads segments of 14 to 18: complete, .partial, compressed (.gz, .lz4, .zst), in a directory, a
    tar archive or a store, or a stream of WAL on standard input (-), or follows a server (DSN).
    """
    from walstream.dump.run import DumpRequest, run_dump
    from walstream.scanning.wal_range import WalRange
    from walstream.wal.match import RecordMatch
    from walstream.wal.model import FORK_NAMES, RelFileLocator

    # As pg_waldump: an interrupt ends it in good order, also where a shell that put it into the
    # background had interrupts ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if FORMATS[form].needs_pyarrow:
        need_pyarrow()
    if block is not None and relation is None:
        raise click.UsageError("option -B/--block requires option -R/--relation to be specified")
    if len(segments) > 2:
        raise click.UsageError(f'too many command-line arguments (first is "{segments[2]}")')
    if FORMATS[form].needs_file and output is None:
        raise click.UsageError(f"--format {form} requires --output")
    match = RecordMatch(
        rmgr,
        xid,
        None if relation is None else RelFileLocator(*relation),
        block,
        None if fork is None else FORK_NAMES[fork],
        fullpage,
    )
    request = DumpRequest(
        segments=segments,
        path=path,
        timeline=timeline,
        follow=follow,
        wal_range=WalRange(start, end),
        match=match,
        threads=threads,
        limit=max(limit, 0),
        quiet=quiet,
        stats=stats or ("rmgr" if short_stats else None),
        form=form,
        options=SinkOptions(bkp_details, describe),
        save_fullpage=save_fullpage,
        output=output,
    )
    place = path or (Path(segments[0]) if segments else None)
    try:
        with lease_for(place):
            dumped = run_dump(request)
    except KeyboardInterrupt:
        # As pg_waldump: what was counted has been printed; that is the end.
        return
    except BrokenPipeError:
        # Whoever read the output has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    tell_ending(dumped)
