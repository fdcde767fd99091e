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
    from walstream.wal.bufpage import BLCKSZ
    from walstream.wal.formats import FORMATS, row_of
    from walstream.wal.layout import (
        BKPBLOCK_FLAG_MASK,
        BKPBLOCK_FORK_MASK,
        BKPBLOCK_HAS_DATA,
        BKPBLOCK_HAS_IMAGE,
        BKPBLOCK_SAME_REL,
        BKPBLOCK_WILL_INIT,
        BKPIMAGE_HAS_HOLE,
        COMPRESSION_LZ4,
        COMPRESSION_NONE,
        COMPRESSION_PGLZ,
        COMPRESSION_ZSTD,
        XLR_BLOCK_ID_DATA_LONG,
        XLR_BLOCK_ID_DATA_SHORT,
        XLR_BLOCK_ID_ORIGIN,
        XLR_BLOCK_ID_TOPLEVEL_XID,
        XLR_MAX_BLOCK_ID,
        SizeOfBlockNumber,
        SizeOfRelFileLocator,
        SizeOfXLogRecord,
        SizeOfXLogRecordBlockCompressHeader,
        SizeOfXLogRecordBlockHeader,
        SizeOfXLogRecordBlockImageHeader,
        xl_crc,
        xl_info,
        xl_prev,
        xl_rmid,
        xl_tot_len,
        xl_xid,
    )

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
        self.take_format()
        self.total_length = self.xid = self.prev = self.info = self.rmgr = self.crc = 0
        self.origin = self.toplevel_xid = 0
        self.main_at = self.main_length = 0
        self.block_count = 0
        self.error = 0
        self.error_a = self.error_b = self.error_c = 0
        if not cython.compiled:
            self.block_id = [0] * (XLR_MAX_BLOCK_ID + 1)
            self.block_flags = [0] * (XLR_MAX_BLOCK_ID + 1)
            self.block_fork = [0] * (XLR_MAX_BLOCK_ID + 1)
            self.block_spc = [0] * (XLR_MAX_BLOCK_ID + 1)
            self.block_db = [0] * (XLR_MAX_BLOCK_ID + 1)
            self.block_rel = [0] * (XLR_MAX_BLOCK_ID + 1)
            self.block_number = [0] * (XLR_MAX_BLOCK_ID + 1)
            self.data_at = [0] * (XLR_MAX_BLOCK_ID + 1)
            self.data_length = [0] * (XLR_MAX_BLOCK_ID + 1)
            self.image_at = [0] * (XLR_MAX_BLOCK_ID + 1)
            self.image_length = [0] * (XLR_MAX_BLOCK_ID + 1)
            self.hole_offset = [0] * (XLR_MAX_BLOCK_ID + 1)
            self.hole_length = [0] * (XLR_MAX_BLOCK_ID + 1)
            self.image_info = [0] * (XLR_MAX_BLOCK_ID + 1)
            self.image_compression = [0] * (XLR_MAX_BLOCK_ID + 1)
            self.image_apply = [False] * (XLR_MAX_BLOCK_ID + 1)

    def take_format(self) -> None:
        """Takes the bits of bimg_info of ``version``, which changed in 15."""
        row = row_of(self.version)
        self.apply_bit = FORMATS.image_apply[row]
        self.pglz_bit = FORMATS.image_pglz[row]
        self.lz4_bit = FORMATS.image_lz4[row]
        self.zstd_bit = FORMATS.image_zstd[row]
        self.format_version = self.version

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
        if length_available < SizeOfXLogRecord:
            return self.fail(SHORT_HEADER, length_available, 0, 0)
        self.total_length = u32(p, at + xl_tot_len)
        if self.total_length != length_available:
            return self.fail(LENGTH_MISMATCH, length_available, self.total_length, 0)
        self.xid = u32(p, at + xl_xid)
        self.prev = u64(p, at + xl_prev)
        self.info = u8(p, at + xl_info)
        self.rmgr = u8(p, at + xl_rmid)
        self.crc = u32(p, at + xl_crc)

        end = at + length_available
        cursor = at + SizeOfXLogRecord
        payload = 0
        count = 0
        highest = -1
        has_rel = False
        spc = db = rel = 0
        # As in PostgreSQL: headers go on until what is left is exactly the payload they announced.
        while end - cursor > payload:
            block_id = u8(p, cursor)
            cursor += 1
            if block_id == XLR_BLOCK_ID_DATA_SHORT:
                if end - cursor < 1:
                    return self.fail(INVALID_LENGTH, cursor - at, length_available, 0)
                self.main_length = u8(p, cursor)
                cursor += 1
                payload += self.main_length
                break
            if block_id == XLR_BLOCK_ID_DATA_LONG:
                if end - cursor < 4:
                    return self.fail(INVALID_LENGTH, cursor - at, length_available, 0)
                self.main_length = u32(p, cursor)
                cursor += 4
                payload += self.main_length
                break
            if block_id == XLR_BLOCK_ID_ORIGIN:
                if end - cursor < 2:
                    return self.fail(INVALID_LENGTH, cursor - at, length_available, 0)
                self.origin = u16(p, cursor)
                cursor += 2
            elif block_id == XLR_BLOCK_ID_TOPLEVEL_XID:
                if end - cursor < 4:
                    return self.fail(INVALID_LENGTH, cursor - at, length_available, 0)
                self.toplevel_xid = u32(p, cursor)
                cursor += 4
            elif block_id <= XLR_MAX_BLOCK_ID:
                if cython.cast(cython.int, block_id) <= highest:
                    return self.fail(OUT_OF_ORDER_BLOCK, block_id, highest, 0)
                highest = block_id
                if end - cursor < SizeOfXLogRecordBlockHeader - 1:
                    return self.fail(INVALID_LENGTH, cursor - at, length_available, 0)
                flags = u8(p, cursor)
                length = u16(p, cursor + 1)
                cursor += SizeOfXLogRecordBlockHeader - 1
                if flags & BKPBLOCK_HAS_DATA:
                    if length == 0:
                        return self.fail(DATA_FLAG_WITHOUT_DATA, 0, 0, 0)
                elif length != 0:
                    return self.fail(DATA_WITHOUT_FLAG, length, 0, 0)
                payload += length
                self.block_id[count] = block_id
                self.block_flags[count] = flags & BKPBLOCK_FLAG_MASK
                self.block_fork[count] = flags & BKPBLOCK_FORK_MASK
                self.data_length[count] = length
                self.image_length[count] = 0
                if flags & BKPBLOCK_HAS_IMAGE:
                    if end - cursor < SizeOfXLogRecordBlockImageHeader:
                        return self.fail(INVALID_LENGTH, cursor - at, length_available, 0)
                    image_length = u16(p, cursor)
                    hole_offset = u16(p, cursor + 2)
                    image_info = u8(p, cursor + 4)
                    cursor += SizeOfXLogRecordBlockImageHeader
                    has_hole = (image_info & BKPIMAGE_HAS_HOLE) != 0
                    if self.version != self.format_version:
                        self.take_format()
                    self.image_apply[count] = (image_info & self.apply_bit) != 0
                    if image_info & self.pglz_bit:
                        method = COMPRESSION_PGLZ
                    elif image_info & self.lz4_bit:
                        method = COMPRESSION_LZ4
                    elif image_info & self.zstd_bit:
                        method = COMPRESSION_ZSTD
                    else:
                        method = COMPRESSION_NONE
                    compressed = method != COMPRESSION_NONE
                    self.image_compression[count] = method
                    if compressed:
                        hole_length = 0
                        if has_hole:
                            if end - cursor < SizeOfXLogRecordBlockCompressHeader:
                                return self.fail(INVALID_LENGTH, cursor - at, length_available, 0)
                            hole_length = u16(p, cursor)
                            cursor += SizeOfXLogRecordBlockCompressHeader
                    else:
                        # A length above BLCKSZ wraps here, as in PostgreSQL's uint16, and is
                        # refused by the checks that follow.
                        hole_length = (BLCKSZ - image_length) & 0xFFFF
                    payload += image_length
                    if has_hole and (
                        hole_offset == 0 or hole_length == 0 or image_length == BLCKSZ
                    ):
                        return self.fail(BAD_HOLE, hole_offset, hole_length, image_length)
                    if not has_hole and not compressed and image_length != BLCKSZ:
                        return self.fail(UNCOMPRESSED_SHORT, image_length, 0, 0)
                    if not has_hole and (hole_offset != 0 or hole_length != 0):
                        return self.fail(UNEXPECTED_HOLE, hole_offset, hole_length, 0)
                    if compressed and image_length == BLCKSZ:
                        return self.fail(COMPRESSED_FULL_LENGTH, image_length, 0, 0)
                    # Beyond PostgreSQL: a hole must lie inside the page, or restoring the image
                    # would write outside it.
                    if has_hole and hole_offset + hole_length > BLCKSZ:
                        return self.fail(BAD_HOLE, hole_offset, hole_length, image_length)
                    self.image_length[count] = image_length
                    self.hole_offset[count] = hole_offset
                    self.hole_length[count] = hole_length
                    self.image_info[count] = image_info
                if flags & BKPBLOCK_SAME_REL:
                    if not has_rel:
                        return self.fail(NO_PREVIOUS_REL, 0, 0, 0)
                    if end - cursor < 4:
                        return self.fail(INVALID_LENGTH, cursor - at, length_available, 0)
                else:
                    if end - cursor < SizeOfRelFileLocator + SizeOfBlockNumber:
                        return self.fail(INVALID_LENGTH, cursor - at, length_available, 0)
                    spc = u32(p, cursor)
                    db = u32(p, cursor + 4)
                    rel = u32(p, cursor + 8)
                    has_rel = True
                    cursor += SizeOfRelFileLocator
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
        if len(data) < SizeOfXLogRecord:
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
        version: PostgreSQL major version that wrote it.

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
        if flags & BKPBLOCK_HAS_IMAGE:
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
                bool(flags & BKPBLOCK_WILL_INIT),
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
