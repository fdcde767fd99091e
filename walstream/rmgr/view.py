"""One record as the describing functions see it: body, block data, images, version."""

from __future__ import annotations

from walstream.errors import RecordError
from walstream.rmgr.layout import Layout, Value
from walstream.wal.layout import BKPBLOCK_HAS_IMAGE
from walstream.wal.record import RecordReader


class View:
    """A record taken apart. ``data`` is the raw record, header included."""

    def __init__(self, reader: RecordReader, data: bytes, base: int = 0) -> None:
        self.reader = reader
        self.version = reader.version
        self.data = data
        self.base = base
        at = reader.main_at - base
        self.main = data[at : at + reader.main_length]

    @classmethod
    def of(cls, data: bytes, version: int) -> View:
        """Returns the view of a raw record.

        Raises:
            RecordError: the record's headers contradict one another.
        """
        reader = RecordReader(version)
        if reader.read_bytes(data) != 0:
            raise RecordError(reader.message())
        return cls(reader, data)

    @property
    def info(self) -> int:
        return int(self.reader.info)

    @property
    def origin(self) -> int:
        return int(self.reader.origin)

    def block(self, block_id: int) -> tuple[int, ...] | None:
        """Returns ``RecordReader.block`` of the reference with that id, or None."""
        for i in range(self.reader.block_count):
            block = self.reader.block(i)
            if block[0] == block_id:
                return block
        return None

    def block_data(self, block_id: int) -> bytes | None:
        """Returns the data of a block reference, None where it has none."""
        block = self.block(block_id)
        if block is None or block[8] == 0:
            return None
        at = block[7] - self.base
        return self.data[at : at + block[8]]

    def image_note(self, block_id: int) -> str | None:
        """Returns the words for a full-page image, None where the block has none."""
        block = self.block(block_id)
        if block is None or not block[6] & BKPBLOCK_HAS_IMAGE:
            return None
        return " (full page image)" if block[14] else " (full page image, for WAL verification)"

    def unpack(self, layout: Layout) -> dict[str, Value]:
        return layout.unpack(self.main)
