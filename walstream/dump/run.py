"""One dump: from what was asked for to the last line written."""

from __future__ import annotations

import re
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from walstream.dump.formats import FORMATS, SinkOptions
from walstream.dump.inputs import follower, open_segments
from walstream.dump.output import LinesOutput, MakeWriter
from walstream.dump.sinks import Dumper, ImageSaver, QuietSink, Sink, StatsSink
from walstream.errors import WriteError
from walstream.scanning.ending import Ending
from walstream.scanning.output import ColumnsOutput, MakeOutput, TotalsOutput, records_output
from walstream.scanning.range_scan import RangeScan, default_threads
from walstream.scanning.scan import Scan
from walstream.scanning.stream_scan import StreamScan
from walstream.scanning.wal_range import WalRange
from walstream.wal.match import RecordMatch
from walstream.wal.model import format_lsn

_DSN = re.compile(r"postgres(?:ql)?://.*|\w+\s*=.*", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class DumpRequest:
    """What to dump, and how; see ``walstream dump --help``.

    ``segments`` is what stands on the command line: files, a directory, ``-`` or a conninfo.
    ``stats`` (rmgr or record) counts instead of printing. ``limit`` 0: none.
    """

    segments: tuple[str, ...]
    path: Path | None
    timeline: int | None
    follow: bool
    wal_range: WalRange
    match: RecordMatch
    threads: int | None
    limit: int
    quiet: bool
    stats: str | None
    form: str
    options: SinkOptions
    save_fullpage: Path | None
    output: Path | None

    @property
    def live(self) -> bool:
        """Whether WAL comes from a server."""
        return len(self.segments) == 1 and _DSN.fullmatch(self.segments[0]) is not None

    @property
    def writer(self) -> MakeWriter | None:
        """What makes the writer of lines, None where columns are enough."""
        printed = not self.quiet and self.stats is None
        return FORMATS[self.form].writer(self.options) if printed else None


@dataclass(frozen=True, slots=True)
class Dumped:
    """How a dump ended; ``ending`` is None where no more was wanted."""

    ending: Ending | None
    start_lsn: int
    first_lsn: int | None


def make_output(request: DumpRequest) -> MakeOutput[Any]:
    """Returns what makes the outputs that the sink of a dump wants."""
    # Sums are of all records, also of those that are not wanted.
    counted = request.stats is not None and request.match.everything
    if (request.quiet or counted) and request.save_fullpage is None and not request.limit:
        return TotalsOutput
    saves = request.save_fullpage is not None
    if request.writer is not None:
        return partial(LinesOutput, request.writer, saves or FORMATS[request.form].columns)
    return records_output if saves else ColumnsOutput


def threads_of(request: DumpRequest) -> int:
    """Returns how many threads read."""
    if (request.match.everything and request.writer) or request.save_fullpage is not None:
        # To print or save all of it takes longer than to read it.
        return 1
    return request.threads or default_threads()


def make_sink(request: DumpRequest, out: IO[bytes], scan: Scan[Any]) -> Sink:
    """Returns what takes the records."""
    if request.quiet:
        return QuietSink()
    if request.stats is not None:
        return StatsSink(out, scan, request.stats == "record")
    return FORMATS[request.form].make_sink(out, request.options)


def run_dump(request: DumpRequest) -> Dumped:
    """Writes the records that were asked for.

    Raises:
        NoWalFound, ReadError, WriteError: of the files.
        ConfigError: the arguments contradict one another.
        KeyboardInterrupt: after what was counted has been printed.
    """
    with open_output(request.output) as out:
        # Who follows wants every record at once; a table stands at the end.
        printing = not request.quiet and request.stats is None
        flush = printing and (request.follow or request.live) and FORMATS[request.form].flushes
        source = None
        scan: Scan[Any]
        if request.live or request.segments == ("-",):
            scan = stream = StreamScan(
                make_output(request), request.wal_range, request.match, lambda: notice_skipped(scan)
            )
        else:
            source, wal_range = open_segments(
                request.path, request.segments, request.timeline, request.wal_range
            )
            scan = segments = RangeScan(
                source,
                make_output(request),
                wal_range,
                request.match,
                lambda: notice_skipped(scan),
                threads=threads_of(request),
            )
        saver = None if request.save_fullpage is None else ImageSaver(request.save_fullpage)
        dumper = Dumper(scan, lambda: make_sink(request, out, scan), request.limit, saver, flush)
        if request.live:
            follow(request.segments[0], stream, dumper)
        elif source is None:
            dumper.run(stream.from_pipe(sys.stdin.buffer))
        else:
            dumper.run(segments.items(follower(source) if request.follow else None))
    enough = request.limit and dumper.written >= request.limit
    return Dumped(None if enough else scan.ending, scan.start_lsn, scan.first_lsn)


def notice_skipped(scan: Scan[Any]) -> None:
    """Says as pg_waldump does that the first record is not where reading began."""
    first, begin = scan.first_lsn, scan.start_lsn
    if first is None or first == begin or begin % scan.segment_size == 0:
        return
    skipped = first - begin
    text = (
        f"first record is after {format_lsn(begin)}, at {format_lsn(first)}, "
        f"skipping over {skipped} byte{'' if skipped == 1 else 's'}"
    )
    # Up to 16 it stands among the records.
    print(text, file=sys.stderr if scan.version >= 17 else sys.stdout, flush=True)


def follow(conninfo: str, scan: StreamScan[Any], dumper: Dumper) -> None:
    """Follows a server until the end that was asked for, or an interrupt."""
    import trio

    from walstream.dump.live import follow_server

    try:
        trio.run(follow_server, conninfo, scan, dumper.take)
    finally:
        dumper.finish()


def open_output(output: Path | None) -> AbstractContextManager[IO[bytes]]:
    """Returns the binary file to write to.

    Raises:
        WriteError: it cannot be opened.
    """
    if output is None:
        return nullcontext(sys.stdout.buffer)
    try:
        return output.open("wb")
    except OSError as error:
        raise WriteError(f"could not write {output}: {error.strerror}", str(output)) from error
