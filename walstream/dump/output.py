"""Lines about records, written where the scanner stands: no record is read for its line again."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from walstream.scanning.output import Batch, Piece

if TYPE_CHECKING:
    from walstream.dump.lines import RecordWriter
    from walstream.wal.scan import WalScanner

MakeWriter = Callable[[int], "RecordWriter"]
"""Makes what writes about records of a major version."""


class Lines(NamedTuple):
    """What was written about ``rows`` records; ``ends[n]`` is where that of the first ``n`` ends.

    ``text`` is used again: it holds only until the next are asked for, if they were not to outlast
    their piece. ``batch`` has the records themselves, where they were wanted.
    """

    text: bytes | memoryview
    rows: int
    ends: array[int]
    batch: Batch | None


class LinesOutput:
    """Writes about the records.

    Args:
        make_writer: makes what does it, when the version is known; it brings much code along.
        with_batch: collect the records as well, with their bytes.
        detached: the lines outlast the piece; the bytes of the records do not.
    """

    detached = sums = False

    def __init__(self, make_writer: MakeWriter, with_batch: bool, detached: bool) -> None:
        self.keep_records = with_batch
        self._make_writer = make_writer
        self._outlast = detached
        self._writer: RecordWriter | None = None

    def poll(self, scanner: WalScanner, piece: Piece) -> Iterator[Lines]:
        while scanner.next_record():
            if self._writer is None:
                self._writer = self._make_writer(scanner.version)
            writer = self._writer
            count = writer.write_from(scanner, self.keep_records)
            text = memoryview(writer.text.store)[: writer.text.used]
            batch = None
            if self.keep_records:
                batch = Batch(scanner.take(), count, piece, scanner.version)
            yield Lines(
                bytes(text) if self._outlast else text, count, writer.take_ends(count), batch
            )

    def rest(self) -> Iterator[Lines]:
        return iter(())
