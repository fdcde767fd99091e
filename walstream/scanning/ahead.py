"""Reads WAL ahead in threads as long as nothing is special about it.

WAL is cut into stretches that threads scan at the same time. A stretch counts when its first
record is the one that the scan of the stretch before it found, and checked, behind its own: so
every link and every CRC is checked as in one pass. At the first stretch that is not whole and
sound it is over: whoever reads on from ``next_lsn`` in one pass finds out what there is, and how
it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple

from walstream.errors import StorageError, WalError
from walstream.scanning.threads import in_order
from walstream.segments.files import DirectoryFiles
from walstream.segments.source import PIECE, SegmentSource
from walstream.wal.columns import RecordColumns
from walstream.wal.match import RecordMatch
from walstream.wal.scan import WalScanner
from walstream.wal.totals import RecordTotals

# What a thread reads at a time: large beside a piece, small enough to be kept until its turn.
STRETCH = 16 << 20
PAGE = 8192


class Stretch(NamedTuple):
    """Records that start in ``[start_lsn, end_lsn)``."""

    start_lsn: int
    end_lsn: int


class Part(NamedTuple):
    """What a sound stretch gave: its records, and what they say about their surroundings."""

    first_lsn: int
    next_lsn: int
    batches: list[RecordColumns]
    sums: RecordTotals | None
    version: int
    timeline: int
    system_identifier: int


def plan(source: SegmentSource, start_lsn: int, end_lsn: int | None) -> list[Stretch]:
    """Returns the stretches from ``start_lsn`` on that threads may read, none if that is unwise."""
    size = source.segment_size
    if not isinstance(source.files, DirectoryFiles):
        return []
    number = start_lsn // size
    plain = True
    while (file := source.find(number)) is not None and (
        end_lsn is None or number * size < end_lsn
    ):
        plain = plain and not file.compression
        number += 1
    if not plain and size > STRETCH:
        # Each stretch would have to unpack all that is before it in its file.
        return []
    end = number * size if end_lsn is None else min(number * size, end_lsn)
    stretches = []
    while start_lsn // STRETCH * STRETCH + STRETCH <= end:
        after = start_lsn // STRETCH * STRETCH + STRETCH
        stretches.append(Stretch(start_lsn, after))
        start_lsn = after
    return stretches


def reader(
    source: SegmentSource, match: RecordMatch, detached: bool, summing: bool
) -> Callable[[Stretch], Part | None]:
    """Returns what reads one stretch after the other in one thread; None for one not sound."""
    size = source.segment_size
    scanner = WalScanner(None, size, 0, find_record=True, timeline=1, detached=detached)
    buffer = memoryview(bytearray(PIECE))

    def pieces(lsn: int) -> Iterator[memoryview]:
        while (file := source.find(lsn // size)) is not None:
            scanner.last_timeline = file.timeline
            for piece in source.pieces(file, lsn % size, size, buffer):
                lsn += len(piece)
                yield piece
            if lsn % size:
                return

    def read(stretch: Stretch) -> Part | None:
        lsn = stretch.start_lsn - stretch.start_lsn % PAGE
        scanner.seek(lsn, find_record=True)
        scanner.choose(match, stretch.start_lsn, stretch.end_lsn)
        batches = []
        sums = RecordTotals() if summing else None
        try:
            for piece in pieces(lsn):
                scanner.feed_bytes(scanner.feed_lsn, piece)
                if sums is not None:
                    scanner.add_totals(sums)
                else:
                    while (columns := scanner.poll_columns()) is not None:
                        batches.append(columns)
                if scanner.next_lsn:
                    return Part(
                        scanner.first_lsn,
                        scanner.next_lsn,
                        batches,
                        sums,
                        scanner.version,
                        scanner.timeline,
                        scanner.system_identifier,
                    )
                if scanner.end_of_wal is not None:
                    return None
        except (WalError, StorageError):
            return None
        return None

    return read


class ReadAhead:
    """The sound beginning of some WAL; iterate ``parts`` once.

    Args:
        source, match, threads: what to read, what of it, and how many read.
        detached: give the bytes of records, too.
        summing: give sums as of ``WalScanner.add_totals`` instead of records.

    Attributes:
        first_lsn: the first record at ``start_lsn`` or later, 0 before it was found.
        next_lsn: where to read on; a record starts there once one was found.
        version, timeline, system_identifier: of what was read, 0 before anything was.
    """

    def __init__(
        self,
        source: SegmentSource,
        match: RecordMatch,
        threads: int,
        detached: bool,
        summing: bool = False,
    ) -> None:
        self.source = source
        self.match = match
        self.threads = threads
        self.detached = detached
        self.summing = summing
        self.first_lsn = 0
        self.next_lsn = 0
        self.version = self.timeline = self.system_identifier = 0

    def parts(self, start_lsn: int, end_lsn: int | None) -> Generator[Part, None, None]:
        """Yields what stretches gave, in order, up to the first that is not sound."""
        self.next_lsn = start_lsn
        stretches = plan(self.source, start_lsn, end_lsn)
        if len(stretches) < 2:
            return
        results = in_order(
            self.threads,
            lambda: reader(self.source, self.match, self.detached, self.summing),
            stretches,
        )
        try:
            for stretch, part in zip(stretches, results, strict=True):
                if self.next_lsn >= stretch.end_lsn:
                    # One record covers it, or what follows a switch of segments.
                    continue
                if part is None or not self._joins(part):
                    return
                if end_lsn is not None and part.next_lsn > end_lsn:
                    # Its last record may go on beyond the end.
                    return
                self.first_lsn = self.first_lsn or part.first_lsn
                self.next_lsn = part.next_lsn
                self.version = part.version
                self.timeline = part.timeline
                self.system_identifier = self.system_identifier or part.system_identifier
                yield part
        finally:
            results.close()

    def _joins(self, part: Part) -> bool:
        if self.first_lsn == 0:
            return part.first_lsn != 0
        return (
            part.first_lsn == self.next_lsn
            and part.version == self.version
            and part.timeline >= self.timeline
            and (
                0 in (self.system_identifier, part.system_identifier)
                or part.system_identifier == self.system_identifier
            )
        )
