"""Reads records from a source into columns, from one LSN to another, and says how it ended.

Sits between ``source.py`` (bytes) and what prints, counts or stores records. The end of WAL is told
from a truncated tail, a recycled segment, a missing segment, damage and another cluster's WAL.
"""

from __future__ import annotations

import contextlib
import time
from array import array
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, NamedTuple

from walstream.errors import StorageError, WalError
from walstream.scanning.ahead import ReadAhead
from walstream.scanning.ending import Ending, EndKind
from walstream.scanning.tail import (
    damage_kind,
    is_wal_page,
    may_be_unwritten,
    missing,
    out_of_bytes,
    position_of,
    stopped,
    tail_of,
    unwritten_ending,
)
from walstream.scanning.wal_range import ALL_WAL, WalRange
from walstream.segments.files import CHUNK, read_some
from walstream.segments.pipe import read_pipe_head
from walstream.segments.source import PIECE, SegmentSource
from walstream.wal.columns import RecordColumns
from walstream.wal.match import RecordMatch
from walstream.wal.scan import WalScanner
from walstream.wal.segment import DEFAULT_SEGMENT_SIZE

PAGE = 8192
# How long damage at the end of WAL may last while following, before it is believed.
SETTLE_S = 5.0

_ROWS = array("I", range(1 << 13))


if TYPE_CHECKING:
    from walstream.wal.totals import RecordTotals


class Batch(NamedTuple):
    """Records in order: some ``rows`` of ``columns``.

    Offsets in the columns are into ``piece``, which holds until the next batch is asked for;
    negative ones are into ``columns.side``.
    """

    columns: RecordColumns
    rows: array[int]
    piece: bytes | memoryview

    @classmethod
    def whole(cls, columns: RecordColumns, piece: bytes | memoryview = b"") -> Batch:
        """Returns all rows of some columns."""
        rows = _ROWS[: columns.count] if columns.count <= len(_ROWS) else None
        return cls(columns, rows or array("I", range(columns.count)), piece)

    def record(self, row: int) -> bytes:
        """Returns the raw bytes of one record."""
        at, length = self.columns.record_at[row], self.columns.total_length[row]
        if at >= 0:
            return bytes(self.piece[at : at + length])
        return self.columns.side[~at : ~at + length]


Wait = Callable[[], bool]
"""Called when there is no more WAL: waits a little, returns whether to look again."""


class Reading:
    """One pass over WAL; iterate ``batches()`` once, then look at ``ending``.

    Args:
        wal_range: what to read; a record is read when its last byte is before the end.
        match: which records to give, None for all.
        keep_records: give the bytes of every record (``Batch.record``).
        threads: how many may read segments at the same time.
        totals: to add up records there, as far as that can be done without giving them.

    Attributes:
        version: major version of the WAL, 0 before the first page.
        first_lsn: start of the first record at or after ``start_lsn``, None before it was read.
        start_lsn: where reading begins.
        ending: None until ``batches`` is exhausted.
    """

    def __init__(
        self,
        wal_range: WalRange = ALL_WAL,
        match: RecordMatch | None = None,
        keep_records: bool = True,
        threads: int = 1,
        totals: RecordTotals | None = None,
    ) -> None:
        self.asked_start, self.end_lsn = wal_range
        self.start_lsn = self.asked_start or 0
        self.match = match or RecordMatch()
        self.keep_records = keep_records
        self.threads = threads
        self.totals = totals
        self.segment_size = DEFAULT_SEGMENT_SIZE
        self.first_lsn: int | None = None
        self.ending: Ending | None = None
        self.buffer = memoryview(bytearray(PIECE))
        self.scanner: WalScanner | None = None
        self.before: ReadAhead | None = None

    @property
    def version(self) -> int:
        seen = self.scanner or self.before
        return 0 if seen is None else seen.version

    @property
    def timeline(self) -> int:
        seen = self.scanner or self.before
        return 0 if seen is None else seen.timeline

    def _begin(self, lsn: int, segment_size: int) -> WalScanner:
        """Makes the scanner: from the start of a page on, or from where ``before`` ended."""
        self.segment_size = segment_size
        before = self.before
        self.scanner = WalScanner(
            before.version or None if before else None,
            segment_size,
            lsn,
            find_record=self.first_lsn is None,
            system_identifier=before.system_identifier if before else None,
            timeline=max(before.timeline, 1) if before else 1,
            keep_records=self.keep_records,
        )
        self.scanner.choose(self.match, self.start_lsn)
        return self.scanner

    def _poll(self, scanner: WalScanner, piece: bytes | memoryview) -> Iterator[Batch]:
        """Yields what the piece that was fed gives.

        Raises:
            WalError: the WAL is damaged here.
        """
        while True:
            columns, damage = None, None
            try:
                columns = scanner.poll_columns()
            except WalError as error:
                damage = error
            if self.first_lsn is None and scanner.first_lsn:
                self.first_lsn = scanner.first_lsn
                if columns is None:
                    # Nothing that is wanted yet, but reading has begun.
                    yield Batch.whole(scanner.take(), piece)
            if columns is not None:
                yield Batch.whole(columns, piece)
            if damage is not None:
                raise damage
            if columns is None:
                return

    def _stop(self, scanner: WalScanner) -> Ending:
        """Says how it ended when there are no more bytes."""
        if self.end_lsn is not None and scanner.feed_lsn >= self.end_lsn:
            return Ending(EndKind.LIMIT, scanner.verified_end_lsn, "")
        return out_of_bytes(scanner, self.segment_size)

    def from_segments(self, source: SegmentSource, wait: Wait | None = None) -> Iterator[Batch]:
        """Yields the records of a directory or archive.

        ``wait`` makes it follow: at the end of WAL it is called, and while it returns True the
        source is looked at again.
        """
        size = source.segment_size
        if self.asked_start is None:
            self.start_lsn = source.first_number() * size
        # The record under way at the start is found by way of its page's header.
        lsn = self.start_lsn - self.start_lsn % PAGE
        following = wait is not None
        if (self.threads > 1 or self.totals is not None) and not following:
            self.segment_size = size
            yield from self._ahead(source)
            if self.before is not None and self.first_lsn is not None:
                lsn = self.before.next_lsn
        scanner = self._begin(lsn, size)
        damaged_since = None
        while True:
            ending = None
            try:
                yield from self._segments(source, scanner, lsn, following)
            except WalError as error:
                ending = self._tail(error, source, scanner, not following)
            except StorageError as error:
                self.ending = Ending(EndKind.DAMAGED, scanner.verified_end_lsn, str(error))
                raise
            if ending is None:
                ending = self.ending or self._stop(scanner)
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
                lsn -= lsn % PAGE
            scanner.seek(lsn, find_record=not found)
            source.refresh()

    def _ahead(self, source: SegmentSource) -> Iterator[Batch]:
        """Yields what threads read ahead; ``before`` says where to go on."""
        summing = self.totals is not None and self.match.everything
        self.before = ReadAhead(source, self.match, self.threads, self.keep_records, summing)
        with contextlib.closing(self.before.parts(self.start_lsn, self.end_lsn)) as parts:
            for part in parts:
                self.first_lsn = self.before.first_lsn
                if self.totals is not None and part.sums is not None:
                    self.totals.add_totals(part.sums)
                for columns in part.batches:
                    yield Batch.whole(columns)

    def _tail(
        self, error: WalError, source: SegmentSource, scanner: WalScanner, whole: bool
    ) -> Ending:
        """Tells the end of WAL from damage."""
        if may_be_unwritten(error, self.segment_size):
            return tail_of(source, position_of(scanner, self.first_lsn is None), whole)
        kind = damage_kind(error, self.segment_size)
        return Ending(kind, scanner.verified_end_lsn, str(error))

    def _segments(
        self, source: SegmentSource, scanner: WalScanner, lsn: int, following: bool
    ) -> Iterator[Batch]:
        size = source.segment_size
        while self.end_lsn is None or lsn < self.end_lsn:
            number = lsn // size
            file = source.find(number)
            if file is None:
                self.ending = self._no_segment(source, scanner, number)
                return
            scanner.last_timeline = file.timeline
            begin = number * size
            end = size if self.end_lsn is None else min(size, self.end_lsn - begin)
            for piece in source.pieces(file, lsn - begin, end, self.buffer):
                scanner.feed_bytes(lsn, piece)
                lsn += len(piece)
                yield from self._poll(scanner, piece)
                if following and scanner.end_of_wal is not None:
                    return
            if lsn < begin + end:
                # The file is shorter than a segment.
                if not following:
                    self.ending = stopped(source, scanner, lsn)
                return

    def _no_segment(self, source: SegmentSource, scanner: WalScanner, number: int) -> Ending | None:
        if self.end_lsn is not None and scanner.end_of_wal is None:
            return missing(source, scanner, number)
        ending = stopped(source, scanner, number * source.segment_size)
        return ending if ending.kind is EndKind.MISSING else None

    def from_pipe(self, stream: IO[bytes]) -> Iterator[Batch]:
        """Yields the records of a stream of WAL that begins at the start of a page.

        Raises:
            WalError: it does not begin with a WAL page.
        """
        head = read_pipe_head(stream)
        if self.asked_start is None:
            self.start_lsn = head.lsn
        scanner = self._begin(head.lsn, head.segment_size or DEFAULT_SEGMENT_SIZE)
        lsn = head.lsn
        data = head.data
        try:
            while data:
                if self.end_lsn is not None:
                    data = data[: max(self.end_lsn - lsn, 0)]
                    if not data:
                        break
                scanner.feed_bytes(lsn, data)
                lsn += len(data)
                yield from self._poll(scanner, data)
                data = (
                    stream.read1(CHUNK)
                    if hasattr(stream, "read1")
                    else read_some(stream, CHUNK, "standard input")
                )
        except WalError as error:
            lsn -= len(data)
            # A pipe is not read twice: of what is there, nothing may be WAL.
            page = (error.lsn or lsn) - lsn
            if may_be_unwritten(error, self.segment_size) and not any(
                is_wal_page(data, at, lsn) for at in range(page + PAGE, len(data), PAGE)
            ):
                self.ending = unwritten_ending(scanner, error, self.first_lsn is not None)
            else:
                kind = damage_kind(error, self.segment_size)
                self.ending = Ending(kind, scanner.verified_end_lsn, str(error))
            return
        self.ending = self._stop(scanner)

    def begin(self, lsn: int, segment_size: int) -> None:
        """Makes ready for ``feed``: WAL will come from ``lsn`` on, the start of a page."""
        if self.asked_start is None:
            self.start_lsn = lsn
        self._begin(lsn, segment_size)

    def begin_at(self, newest_lsn: int, segment_size: int) -> int:
        """Makes ready for ``feed``; returns from where on it wants WAL.

        That is the start of a page, whose header says where the record under way ends: the page of
        the start that was asked for, or of ``newest_lsn``.
        """
        if self.asked_start is None:
            self.start_lsn = newest_lsn
        lsn = self.start_lsn - self.start_lsn % PAGE
        self._begin(lsn, segment_size)
        return lsn

    def feed(self, lsn: int, piece: bytes) -> Iterator[Batch]:
        """Yields the records that the next bytes of a stream give; at the end sets ``ending``.

        Raises:
            WalError: the WAL is damaged.
        """
        scanner = self.scanner
        assert scanner is not None
        if self.end_lsn is not None:
            piece = piece[: max(self.end_lsn - lsn, 0)]
        if piece:
            scanner.feed_bytes(lsn, piece)
            yield from self._poll(scanner, piece)
        if self.end_lsn is not None and scanner.feed_lsn >= self.end_lsn:
            self.ending = self._stop(scanner)
