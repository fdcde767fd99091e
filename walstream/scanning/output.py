"""What becomes of the records that a scanner passes: columns, sums, or what a room above makes.

A ``WalScanner`` is fed a piece of WAL and then asked for its records in one of its ways; an
``Output`` does the asking. Every thread has one of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from walstream.wal.totals import RecordTotals

if TYPE_CHECKING:
    from walstream.wal.columns import RecordColumns
    from walstream.wal.scan import WalScanner

Item = TypeVar("Item")
Item_co = TypeVar("Item_co", covariant=True)
Piece = bytes | memoryview


class Output(Protocol[Item_co]):
    """Takes records out of a scanner, a piece of WAL at a time.

    Attributes:
        keep_records, detached: what the scanner must be made with.
        sums: it gives next to nothing, however much it is asked for.
    """

    keep_records: bool
    detached: bool
    sums: bool

    def poll(self, scanner: WalScanner, piece: Piece) -> Iterator[Item_co]:
        """Yields what the piece gives that the scanner was fed; then the piece is done.

        Raises:
            WalError: the WAL is damaged; what is before that was yielded, or is kept for ``rest``.
        """

    def rest(self) -> Iterator[Item_co]:
        """Yields what was kept: called at the end of a segment, of a range, and before damage."""


MakeOutput = Callable[[bool], Output[Item]]
"""Makes an output; told whether what it gives must outlast the piece (``detached``)."""


class Batch(NamedTuple):
    """The first ``rows`` rows of ``columns``, of WAL of a major version.

    Offsets in the columns are into ``piece``, a buffer that is used again: it holds only until the
    next batch is asked for. Negative offsets are into ``columns.side``; detached columns have no
    others.
    """

    columns: RecordColumns
    rows: int
    piece: Piece
    version: int

    def record(self, row: int) -> bytes:
        """Returns the raw bytes of one record; with ``keep_records`` only."""
        at, length = self.columns.record_at[row], self.columns.total_length[row]
        if at >= 0:
            return bytes(self.piece[at : at + length])
        return self.columns.side[~at : ~at + length]


class ColumnsOutput:
    """The records as columns.

    Args:
        detached: they outlast the piece; without ``keep_records`` they have no bytes then.
        keep_records: with the bytes of the records (``Batch.record``).
    """

    sums = False

    def __init__(self, detached: bool = False, keep_records: bool = False) -> None:
        self.keep_records = keep_records
        self.detached = detached and keep_records

    def poll(self, scanner: WalScanner, piece: Piece) -> Iterator[Batch]:
        while (columns := scanner.poll_columns()) is not None:
            yield Batch(columns, columns.count, piece, scanner.version)

    def rest(self) -> Iterator[Batch]:
        return iter(())


def records_output(detached: bool) -> ColumnsOutput:
    """Makes an output of columns with the bytes of their records."""
    return ColumnsOutput(detached, keep_records=True)


class TotalsOutput:
    """The sums of the records, of all between the limits: a match says nothing here."""

    keep_records = detached = False
    sums = True

    def __init__(self, _detached: bool = False) -> None:
        self.totals = RecordTotals()

    def poll(self, scanner: WalScanner, _piece: Piece) -> Iterator[RecordTotals]:
        scanner.add_totals(self.totals)
        return iter(())

    def rest(self) -> Iterator[RecordTotals]:
        totals = self.totals
        if totals.records:
            self.totals = RecordTotals()
            yield totals
