"""Scans ranges of WAL in threads, and knows when what they found joins to one pass.

WAL is split into ranges that threads scan at the same time. A range counts only when it is sound
and its first record is the one that was found, and checked, behind the last before it: so every
link and every CRC is checked as in one pass. Any other range is read again in one pass, which finds
out what there is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, NamedTuple

from walstream.errors import StorageError, WalError
from walstream.scanning.output import Item, MakeOutput
from walstream.scanning.tail import Position, is_wal_page
from walstream.segments.files import DirectoryFiles
from walstream.segments.header import read_page_header
from walstream.segments.source import PIECE, SegmentSource
from walstream.wal.layout import XLOG_BLCKSZ
from walstream.wal.match import RecordMatch
from walstream.wal.scan import WalScanner

# What a thread scans at a time, if a segment is not less: large beside a piece, small enough to be
# kept until its turn.
RANGE = 16 << 20
# Of larger compressed segments what was found would take too much memory until its turn.
LARGE = 64 << 20


class LsnRange(NamedTuple):
    """Records that start in ``[start_lsn, end_lsn)``."""

    start_lsn: int
    end_lsn: int


class ScannedRange(NamedTuple, Generic[Item]):
    """What a sound range gave, and how it joins to its neighbours.

    ``first_lsn`` is its first record, 0 for none; ``next_lsn`` the first one behind it.
    ``first_timeline`` and ``timeline`` are those of its first and last page.
    """

    first_lsn: int
    next_lsn: int
    items: list[Item]
    version: int
    first_timeline: int
    timeline: int
    system_identifier: int

    def joins(self, at: Position) -> bool:
        """Returns whether it begins where reading ended: with that record, of the same WAL."""
        if at.find:
            return self.first_lsn != 0
        return (
            self.first_lsn == at.lsn
            and self.version == at.version
            and self.first_timeline >= at.timeline
            and (
                0 in (at.system_identifier, self.system_identifier)
                or self.system_identifier == at.system_identifier
            )
        )

    def end(self, at: Position) -> Position:
        """Returns where reading ends when it counts, that began at ``at``."""
        return Position(
            self.next_lsn,
            version=self.version,
            system_identifier=at.system_identifier or self.system_identifier,
            timeline=self.timeline,
        )


def split(source: SegmentSource, start_lsn: int, end_lsn: int | None, sums: bool) -> list[LsnRange]:
    """Returns the ranges from ``start_lsn`` up to a gap that threads may scan; none if unwise.

    They end where ranges of their size do everywhere; what is behind the last is less than one.

    Args:
        source: where the segments are.
        start_lsn, end_lsn: what is wanted.
        sums: next to nothing is kept of a range until its turn.
    """
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
    step = min(size, RANGE)
    if not plain and size > step:
        # Each range would have to unpack all that is before it in its file.
        if size > LARGE and not sums:
            return []
        step = size
    end = number * size if end_lsn is None else min(number * size, end_lsn)
    ranges = []
    while (after := start_lsn // step * step + step) <= end:
        ranges.append(LsnRange(start_lsn, after))
        start_lsn = after
    return ranges


class RangeScanner(Generic[Item]):
    """Scans one range after the other, with one scanner; each thread has its own.

    Args:
        source: where the segments are.
        match: which records are wanted.
        make_output: makes what takes them.
        system_identifier: the cluster's, 0 where it is not known.
    """

    def __init__(
        self,
        source: SegmentSource,
        match: RecordMatch,
        make_output: MakeOutput[Item],
        system_identifier: int,
    ) -> None:
        self._source = source
        self._match = match
        self._output = make_output(True)
        self._start = Position(0, find=True, system_identifier=system_identifier)
        self._scanner = self._new_scanner()
        self._buffer = memoryview(bytearray(PIECE))

    def _new_scanner(self) -> WalScanner:
        output = self._output
        size = self._source.segment_size
        return self._start.scanner(size, output.keep_records, output.detached)

    def _pieces(self, lsn: int) -> Iterator[memoryview]:
        """Yields WAL from ``lsn`` on, as far as there is any; the buffer is used again."""
        size = self._source.segment_size
        while (file := self._source.find(lsn // size)) is not None:
            self._scanner.last_timeline = file.timeline
            for piece in self._source.pieces(file, lsn % size, size, self._buffer):
                lsn += len(piece)
                yield piece
            if lsn % size:
                return

    def scan(self, wanted: LsnRange) -> ScannedRange[Item] | None:
        """Returns what a range gives; None where anything about it is not as it should be."""
        scanner = self._scanner
        output = self._output
        lsn = wanted.start_lsn - wanted.start_lsn % XLOG_BLCKSZ
        scanner.seek(lsn, find_record=True)
        scanner.choose(self._match, wanted.start_lsn, wanted.end_lsn)
        items: list[Item] = []
        first_timeline = 0
        try:
            for piece in self._pieces(lsn):
                if not first_timeline:
                    header = read_page_header(piece)
                    if header is None or not is_wal_page(piece, 0, lsn):
                        return None
                    first_timeline = header.timeline
                scanner.feed_bytes(scanner.feed_lsn, piece)
                items += output.poll(scanner, piece)
                if scanner.next_lsn:
                    items += output.rest()
                    return ScannedRange(
                        scanner.first_lsn,
                        scanner.next_lsn,
                        items,
                        scanner.version,
                        first_timeline,
                        scanner.timeline,
                        scanner.system_identifier,
                    )
                if scanner.end_of_wal is not None:
                    break
        except (WalError, StorageError):
            pass
        # Nothing of it is to come with the next, nor what it said of itself to be expected there.
        items += output.rest()
        self._scanner = self._new_scanner()
        return None


def range_scan_starter(
    source: SegmentSource,
    match: RecordMatch,
    make_output: MakeOutput[Item],
    system_identifier: int,
) -> Callable[[], Callable[[LsnRange], ScannedRange[Item] | None]]:
    """Returns what each thread calls once for what scans its ranges."""
    return lambda: RangeScanner(source, match, make_output, system_identifier).scan
