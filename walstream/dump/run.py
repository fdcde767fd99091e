"""One dump: from what was asked for to the last line written."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from walstream.dump.formats import FORMATS, SinkOptions
from walstream.dump.inputs import follower, open_segments
from walstream.dump.sinks import Dumper, ImageSaver, QuietSink, Sink, StatsSink
from walstream.errors import WriteError
from walstream.scanning.ending import Ending
from walstream.scanning.reading import Batch, Reading
from walstream.scanning.wal_range import WalRange
from walstream.wal.match import RecordMatch
from walstream.wal.model import format_lsn
from walstream.wal.totals import RecordTotals

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
    def keeps_bytes(self) -> bool:
        """Whether the bytes of records are wanted, or columns are enough."""
        if self.save_fullpage is not None:
            return True
        printed = not self.quiet and self.stats is None
        return printed and (FORMATS[self.form].needs_bytes or self.options.described)


@dataclass(frozen=True, slots=True)
class Dumped:
    """How a dump ended; ``ending`` is None where no more was wanted."""

    ending: Ending | None
    start_lsn: int
    first_lsn: int | None


def make_reading(request: DumpRequest, wal_range: WalRange) -> Reading:
    """Returns the pass over WAL that a dump needs."""
    keep = request.keeps_bytes
    threads = request.threads or len(os.sched_getaffinity(0))
    if (request.match.everything and keep) or request.save_fullpage is not None:
        # To print or save all of it takes longer than to read it.
        threads = 1
    counting = request.stats is not None and not request.quiet and not request.limit
    totals = RecordTotals() if counting else None
    return Reading(wal_range, request.match, keep, threads, totals)


def make_sink(request: DumpRequest, out: IO[bytes], reading: Reading) -> Sink:
    """Returns what takes the records, when the version of the WAL is known."""
    if request.quiet:
        return QuietSink()
    if request.stats is not None:
        return StatsSink(out, reading, request.stats == "record")
    return FORMATS[request.form].make_sink(out, reading.version, request.options)


def run_dump(request: DumpRequest) -> Dumped:
    """Writes the records that were asked for.

    Raises:
        NoWalFound, ReadError, WriteError: of the files.
        ConfigError: the arguments contradict one another.
        KeyboardInterrupt: after what was counted has been printed.
    """
    with open_output(request.output) as out:
        wal_range = request.wal_range
        source = None
        if not request.live and request.segments != ("-",):
            source, wal_range = open_segments(
                request.path, request.segments, request.timeline, wal_range
            )
        reading = make_reading(request, wal_range)
        saver = (
            None if request.save_fullpage is None else ImageSaver(request.save_fullpage, reading)
        )
        # Who follows wants every record at once; a table stands at the end.
        printing = not request.quiet and request.stats is None
        flush = printing and (request.follow or request.live) and FORMATS[request.form].flushes
        dumper = Dumper(
            reading,
            lambda: make_sink(request, out, reading),
            request.limit,
            saver,
            lambda: notice_skipped(reading),
            flush,
        )
        if request.live:
            stream(request.segments[0], reading, dumper)
        else:
            batches: Iterator[Batch]
            if source is None:
                batches = reading.from_pipe(sys.stdin.buffer)
            else:
                batches = reading.from_segments(
                    source, follower(source) if request.follow else None
                )
            dumper.run(batches)
    enough = request.limit and dumper.written >= request.limit
    return Dumped(None if enough else reading.ending, reading.start_lsn, reading.first_lsn)


def notice_skipped(reading: Reading) -> None:
    """Says as pg_waldump does that the first record is not where reading began."""
    first, begin = reading.first_lsn, reading.start_lsn
    if first is None or first == begin or begin % reading.segment_size == 0:
        return
    skipped = first - begin
    text = (
        f"first record is after {format_lsn(begin)}, at {format_lsn(first)}, "
        f"skipping over {skipped} byte{'' if skipped == 1 else 's'}"
    )
    # Up to 16 it stands among the records.
    print(text, file=sys.stderr if reading.version >= 17 else sys.stdout, flush=True)


def stream(conninfo: str, reading: Reading, dumper: Dumper) -> None:
    """Follows a server until the end that was asked for, or an interrupt."""
    import trio

    from walstream.dump.live import follow_server

    try:
        trio.run(follow_server, conninfo, reading, dumper.take)
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
