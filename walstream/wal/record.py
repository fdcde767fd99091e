"""Takes one raw record apart: header, block references, images, data (DecodeXLogRecord).

``RecordReader`` is a kernel: one object is reused for many records and holds positions, not
copies. ``decode_wal_record`` is the friendly form that returns an ``XLogRecord``. Knows nothing of
pages and segments (``stream.py``) nor of what a record means (``rmgr/``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cython

from walstream.errors import RecordError
from walstream.wal.model import BlockRef, BufferTag, PageImage, RawRecord, XLogRecord, format_lsn

if TYPE_CHECKING:
    from walstream.wal.buffer import Bytes
if not cython.compiled:
    from walstream.wal.buffer import bytes_of, u8, u16, u32, u64

COMPILED: bool = cython.compiled

# Reasons why a record is refused, with the words of DecodeXLogRecord.
SHORT_HEADER = 1
OUT_OF_ORDER_BLOCK = 2
DATA_FLAG_WITHOUT_DATA = 3
DATA_WITHOUT_FLAG = 4
BAD_HOLE = 5
UNEXPECTED_HOLE = 6
COMPRESSED_FULL_LENGTH = 7
UNCOMPRESSED_SHORT = 8
NO_PREVIOUS_REL = 9
INVALID_BLOCK_ID = 10
INVALID_LENGTH = 11
LENGTH_MISMATCH = 12

_MESSAGES = {
    SHORT_HEADER: "invalid record length: expected at least 24, got {a}",
    OUT_OF_ORDER_BLOCK: "out-of-order block_id: expected above {b}, got {a}",
    DATA_FLAG_WITHOUT_DATA: "BKPBLOCK_HAS_DATA set, but no data included",
    DATA_WITHOUT_FLAG: "BKPBLOCK_HAS_DATA not set, but data length is {a}",
    BAD_HOLE: "BKPIMAGE_HAS_HOLE set, but hole offset {a} length {b} block image length {c}",
    UNEXPECTED_HOLE: "BKPIMAGE_HAS_HOLE not set, but hole offset {a} length {b}",
    COMPRESSED_FULL_LENGTH: "BKPIMAGE_COMPRESSED set, but block image length {a}",
    UNCOMPRESSED_SHORT: (
        "neither BKPIMAGE_HAS_HOLE nor BKPIMAGE_COMPRESSED set, but block image length is {a}"
    ),
    NO_PREVIOUS_REL: "BKPBLOCK_SAME_REL set but no previous rel",
    INVALID_BLOCK_ID: "invalid block_id {a}",
    INVALID_LENGTH: "record with invalid length: headers and data end at {a}, record has {b} bytes",
    LENGTH_MISMATCH: "record length: expected {b} from xl_tot_len, got {a} bytes",
}


class RecordReader:
    """Positions of the parts of one record; reused for the next.

    ``version`` is the PostgreSQL major version whose image flags apply. Blocks are numbered
    ``0 .. block_count`` in the order of the record; ``block(i)`` returns one of them. All
    ``*_at`` are offsets from the start of the buffer that was read. ``find_block`` maps a block id
    to its number (-1 where the record has none).
    """

    def __init__(self, version: int) -> None:
        self.version = version
        self.total_length = self.xid = self.prev = self.info = self.rmgr = self.crc = 0
        self.origin = self.toplevel_xid = 0
        self.main_at = self.main_length = 0
        self.block_count = 0
        self.error = 0
        self.error_a = self.error_b = self.error_c = 0
        if not cython.compiled:
            self.block_id = [0] * 33
            self.block_flags = [0] * 33
            self.block_fork = [0] * 33
            self.block_spc = [0] * 33
            self.block_db = [0] * 33
            self.block_rel = [0] * 33
            self.block_number = [0] * 33
            self.data_at = [0] * 33
            self.data_length = [0] * 33
            self.image_at = [0] * 33
            self.image_length = [0] * 33
            self.hole_offset = [0] * 33
            self.hole_length = [0] * 33
            self.image_info = [0] * 33
            self.image_compression = [0] * 33
            self.image_apply = [False] * 33

    def fail(self, code: int, a: int, b: int, c: int) -> int:
        self.error = code
        self.error_a = a
        self.error_b = b
        self.error_c = c
        return code

    def read(self, p: Bytes, at: int, length_available: int) -> int:
        """Reads the record whose header is at ``p[at]``; returns 0 or a reason.

        The caller has checked that ``xl_tot_len`` bytes are there: ``length_available`` must equal
        it. Mirrors DecodeXLogRecord, check by check.
        """
        self.error = 0
        self.block_count = 0
        self.main_at = at
        self.main_length = 0
        self.origin = 0
        self.toplevel_xid = 0
        if length_available < 24:
            return self.fail(SHORT_HEADER, length_available, 0, 0)
        self.total_length = u32(p, at)
        if self.total_length != length_available:
            return self.fail(LENGTH_MISMATCH, length_available, self.total_length, 0)
        self.xid = u32(p, at + 4)
        self.prev = u64(p, at + 8)
        self.info = u8(p, at + 16)
        self.rmgr = u8(p, at + 17)
        self.crc = u32(p, at + 20)

        end = at + length_available
        cursor = at + 24
        payload = 0
        count = 0
        highest = -1
        has_rel = False
        spc = db = rel = 0
        # As in PostgreSQL: headers go on until what is left is exactly the payload they announced.
        while end - cursor > payload:
            block_id = u8(p, cursor)
            cursor += 1
            if block_id == 255:
                if end - cursor < 1:
                    return self.fail(INVALID_LENGTH, cursor - at, length_available, 0)
                self.main_length = u8(p, cursor)
                cursor += 1
                payload += self.main_length
                break
            if block_id == 254:
                if end - cursor < 4:
                    return self.fail(INVALID_LENGTH, cursor - at, length_available, 0)
                self.main_length = u32(p, cursor)
                cursor += 4
                payload += self.main_length
                break
            if block_id == 253:
                if end - cursor < 2:
                    return self.fail(INVALID_LENGTH, cursor - at, length_available, 0)
                self.origin = u16(p, cursor)
                cursor += 2
            elif block_id == 252:
                if end - cursor < 4:
                    return self.fail(INVALID_LENGTH, cursor - at, length_available, 0)
                self.toplevel_xid = u32(p, cursor)
                cursor += 4
            elif block_id <= 32:
                if cython.cast(cython.int, block_id) <= highest:
                    return self.fail(OUT_OF_ORDER_BLOCK, block_id, highest, 0)
                highest = block_id
                if end - cursor < 3:
                    return self.fail(INVALID_LENGTH, cursor - at, length_available, 0)
                flags = u8(p, cursor)
                length = u16(p, cursor + 1)
                cursor += 3
                if flags & 0x20:
                    if length == 0:
                        return self.fail(DATA_FLAG_WITHOUT_DATA, 0, 0, 0)
                elif length != 0:
                    return self.fail(DATA_WITHOUT_FLAG, length, 0, 0)
                payload += length
                self.block_id[count] = block_id
                self.block_flags[count] = flags & 0xF0
                self.block_fork[count] = flags & 0x0F
                self.data_length[count] = length
                self.image_length[count] = 0
                if flags & 0x10:
                    if end - cursor < 5:
                        return self.fail(INVALID_LENGTH, cursor - at, length_available, 0)
                    image_length = u16(p, cursor)
                    hole_offset = u16(p, cursor + 2)
                    image_info = u8(p, cursor + 4)
                    cursor += 5
                    has_hole = (image_info & 0x01) != 0
                    # bimg_info changed in 15: compression got its method, apply moved.
                    if self.version <= 14:
                        compressed = (image_info & 0x02) != 0
                        self.image_apply[count] = (image_info & 0x04) != 0
                        self.image_compression[count] = 1 if compressed else 0
                    else:
                        compressed = (image_info & 0x1C) != 0
                        self.image_apply[count] = (image_info & 0x02) != 0
                        if image_info & 0x04:
                            self.image_compression[count] = 1
                        elif image_info & 0x08:
                            self.image_compression[count] = 2
                        elif image_info & 0x10:
                            self.image_compression[count] = 3
                        else:
                            self.image_compression[count] = 0
                    if compressed:
                        hole_length = 0
                        if has_hole:
                            if end - cursor < 2:
                                return self.fail(INVALID_LENGTH, cursor - at, length_available, 0)
                            hole_length = u16(p, cursor)
                            cursor += 2
                    else:
                        # A length above BLCKSZ wraps here, as in PostgreSQL's uint16, and is
                        # refused by the checks that follow.
                        hole_length = (8192 - image_length) & 0xFFFF
                    payload += image_length
                    if has_hole and (hole_offset == 0 or hole_length == 0 or image_length == 8192):
                        return self.fail(BAD_HOLE, hole_offset, hole_length, image_length)
                    if not has_hole and not compressed and image_length != 8192:
                        return self.fail(UNCOMPRESSED_SHORT, image_length, 0, 0)
                    if not has_hole and (hole_offset != 0 or hole_length != 0):
                        return self.fail(UNEXPECTED_HOLE, hole_offset, hole_length, 0)
                    if compressed and image_length == 8192:
                        return self.fail(COMPRESSED_FULL_LENGTH, image_length, 0, 0)
                    # Beyond PostgreSQL: a hole must lie inside the page, or restoring the image
                    # would write outside it.
                    if has_hole and hole_offset + hole_length > 8192:
                        return self.fail(BAD_HOLE, hole_offset, hole_length, image_length)
                    self.image_length[count] = image_length
                    self.hole_offset[count] = hole_offset
                    self.hole_length[count] = hole_length
                    self.image_info[count] = image_info
                if flags & 0x80:
                    if not has_rel:
                        return self.fail(NO_PREVIOUS_REL, 0, 0, 0)
                    if end - cursor < 4:
                        return self.fail(INVALID_LENGTH, cursor - at, length_available, 0)
                else:
                    if end - cursor < 16:
                        return self.fail(INVALID_LENGTH, cursor - at, length_available, 0)
                    spc = u32(p, cursor)
                    db = u32(p, cursor + 4)
                    rel = u32(p, cursor + 8)
                    has_rel = True
                    cursor += 12
                self.block_spc[count] = spc
                self.block_db[count] = db
                self.block_rel[count] = rel
                self.block_number[count] = u32(p, cursor)
                cursor += 4
                count += 1
            else:
                return self.fail(INVALID_BLOCK_ID, block_id, 0, 0)
        if end - cursor != payload:
            return self.fail(INVALID_LENGTH, cursor - at + payload, length_available, 0)

        # The payload: per block its image, then its data; the main data last.
        for i in range(count):
            self.image_at[i] = cursor
            cursor += self.image_length[i]
            self.data_at[i] = cursor
            cursor += self.data_length[i]
        self.main_at = cursor
        self.block_count = count
        return 0

    def find_block(self, block_id: int) -> int:
        for i in range(self.block_count):
            if self.block_id[i] == block_id:
                return i
        return -1

    def read_bytes(self, data: Bytes) -> int:
        """Reads the record that ``data`` holds whole; returns 0 or a reason."""
        p = bytes_of(data)
        if len(data) < 24:
            return self.fail(SHORT_HEADER, len(data), 0, 0)
        return self.read(p, 0, len(data))

    def block(self, i: int) -> tuple[int, ...]:
        """Returns block ``i`` as a tuple.

        (id, spc, db, rel, fork, block, flags, data_at, data_length, image_at, image_length,
        hole_offset, hole_length, compression, apply); image_length is 0 where there is no image.

        Raises:
            IndexError: there is no such block.
        """
        if i < 0 or i >= self.block_count:
            raise IndexError(i)
        return (
            self.block_id[i],
            self.block_spc[i],
            self.block_db[i],
            self.block_rel[i],
            self.block_fork[i],
            self.block_number[i],
            self.block_flags[i],
            self.data_at[i],
            self.data_length[i],
            self.image_at[i],
            self.image_length[i],
            self.hole_offset[i],
            self.hole_length[i],
            self.image_compression[i],
            self.image_apply[i],
        )

    def message(self) -> str:
        """Returns the words for the last refusal, without an LSN."""
        return _MESSAGES[self.error].format(a=self.error_a, b=self.error_b, c=self.error_c)


def decode_wal_record(raw: RawRecord, version: int) -> XLogRecord:
    """Returns the parts of a record, copied out of it.

    Args:
        raw: a whole record, header included.
        version: PostgreSQL major version that wrote it (14 to 18).

    Raises:
        RecordError: a header field contradicts another, as DecodeXLogRecord would find.
    """
    reader = RecordReader(version)
    if reader.read_bytes(raw.data) != 0:
        raise RecordError(f"{reader.message()} at {format_lsn(raw.start_lsn)}", raw.start_lsn)
    data = raw.data
    blocks = []
    for i in range(reader.block_count):
        (
            block_id, spc, db, rel, fork, number, flags, data_at, data_length, image_at,
            image_length, hole_offset, hole_length, compression, apply,
        ) = reader.block(i)  # fmt: skip
        image = None
        if flags & 0x10:
            image = PageImage(
                data[image_at : image_at + image_length],
                hole_offset,
                hole_length,
                compression,
                bool(apply),
            )
        blocks.append(
            BlockRef(
                block_id,
                BufferTag(spc, db, rel, fork, number),
                flags,
                bool(flags & 0x40),
                image,
                data[data_at : data_at + data_length],
            )
        )
    return XLogRecord(
        raw.start_lsn,
        raw.end_lsn,
        reader.prev,
        reader.total_length,
        reader.xid,
        reader.rmgr,
        reader.info,
        reader.crc,
        reader.origin,
        reader.toplevel_xid,
        tuple(blocks),
        data[reader.main_at : reader.main_at + reader.main_length],
        data,
    )
