"""Scans one segment by itself, so that what is known of it can be kept and joined later.

A record belongs to the run in which it starts; the run reads on into the next segment until that
record is whole. Whoever has several runs can prove that nothing lies between them: the first record
of a run must point back to the last of the run before (``RunEnd``). What reads all WAL in one go is
``range_scan.py``; this is for those who remember what was sound (``verify/ledger.py``), and for
segments that are judged before they are stored (``importing/``).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, NamedTuple

from walstream.errors import WalError
from walstream.scanning.tail import Position, is_wal_page
from walstream.segments.source import PIECE, SegmentSource
from walstream.wal.input import LostWal
from walstream.wal.match import RecordMatch
from walstream.wal.scan import WalScanner

if TYPE_CHECKING:
    from walstream.wal.columns import RecordColumns
    from walstream.wal.totals import RecordTotals


class Run(NamedTuple):
    """Segments ``first`` to ``last``, both included, every one there."""

    first: int
    last: int


class Batch(NamedTuple):
    """The first ``rows`` rows of ``columns``, of which ``piece`` has the bytes.

    ``piece`` is a buffer that is used again: it holds only until the next batch is asked for.
    """

    columns: RecordColumns
    rows: int
    piece: memoryview


class RunEnd(NamedTuple):
    """What is known when a run was read: enough to join it to its neighbours.

    ``first_lsn`` and ``first_prev`` are of its first record (0 for none), ``last_lsn`` and
    ``end_lsn`` of its last. ``pending_lsn`` is a record that starts in it and never ends,
    ``zeros_lsn`` where a zero length ended it, ``short`` that a file was shorter than a segment,
    ``next_lsn`` is the first record behind it, or behind what was asked for, where reading on came
    to one, else 0. ``first_timeline`` is what its first page says, 0 where that is none of WAL.
    """

    run: Run
    records: int
    first_lsn: int
    first_prev: int
    last_lsn: int
    end_lsn: int
    pending_lsn: int | None
    zeros_lsn: int | None
    short: str | None
    errors: list[WalError]
    lost: list[LostWal]
    version: int
    system_identifier: int
    timeline: int
    first_timeline: int
    next_lsn: int

    @property
    def position(self) -> Position:
        """Where its last record ends."""
        return Position(
            self.end_lsn,
            self.last_lsn,
            False,
            self.version,
            self.system_identifier,
            max(self.timeline, 1),
        )


class RunScan:
    """Reads one run; iterate ``batches`` (or ``add_totals``), then ask ``end``.

    Damage ends it like the end of WAL: it is kept for ``end``, and what it means only
    ``tail.py`` says.

    Args:
        source: where the segments are.
        run: which of them.
        start_lsn: records that start before it are left out.
        end_lsn: records that start there or later are left out.
        resync: go on behind damage and collect the errors, instead of ending at the first.
        joining: read on until the first record behind the run was seen (``join.py``).
        keep_records: as for ``WalScanner``.
        system_identifier: as for ``WalScanner``.
    """

    def __init__(
        self,
        source: SegmentSource,
        run: Run,
        *,
        start_lsn: int = 0,
        end_lsn: int | None = None,
        resync: bool = False,
        joining: bool = False,
        keep_records: bool = False,
        system_identifier: int | None = None,
    ) -> None:
        self.source = source
        self.run = run
        size = source.segment_size
        self.start_lsn = start_lsn
        limit = (run.last + 1) * size
        self.limit = limit if end_lsn is None else min(limit, end_lsn)
        self.resync = resync
        self.joining = joining
        # A record is found from the first page that it could start on.
        first = max(run.first * size, start_lsn // 8192 * 8192)
        self.scanner = WalScanner(
            None,
            size,
            first,
            find_record=True,
            keep_records=keep_records,
            system_identifier=system_identifier,
            timeline=1,
        )
        self.errors: list[WalError] = []
        self.short: str | None = None
        self.records = self.first_lsn = self.first_prev = self.last_lsn = self.end_lsn = 0
        self.first_timeline = self.next_lsn = 0
        self.buffer = memoryview(b"")
        self.done = False

    def pieces(self, number: int, lsn: int, end: int) -> Iterator[memoryview]:
        """Yields the bytes ``[lsn, end)`` of a segment; the buffer is used again."""
        file = self.source.find(number)
        assert file is not None
        if not self.buffer:
            self.buffer = memoryview(bytearray(PIECE))
        begin = number * self.source.segment_size
        self.scanner.last_timeline = file.timeline
        for piece in self.source.pieces(file, lsn - begin, end - begin, self.buffer):
            if lsn == self.run.first * self.source.segment_size and is_wal_page(piece, 0, lsn):
                self.first_timeline = int.from_bytes(piece[4:8], "little")
            lsn += len(piece)
            yield piece
        if lsn < end:
            self.short = file.name

    def fed(self) -> Generator[memoryview, None, None]:
        """Feeds the run to the scanner piece by piece; yields each for the scanner to be polled."""
        size = self.source.segment_size
        scanner = self.scanner
        for number in range(self.run.first, self.run.last + 1):
            for piece in self.pieces(number, scanner.feed_lsn, (number + 1) * size):
                scanner.feed_bytes(scanner.feed_lsn, piece)
                yield piece
                if self.done:
                    return
            if self.short is not None:
                return
        # The last record may end in a later segment; to join runs the one behind it is wanted.
        number = self.run.last + 1
        pending = scanner.pending_lsn
        while (self.joining or pending is not None) and self.source.find(number) is not None:
            for piece in self.pieces(number, scanner.feed_lsn, (number + 1) * size):
                scanner.feed_bytes(scanner.feed_lsn, piece)
                yield piece
                if self.done or (not self.joining and scanner.pending_lsn != pending):
                    return
            if self.short is not None:
                self.short = None
                return
            number += 1

    def batches(self) -> Iterator[Batch]:
        """Yields the records of the run in order.

        Raises:
            StorageError: a file cannot be read.
        """
        for piece in self.fed():
            yield from self.poll(piece)
            if self.errors and not self.resync:
                return

    def add_totals(self, totals: RecordTotals) -> None:
        """Sums the run up, as ``WalScanner.add_totals``, instead of yielding batches.

        Raises:
            StorageError: a file cannot be read.
        """
        scanner = self.scanner
        scanner.choose(RecordMatch(), self.start_lsn, self.limit)
        fed = self.fed()
        try:
            for _ in fed:
                self.done = not scanner.add_totals(totals)
        except WalError as error:
            self.errors.append(error)
            fed.close()
        self.next_lsn = scanner.next_lsn if self.done else 0
        self.first_lsn, self.last_lsn = totals.first_lsn, totals.last_lsn
        self.end_lsn, self.records = totals.end_lsn, totals.records

    def poll(self, piece: memoryview) -> Iterator[Batch]:
        """Yields what the scanner makes of the piece that was fed."""
        scanner = self.scanner
        while True:
            try:
                columns = scanner.poll_columns()
            except WalError as error:
                self.errors.append(error)
                if not self.resync:
                    return
                scanner.resync()
                continue
            if columns is None:
                return
            rows = columns.count
            if columns.start_lsn[-1] >= self.limit:
                rows = bisect_left(columns.start_lsn, self.limit)
                self.next_lsn = columns.start_lsn[rows]
                self.done = True
            if columns.start_lsn[0] < self.start_lsn:
                # Only before the first row that is wanted, so at most one page of records.
                skipped = bisect_left(columns.start_lsn, self.start_lsn)
                columns = columns.from_row(skipped)
                rows -= skipped
            if rows > 0:
                if self.records == 0:
                    self.first_lsn = columns.start_lsn[0]
                    self.first_prev = columns.prev_lsn[0]
                self.records += rows
                self.last_lsn = columns.start_lsn[rows - 1]
                self.end_lsn = columns.end_lsn[rows - 1]
                yield Batch(columns, rows, piece)
            if self.done:
                return

    def end(self) -> RunEnd:
        """Returns what was found out; after ``batches`` is exhausted."""
        scanner = self.scanner
        zeros = scanner.end_of_wal
        pending = scanner.pending_lsn
        if self.done or (pending is not None and pending >= self.limit):
            pending = None
        return RunEnd(
            self.run,
            self.records,
            self.first_lsn,
            self.first_prev,
            self.last_lsn,
            self.end_lsn,
            pending,
            None if zeros is None or self.done else zeros.lsn,
            self.short,
            self.errors,
            scanner.lost,
            scanner.version,
            scanner.system_identifier,
            scanner.timeline,
            self.first_timeline,
            self.next_lsn,
        )
