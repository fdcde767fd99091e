"""``walstream dump``: pg_waldump for every major version, and more."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from walstream.cli.arguments import POSTGRES, PostgresCommand, version_option

if TYPE_CHECKING:
    from walstream.dump.sinks import Dumper, Sink
    from walstream.scanning.reading import Batch, Reading, Wait
    from walstream.segments.source import SegmentSource

IDLE_S = 1.0

_DSN = re.compile(r"postgres(?:ql)?://.*|\w+\s*=.*", re.DOTALL)


def say(text: str) -> None:
    click.echo(f"walstream dump: {text}", err=True)


# ``--stats`` without a value, as it may be abbreviated.
STATS = ("--stat", "--stats")


class DumpCommand(PostgresCommand):
    """Lets ``--stats`` stand without a value, as pg_waldump does."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, ["--stats=rmgr" if a in STATS else a for a in args])


def parse_rmgr(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> list[int]:
    from walstream.wal.layout import RM_MIN_CUSTOM_ID, RMGR_NAMES

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


def parse_position(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    from walstream.wal.model import parse_lsn

    if value is None:
        return None
    try:
        return parse_lsn(value)
    except ValueError:
        raise click.BadParameter(f'invalid WAL location: "{value}"') from None


def parse_relation(
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


def find_directory(path: Path | None, name: str | None) -> Path:
    """Returns the directory that has WAL file ``name`` (or any), as pg_waldump looks for it.

    Below ``path`` also ``pg_wal`` and ``wal`` (of a store); without a path the current directory
    and $PGDATA.
    """
    from walstream.errors import NoWalFound, ReadError
    from walstream.segments.names import parse_segment_name

    roots = [path] if path is not None else [Path()]
    if path is None and "PGDATA" in os.environ:
        roots.append(Path(os.environ["PGDATA"]))
    for root in roots:
        for candidate in (root, root / "pg_wal", root / "wal"):
            if not candidate.is_dir():
                continue
            if name is not None:
                if (candidate / name).exists():
                    return candidate
            elif any(parse_segment_name(entry.name) for entry in candidate.iterdir()):
                return candidate
    if path is not None and path.is_file():
        raise NoWalFound(f"{path} is no WAL segment, directory or tar archive", str(path))
    if path is not None and not path.is_dir():
        raise ReadError(f'could not open directory "{path}"', str(path))
    if name is not None:
        raise NoWalFound(f'could not locate WAL file "{name}"', name)
    raise NoWalFound(
        f"could not find any WAL file in {path or 'the current directory'}", str(path or ".")
    )


def open_source(
    path: Path | None, segments: tuple[str, ...], timeline: int | None, reading: Reading
) -> SegmentSource:
    """Opens what the arguments name and sets the range that they mean.

    Raises:
        NoWalFound: nothing is there.
        ReadError: it cannot be read.
        click.UsageError: the arguments contradict one another.
    """
    from walstream.segments.files import DirectoryFiles, TarFiles, is_tar
    from walstream.segments.names import parse_segment_name
    from walstream.segments.source import SegmentSource
    from walstream.wal.model import format_lsn

    first = Path(segments[0]) if segments else None
    if first is not None and parse_segment_name(first.name) is None:
        # A directory or an archive instead of a segment.
        if path is not None or len(segments) > 1:
            raise click.UsageError(f"{first} is not a WAL segment file")
        path, first, segments = first, None, ()
    if path is not None and is_tar(path.name) and path.is_file():
        return SegmentSource(TarFiles(path), timeline)
    if first is None:
        return SegmentSource(DirectoryFiles(find_directory(path, None)), timeline)
    if path is None and first.parent != Path():
        path = first.parent
    directory = find_directory(path, first.name)
    names = [parse_segment_name(Path(segment).name) for segment in segments]
    last = names[-1]
    begin = names[0]
    if last is None or begin is None:
        raise click.UsageError(f"{segments[-1]} is not a WAL segment file")
    source = SegmentSource(DirectoryFiles(directory), timeline or last.timeline)
    size = source.segment_size
    for file in names:
        assert file is not None
        if not (directory / file.name).exists():
            raise click.UsageError(f'could not open file "{file.name}"')
    start, end = source.begin_of(begin), source.begin_of(last) + size
    if end <= start:
        raise click.UsageError(f"ENDSEG {segments[-1]} is before STARTSEG {segments[0]}")
    if reading.asked_start is None:
        reading.asked_start = reading.start_lsn = start
    elif not start <= reading.asked_start < start + size:
        raise click.UsageError(
            f"start WAL location {format_lsn(reading.asked_start)} is not inside file {begin.name}"
        )
    if reading.end_lsn is None:
        reading.end_lsn = end
    elif not end - size <= reading.end_lsn <= end:
        raise click.UsageError(
            f"end WAL location {format_lsn(reading.end_lsn)} is not inside file {last.name}"
        )
    return source


def need_pyarrow() -> None:
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise click.ClickException(
            f"{error.name} is not installed: pip install 'walstream[sql]'"
        ) from error


def follower(source: SegmentSource, reading: Reading) -> Wait:
    """Returns what waits for more WAL in a directory."""
    from walstream.scanning.watch import DirectoryWatch

    watch = DirectoryWatch(Path(source.files.where()))

    def wait() -> bool:
        watch.wait(IDLE_S)
        return True

    return wait


def finish(reading: Reading, written: int, limit: int) -> None:
    """Says how it ended, and leaves with the exit code of docs/reference/exit-codes.md."""
    from walstream.cli.exit_codes import SEGMENT_MISSING, WAL_TRUNCATED
    from walstream.scanning.ending import EndKind, raise_ending
    from walstream.wal.model import format_lsn

    ending = reading.ending
    if ending is None or (limit and written >= limit):
        return
    if ending.kind is EndKind.TRUNCATED:
        say(ending.message)
        sys.exit(WAL_TRUNCATED)
    raise_ending(ending)
    if reading.first_lsn is None:
        say(f"could not find a valid record after {format_lsn(reading.start_lsn)}")
        sys.exit(SEGMENT_MISSING)
    if ending.kind is EndKind.CLEAN:
        inside = ", within a record that was not finished" if ending.inside else ""
        say(f"end of WAL at {format_lsn(ending.lsn)}{inside}")


@click.command("dump", cls=DumpCommand, context_settings=POSTGRES)
@click.argument("segments", nargs=-1, metavar="[STARTSEG [ENDSEG]] | DIRECTORY | TAR | - | DSN")
@click.option("-b", "--bkp-details", is_flag=True, help="Print block references in detail.")
@click.option("-B", "--block", type=click.IntRange(0, 0xFFFFFFFE), help="With -R: only this block.")
@click.option("-e", "--end", callback=parse_position, metavar="LSN", help="Stop there.")
@click.option("-f", "--follow", is_flag=True, help="Wait for more at the end of WAL.")
@click.option(
    "-F", "--fork", type=click.Choice(["main", "fsm", "vm", "init"]), help="Only this fork."
)
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
@click.option("-R", "--relation", callback=parse_relation, metavar="T/D/R", help="Relation file.")
@click.option("-s", "--start", callback=parse_position, metavar="LSN", help="Begin there.")
@click.option("-t", "--timeline", callback=parse_timeline, help="Timeline to read (the newest).")
@click.option("-w", "--fullpage", is_flag=True, help="Only records with a page image.")
@click.option("-x", "--xid", type=click.IntRange(0, 0xFFFFFFFF), help="Only this transaction.")
@click.option("-z", "short_stats", is_flag=True, help="Same as --stats.")
@click.option("--stats", type=click.Choice(["rmgr", "record"]), help="Statistics instead.")
@click.option("--save-fullpage", type=click.Path(path_type=Path), help="Save page images there.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "arrow", "parquet"]),
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
    from walstream.dump.sinks import Dumper, ImageSaver
    from walstream.scanning.reading import Reading
    from walstream.wal.match import RecordMatch
    from walstream.wal.model import FORK_NAMES, RelFileLocator, format_lsn
    from walstream.wal.totals import RecordTotals

    # As pg_waldump: an interrupt ends it in good order, also where a shell that put it into the
    # background had interrupts ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if form in ("arrow", "parquet"):
        need_pyarrow()
    if block is not None and relation is None:
        raise click.UsageError("option -B/--block requires option -R/--relation to be specified")
    if len(segments) > 2:
        raise click.UsageError(f'too many command-line arguments (first is "{segments[2]}")')
    if form == "parquet" and output is None:
        raise click.UsageError("--format parquet requires --output")
    stats = stats or ("rmgr" if short_stats else None)
    chosen = RecordMatch(
        rmgr,
        xid,
        None if relation is None else RelFileLocator(*relation),
        block,
        None if fork is None else FORK_NAMES[fork],
        fullpage,
    )
    limit = max(limit, 0)
    keep = not quiet and stats is None and not (form in ("arrow", "parquet") and not describe)
    keep = keep or save_fullpage is not None
    if (chosen.everything and keep) or save_fullpage is not None:
        # To print or save all of it takes longer than to read it.
        threads = 1
    totals = RecordTotals() if stats is not None and not quiet and not limit else None
    threads = threads or len(os.sched_getaffinity(0))
    reading = Reading(start, end, chosen, keep, threads, totals)
    saver = None if save_fullpage is None else ImageSaver(save_fullpage, reading)

    def notice() -> None:
        first, begin = reading.first_lsn, reading.start_lsn
        if first is None or first == begin or begin % reading.segment_size == 0:
            return
        skipped = first - begin
        text = (
            f"first record is after {format_lsn(begin)}, at {format_lsn(first)}, "
            f"skipping over {skipped} byte{'' if skipped == 1 else 's'}"
        )
        # Up to 16 it stands among the records.
        click.echo(text, err=reading.version >= 17)
        sys.stdout.flush()

    with open_output(output) as out:

        def make_sink(version: int) -> Sink:
            return sink_for(out, reading, version, quiet, stats, form, bkp_details, describe)

        live = len(segments) == 1 and _DSN.fullmatch(segments[0]) is not None
        dumper = Dumper(reading, make_sink, limit, saver, notice, follow or live)
        try:
            if live:
                stream(segments[0], reading, dumper)
            else:
                dumper.run(open_batches(segments, path, timeline, follow, reading))
        except KeyboardInterrupt:
            # As pg_waldump: what was counted has been printed; that is the end.
            return
        except BrokenPipeError:
            # Whoever read the output has seen enough.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return
    finish(reading, dumper.written, limit)


def stream(conninfo: str, reading: Reading, dumper: Dumper) -> None:
    """Follows a server until the end that was asked for, or an interrupt."""
    import trio

    from walstream.dump.live import follow_server

    try:
        trio.run(follow_server, conninfo, reading, dumper.take)
    finally:
        dumper.finish()


def open_output(output: Path | None) -> Any:
    """Returns the binary file to write to."""
    from contextlib import nullcontext

    from walstream.errors import WriteError

    if output is None:
        return nullcontext(sys.stdout.buffer)
    try:
        return output.open("wb")
    except OSError as error:
        raise WriteError(f"could not write {output}: {error.strerror}", str(output)) from error


def open_batches(
    segments: tuple[str, ...],
    path: Path | None,
    timeline: int | None,
    follow: bool,
    reading: Reading,
) -> Iterator[Batch]:
    if segments == ("-",):
        return reading.from_pipe(sys.stdin.buffer)
    source = open_source(path, segments, timeline, reading)
    return reading.from_segments(source, follower(source, reading) if follow else None)


def sink_for(
    out: Any,
    reading: Reading,
    version: int,
    quiet: bool,
    stats: str | None,
    form: str,
    details: bool,
    described: bool,
) -> Sink:
    from walstream.dump.sinks import ArrowSink, JsonSink, QuietSink, StatsSink, TextSink

    if quiet:
        return QuietSink()
    if stats is not None:
        return StatsSink(out, reading, stats == "record")
    if form == "text":
        return TextSink(out, version, details)
    if form == "json":
        return JsonSink(out, version)
    return ArrowSink(out, version, form == "parquet", described)
