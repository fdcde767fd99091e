"""Records of WAL as columns: what ``scan.py`` gives. Plain data, no behaviour but names."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class RecordColumns:
    """Some consecutive records and the blocks that they refer to, one array a column.

    Every array has the buffer protocol (Arrow and NumPy read it in place). Record columns have
    ``count`` entries, block columns ``block_count``.

    Record columns:
        start_lsn, end_lsn, prev_lsn (u64): as in ``RawRecord``; the end aligned to 8.
        total_length, xid (u32), rmgr, info (u8): of the record header; the operation is
            ``info & 0xF0``.
        fpi_length (u32): bytes of page images in the record, as stored.
        block_begin (u32), blocks (u8): rows ``[block_begin, block_begin + blocks)`` of the block
            columns are the record's.
        record_at (i64): where the record's bytes start: at that offset of the piece that was fed,
            or, when negative, at ``~record_at`` of ``side``, for a record that was cut by a page
            or a piece. Cut records are in ``side`` as a whole only when ``keep_records`` was
            asked for; otherwise ``record_at`` of a cut record is -1.
        main_at (i64), main_length (u32): the main data, likewise; always there.

    Block columns:
        block_record (u32): the row of the record; block_id (u8).
        spc, db, rel, block (u32), fork (u8), flags (u8: BKPBLOCK_* of the high nibble).
        data_length (u16), image_length (u16): bytes of data and of the image; 0 for none.
        hole_offset, hole_length (u16): of the image.
        image (u8): 0 for no image; else bit 0 set, bit 1 must be applied, bit 2 has a hole,
            bits 4 and 5 the compression (0 none, 1 pglz, 2 lz4, 3 zstd).
    """

    count: int
    start_lsn: array[int]
    end_lsn: array[int]
    prev_lsn: array[int]
    total_length: array[int]
    xid: array[int]
    rmgr: array[int]
    info: array[int]
    fpi_length: array[int]
    block_begin: array[int]
    blocks: array[int]
    record_at: array[int]
    main_at: array[int]
    main_length: array[int]

    block_count: int
    block_record: array[int]
    block_id: array[int]
    spc: array[int]
    db: array[int]
    rel: array[int]
    fork: array[int]
    block: array[int]
    flags: array[int]
    data_length: array[int]
    image_length: array[int]
    hole_offset: array[int]
    hole_length: array[int]
    image: array[int]

    side: bytes

    def from_row(self, row: int) -> RecordColumns:
        """Returns the records from ``row`` on (0 to ``count``)."""
        first = self.block_begin[row] if row < self.count else self.block_count
        values: list[Any] = []
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "count":
                value = self.count - row
            elif field.name == "block_count":
                value = self.block_count - first
            elif field.name == "block_begin":
                value = array("I", (begin - first for begin in value[row:]))
            elif field.name == "block_record":
                value = array("I", (record - row for record in value[first:]))
            elif field.name in BLOCK_COLUMNS:
                value = value[first:]
            elif field.name != "side":
                value = value[row:]
            values.append(value)
        return RecordColumns(*values)


BLOCK_COLUMNS = (
    "block_record",
    "block_id",
    "spc",
    "db",
    "rel",
    "fork",
    "block",
    "flags",
    "data_length",
    "image_length",
    "hole_offset",
    "hole_length",
    "image",
)

IMAGE_PRESENT = 0x01
IMAGE_APPLY = 0x02
IMAGE_HOLE = 0x04
IMAGE_COMPRESSION_SHIFT = 4
