"""What all passes over WAL have in common: what is wanted, what was seen, and how it ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic

from walstream.scanning.ending import Ending, EndKind
from walstream.scanning.output import Item, MakeOutput, Output, Piece
from walstream.scanning.tail import Position, out_of_bytes
from walstream.scanning.wal_range import ALL_WAL, WalRange
from walstream.wal.match import RecordMatch
from walstream.wal.scan import WalScanner
from walstream.wal.segment import DEFAULT_SEGMENT_SIZE


class Scan(Generic[Item]):
    """One pass over WAL.

    Args:
        make_output: makes what takes the records.
        wal_range: what to read; a record is read when its last byte is before the end.
        match: which records are wanted, None for all.
        on_first: called when the first record was read, wanted or not.

    Attributes:
        start_lsn: where reading begins.
        first_lsn: start of the first record at or after ``start_lsn``, None before it was read.
        version: major version of the WAL, 0 before the first page.
        timeline, system_identifier: of the last page that was read.
        ending: None until all was read.
    """

    def __init__(
        self,
        make_output: MakeOutput[Item],
        wal_range: WalRange = ALL_WAL,
        match: RecordMatch | None = None,
        on_first: Callable[[], None] | None = None,
    ) -> None:
        self.make_output = make_output
        self.asked_start, self.end_lsn = wal_range
        self.start_lsn = self.asked_start or 0
        self.match = match or RecordMatch()
        self.segment_size = DEFAULT_SEGMENT_SIZE
        self.first_lsn: int | None = None
        self.ending: Ending | None = None
        self.scanner: WalScanner | None = None
        # Where reading goes on when there is no scanner.
        self.at = Position(0, find=True)
        self._output: Output[Item] | None = None
        self._on_first = on_first

    @property
    def version(self) -> int:
        return (self.scanner or self.at).version

    @property
    def timeline(self) -> int:
        return (self.scanner or self.at).timeline

    @property
    def system_identifier(self) -> int:
        return (self.scanner or self.at).system_identifier

    @property
    def feed_lsn(self) -> int:
        """How far WAL was read."""
        return self.at.lsn if self.scanner is None else self.scanner.feed_lsn

    @property
    def output(self) -> Output[Item]:
        """What takes the records that are read here, not in other threads."""
        if self._output is None:
            self._output = self.make_output(False)
        return self._output

    def begin(self, limit_lsn: int | None = None) -> WalScanner:
        """Makes the scanner that goes on at ``at``; to the first record at ``limit_lsn`` only."""
        output = self.output
        scanner = self.at.scanner(self.segment_size, output.keep_records, output.detached)
        scanner.choose(self.match, self.start_lsn, limit_lsn)
        self.scanner = scanner
        return scanner

    def found(self, first_lsn: int) -> None:
        """Takes the first record's start, 0 where it was not found yet."""
        if self.first_lsn is None and first_lsn:
            self.first_lsn = first_lsn
            if self._on_first is not None:
                self._on_first()

    def poll(self, scanner: WalScanner, piece: Piece) -> Iterator[Item]:
        """Yields what the piece gives that was fed.

        Raises:
            WalError: the WAL is damaged here.
        """
        try:
            for item in self.output.poll(scanner, piece):
                self.found(scanner.first_lsn)
                yield item
        finally:
            self.found(scanner.first_lsn)

    def stop(self, scanner: WalScanner) -> Ending:
        """Says how it ended where there are no more bytes."""
        if self.end_lsn is not None and scanner.feed_lsn >= self.end_lsn:
            return Ending(EndKind.LIMIT, scanner.verified_end_lsn, "")
        return out_of_bytes(scanner, self.segment_size)
