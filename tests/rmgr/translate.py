"""Rewrites WAL of 14 in place so that the pg_waldump of 15 reads it.

No package ships a pg_waldump of 14. Its record bodies and descriptions are those of 15 but for a
few (``expected_of_14``); the page magic and two bits of the image flags differ. Lengths stay.
"""

from __future__ import annotations

import re
import struct

import crc32c

from walstream.wal.scan import WalScanner

SEGMENT = 16 << 20
_MAGIC_15 = 0xD110


def header_size(lsn: int) -> int:
    return 40 if lsn % SEGMENT == 0 else 24


def records(wal: bytes, start_lsn: int) -> list[tuple[int, bytes]]:
    """Returns the start LSN and the bytes of every record in ``wal``."""
    scanner = WalScanner(None, SEGMENT, start_lsn, find_record=True, keep_records=True)
    scanner.feed_bytes(start_lsn, wal)
    found = []
    while (columns := scanner.poll_columns()) is not None:
        for row in range(columns.count):
            at, length = columns.record_at[row], columns.total_length[row]
            data = wal[at : at + length] if at >= 0 else columns.side[~at : ~at + length]
            found.append((columns.start_lsn[row], data))
    return found


def translate_record(data: bytes) -> bytes:
    """Returns a record of 14 in the form of 15: image flags, number of DROP DATABASE, CRC."""
    record = bytearray(data)
    at, payload = 24, 0
    while len(record) - at > payload:
        block_id = record[at]
        at += 1
        if block_id == 255:
            payload += record[at]
            at += 1
            break
        if block_id == 254:
            payload += struct.unpack_from("<I", record, at)[0]
            at += 4
            break
        if block_id in (252, 253):
            at += 4 if block_id == 252 else 2
            continue
        flags, length = struct.unpack_from("<BH", record, at)
        at += 3
        payload += length
        if flags & 0x10:
            image_length, _, info = struct.unpack_from("<HHB", record, at)
            payload += image_length
            # 14: 2 compressed, 4 apply; 15: 2 apply, 4 pglz
            record[at + 4] = info & 1 | (info & 2) << 1 | (info & 4) >> 1
            at += 5 + (2 if info & 2 and info & 1 else 0)
        at += 4 if flags & 0x80 else 16
    if record[17] == 4 and record[16] & 0xF0 == 0x10:
        record[16] = 0x20 | record[16] & 0x0F
    if record[17] == 1 and record[16] & 0x70 == 0x10:
        # PREPARE, whose layout differs, becomes XLOG NOOP.
        record[16], record[17] = 0x20, 0
    crc = crc32c.crc32c(bytes(record[:20]), crc32c.crc32c(bytes(record[24:])))
    struct.pack_into("<I", record, 20, crc)
    return bytes(record)


def as_15(wal: bytes, start_lsn: int) -> bytes:
    """Returns WAL of 14, from a segment start, as WAL of 15."""
    result = bytearray(wal)
    for page in range(0, len(result), 8192):
        if result[page : page + 2] == b"\x0d\xd1":
            struct.pack_into("<H", result, page, _MAGIC_15)
    for lsn, data in records(wal, start_lsn):
        record = translate_record(data)
        at, done = lsn - start_lsn, 0
        while done < len(record):
            if at % 8192 == 0:
                at += header_size(start_lsn + at)
            room = min(8192 - at % 8192, len(record) - done)
            result[at : at + room] = record[done : done + room]
            at += room
            done += room
    return bytes(result)


def expected_of_14(text: str) -> list[str]:
    """Returns the lines of 15 with the words of 14; PREPARE, of another layout, is left out."""
    text = text.replace("desc: CREATE_FILE_COPY ", "desc: CREATE ")
    text = text.replace("PG_15_202209061", "PG_14_202107181")
    text = re.sub(r", method: pglz$", "", text, flags=re.MULTILINE)
    return without_prepare(text)


def without_prepare(text: str) -> list[str]:
    """Returns the lines but for PREPARE, and for NOOP, which stands for it in the translation."""
    return [
        line
        for line in text.splitlines()
        if "desc: PREPARE " not in line and "desc: NOOP " not in line
    ]
