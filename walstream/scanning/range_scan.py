"""Reads the records of a range of WAL from its segments, and says how it ended.

The one way through segments, for all that print, count, check or store records: in threads as far
as nothing is special (``parallel.py``), in one pass where something is. The end of WAL is told from
a truncated tail, a recycled segment, a missing segment, damage and another cluster's WAL
(``tail.py``); a directory that is being written is followed.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple

from walstream.errors import SegmentMissing, StorageError, WalError
from walstream.scanning.ending import Ending, EndKind
from walstream.scanning.output import Item, MakeOutput
from walstream.scanning.parallel import LsnRange, range_scan_starter, split
from walstream.scanning.scan import Scan
from walstream.scanning.tail import (
    Position,
    damage_kind,
    may_be_unwritten,
    missing,
    position_of,
    stopped,
    tail_of,
)
from walstream.scanning.threads import in_order
from walstream.scanning.wal_range import ALL_WAL, WalRange
from walstream.segments.source import PIECE, SegmentSource
from walstream.wal.layout import XLOG_BLCKSZ
from walstream.wal.match import RecordMatch
from walstream.wal.model import format_lsn
from walstream.wal.scan import WalScanner

# How long damage at the end of WAL may last while following, before it is believed.
SETTLE_S = 5.0

Wait = Callable[[], bool]
"""Called when there is no more WAL: waits a little, returns whether to look again."""


def default_threads() -> int:
    """Returns how many threads scan at most: the processors that this process may use."""
    return len(os.sched_getaffinity(0))


class LostRange(NamedTuple):
    """WAL ``[start_lsn, end_lsn)`` between two good records that has none, and why."""

    start_lsn: int
    end_lsn: int
    kind: EndKind
    error: WalError


class _Loss(NamedTuple):
    """Where the last good record was when something went wrong."""

    at: Position
    kind: EndKind
    error: WalError


class RangeScan(Scan[Item]):
    """One pass over WAL in segments; iterate ``items`` once, then look at ``ending``.

    Args:
        source: where the segments are.
        make_output, wal_range, match, on_first: as of ``Scan``.
        threads: how many may scan at the same time.
        beyond: read also the record that begins before the end of the range and goes on beyond it;
            the end is one of records then, not of bytes.
        resync: go on behind damage and missing segments, and note what was ``lost``.
        system_identifier: the cluster's, 0 to take that of the first segment.

    Attributes:
        lost: with ``resync`` what could not be read between good records, in order.
    """

    def __init__(
        self,
        source: SegmentSource,
        make_output: MakeOutput[Item],
        wal_range: WalRange = ALL_WAL,
        match: RecordMatch | None = None,
        on_first: Callable[[], None] | None = None,
        *,
        threads: int = 1,
        beyond: bool = False,
        resync: bool = False,
        system_identifier: int = 0,
    ) -> None:
        super().__init__(make_output, wal_range, match, on_first)
        self.source = source
        self.threads = threads
        self.beyond = beyond
        self.resync = resync
        self.segment_size = source.segment_size
        if self.asked_start is None:
            self.start_lsn = source.first_number() * source.segment_size
        # The record under way at the start is found by way of its page's header.
        start = self.start_lsn - self.start_lsn % XLOG_BLCKSZ
        self.at = Position(start, find=True, system_identifier=system_identifier)
        self.lost: list[LostRange] = []
        self._loss: _Loss | None = None
        self._limit: int | None = None
        self._buffer = memoryview(bytearray(PIECE))

    def items(self, wait: Wait | None = None) -> Generator[Item, None, None]:
        """Yields what the output makes of the records, in order.

        ``wait`` makes it follow: at the end of WAL it is called, and while it returns True the
        source is looked at again.

        Raises:
            StorageError: a file cannot be read.
        """
        if self.threads == 1 or wait is not None:
            yield from self._one_pass(None, wait)
            return
        while self.ending is None:
            start = max(self.at.lsn, self.start_lsn)
            ranges = split(self.source, start, self.end_lsn, self.output.sums)
            if len(ranges) > 1:
                yield from self._in_threads(ranges)
            else:
                # Behind a gap threads go on.
                yield from self._one_pass(self._behind_gap() if self.resync else None)

    def _in_threads(self, ranges: list[LsnRange]) -> Iterator[Item]:
        start = range_scan_starter(
            self.source, self.match, self.make_output, self.at.system_identifier
        )
        with contextlib.closing(in_order(self.threads, start, ranges)) as results:
            for wanted, scanned in zip(ranges, results, strict=True):
                if self.at.lsn >= wanted.end_lsn:
                    # One record covers it, or what follows a switch of segments.
                    continue
                if (
                    scanned is not None
                    and scanned.joins(self.at)
                    # Else its last record may go on beyond the end.
                    and (self.end_lsn is None or self.beyond or scanned.next_lsn <= self.end_lsn)
                ):
                    self.at = scanned.end(self.at)
                    self.found(scanned.first_lsn)
                    yield from scanned.items
                    continue
                yield from self._one_pass(wanted.end_lsn)
                if self.ending is not None:
                    return

    def _behind_gap(self) -> int | None:
        """Returns where the first segment behind a gap begins, None where there is none."""
        size = self.segment_size
        before = self.at.lsn // size
        for number in self.source.numbers():
            if number > before + 1:
                return number * size
            before = max(before, number)
        return None

    def _one_pass(self, limit_lsn: int | None, wait: Wait | None = None) -> Iterator[Item]:
        """Reads on from ``at``: up to the first record at the limit, else ``ending`` says where."""
        self._limit = limit_lsn
        if self.beyond and self.end_lsn is not None:
            self._limit = self.end_lsn if limit_lsn is None else min(limit_lsn, self.end_lsn)
        scanner = self.begin(self._limit)
        # What is lowest here may be what is damaged.
        scanner.first_timeline = 1
        lsn = self.at.lsn
        damaged_since = None
        while True:
            ending = None
            try:
                yield from self._segments(scanner, lsn, wait is not None)
            except WalError as error:
                ending = self._tail(error, scanner, wait is None)
            except StorageError as error:
                self.ending = Ending(EndKind.DAMAGED, scanner.verified_end_lsn, str(error))
                yield from self.output.rest()
                raise
            yield from self.output.rest()
            if ending is None and scanner.next_lsn:
                self._stop_at(scanner)
                return
            if ending is None:
                ending = self.ending or self._no_more(scanner)
            self.ending = ending
            if wait is None:
                return
            if ending.kind is EndKind.DAMAGED:
                # The last page that a server wrote may hold part of a record that it is still
                # putting together: such damage goes away by itself.
                now = time.monotonic()
                if damaged_since is None or damaged_since[0] != ending.lsn:
                    damaged_since = (ending.lsn, now)
                if now - damaged_since[1] > SETTLE_S:
                    return
            elif ending.kind not in (EndKind.CLEAN, EndKind.TRUNCATED):
                return
            if not wait():
                return
            # Once more from behind the last good record; a page is the least that can be told.
            lsn = scanner.verified_end_lsn
            self.ending = None
            found = self.first_lsn is not None
            if not found:
                lsn -= lsn % XLOG_BLCKSZ
            scanner.seek(lsn, find_record=not found)
            self.source.refresh()

    def _stop_at(self, scanner: WalScanner) -> None:
        """Ends a pass at the first record that is not before its limit."""
        self.at = Position(
            scanner.next_lsn,
            version=scanner.version,
            system_identifier=scanner.system_identifier,
            timeline=scanner.timeline,
        )
        self.scanner = None
        if self.beyond and self.end_lsn is not None and self.at.lsn >= self.end_lsn:
            self.ending = Ending(EndKind.LIMIT, self.at.lsn, "")

    def _segments(self, scanner: WalScanner, lsn: int, following: bool) -> Iterator[Item]:
        """Reads segments from ``lsn`` on, until enough was read or no more can be."""
        source = self.source
        size = self.segment_size
        while not self._enough(scanner, lsn):
            number = lsn // size
            file = source.find(number)
            if file is None:
                lsn = self._behind_missing(scanner, number)
                if lsn == 0:
                    return
                continue
            scanner.last_timeline = file.timeline
            begin = number * size
            end = size
            if self.end_lsn is not None and begin <= lsn < self.end_lsn:
                end = min(size, self.end_lsn - begin)
            for piece in source.pieces(file, lsn - begin, end, self._buffer):
                scanner.feed_bytes(lsn, piece)
                lsn += len(piece)
                yield from self._poll(scanner, piece)
                if scanner.next_lsn or (following and scanner.end_of_wal is not None):
                    return
            if lsn < begin + end:
                # The file is shorter than a segment.
                lsn = self._behind_short_file(scanner, lsn, following)
                if lsn == 0:
                    return
            yield from self.output.rest()

    def _enough(self, scanner: WalScanner, lsn: int) -> bool:
        """Returns whether all that is wanted was read, if ``lsn`` comes next."""
        if self.end_lsn is None or lsn < self.end_lsn:
            return False
        if not self.beyond or scanner.end_of_wal is not None:
            return True
        return scanner.pending_lsn is None or scanner.pending_lsn >= self.end_lsn

    def _poll(self, scanner: WalScanner, piece: memoryview) -> Iterator[Item]:
        """Yields what the piece gives that was fed; with ``resync`` also what is behind damage."""
        while True:
            try:
                yield from self.poll(scanner, piece)
            except WalError as error:
                self._goes_on(scanner)
                if not self.resync:
                    raise
                self._lose(scanner, damage_kind(error, self.segment_size), error)
                scanner.resync()
                # Anew, so that it tells the first record behind the damage.
                scanner.choose(self.match, self.start_lsn, self._limit)
            else:
                self._goes_on(scanner)
                return

    def _lose(self, scanner: WalScanner, kind: EndKind, error: WalError) -> None:
        """Notes that something is wrong behind the last good record."""
        if self._loss is None:
            self._loss = _Loss(position_of(scanner, self.first_lsn is None), kind, error)

    def _goes_on(self, scanner: WalScanner) -> None:
        """Notes what was lost when a good record was found behind it."""
        end = scanner.first_lsn or scanner.next_lsn
        if self._loss is not None and end:
            loss, self._loss = self._loss, None
            self.lost.append(LostRange(loss.at.lsn, end, loss.kind, loss.error))

    def _behind_missing(self, scanner: WalScanner, number: int) -> int:
        """Returns where to go on behind a missing segment; 0: nowhere, or ``ending`` says why."""
        if not self.resync:
            self.ending = self._no_segment(scanner, number)
            return 0
        later = next((each for each in self.source.numbers() if each > number), None)
        if later is None:
            return 0
        size = self.segment_size
        names = self.source.name_of(number)
        if later > number + 1:
            names += f" to {self.source.name_of(later - 1)}"
        begin, end = format_lsn(number * size), format_lsn(later * size)
        message = f"missing: segment {names}, WAL {begin} to {end}"
        self._lose(scanner, EndKind.MISSING, SegmentMissing(message, number * size))
        return self._seek(scanner, later * size)

    def _behind_short_file(self, scanner: WalScanner, lsn: int, following: bool) -> int:
        """Returns where to go on behind a file that ends early; 0: nowhere, see ``ending``."""
        if following:
            return 0
        ending = stopped(self.source, scanner, lsn)
        if not self.resync:
            self.ending = ending
            return 0
        if ending.kind is not EndKind.DAMAGED:
            return 0
        self._lose(scanner, EndKind.TRUNCATED, WalError(ending.message, ending.lsn))
        return self._seek(scanner, lsn - lsn % self.segment_size + self.segment_size)

    def _seek(self, scanner: WalScanner, lsn: int) -> int:
        scanner.seek(lsn, find_record=True)
        scanner.choose(self.match, self.start_lsn, self._limit)
        return lsn

    def _no_segment(self, scanner: WalScanner, number: int) -> Ending | None:
        if self.end_lsn is not None and not self.beyond and scanner.end_of_wal is None:
            return missing(self.source, scanner, number)
        ending = stopped(self.source, scanner, number * self.segment_size)
        return ending if ending.kind is EndKind.MISSING else None

    def _tail(self, error: WalError, scanner: WalScanner, whole: bool) -> Ending:
        """Tells the end of WAL from damage."""
        if may_be_unwritten(error, self.segment_size):
            return tail_of(self.source, position_of(scanner, self.first_lsn is None), whole)
        kind = damage_kind(error, self.segment_size)
        return Ending(kind, scanner.verified_end_lsn, str(error))

    def _no_more(self, scanner: WalScanner) -> Ending:
        """Says how it ended where there are no more bytes."""
        if self._enough(scanner, scanner.feed_lsn):
            return Ending(EndKind.LIMIT, scanner.verified_end_lsn, "")
        if self._loss is not None:
            return tail_of(self.source, self._loss.at)
        if self.resync:
            return tail_of(self.source, position_of(scanner, self.first_lsn is None))
        return self.stop(scanner)
