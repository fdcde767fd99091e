"""Writes WAL as PostgreSQL does: pages, records, contrecords; all versions, any segment size.

The tests' own encoder, the other side of ``walstream.wal``. It shares constants with it, no code.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

import crc32c

from walstream.wal.model import BufferTag, PageImage, RawRecord
from walstream.wal.versions import MAGIC_OF_VERSION

PAGE = 8192
SYSTEM_IDENTIFIER = 0x6543_2100_1234_5678
SEGMENT = 1 << 20

CONTRECORD = 0x0001
LONG_HEADER = 0x0002
OVERWRITE = 0x0008


class Block(NamedTuple):
    """A block reference to encode; ``image`` and ``data`` where it has them."""

    id: int
    tag: BufferTag
    data: bytes = b""
    image: PageImage | None = None
    will_init: bool = False
    same_rel: bool = False


def image_header(image: PageImage, version: int) -> bytes:
    hole = image.hole_length > 0
    info = 0x01 if hole else 0
    if version == 14:
        info |= (0x02 if image.compression else 0) | (0x04 if image.apply else 0)
    else:
        info |= (0x02 if image.apply else 0) | (0, 0x04, 0x08, 0x10)[image.compression]
    head = struct.pack("<HHB", len(image.data), image.hole_offset, info)
    return head + (struct.pack("<H", image.hole_length) if image.compression and hole else b"")


def record_body(
    version: int,
    blocks: Sequence[Block] = (),
    main_data: bytes = b"",
    *,
    origin: int | None = None,
    toplevel_xid: int | None = None,
    long_main: bool = False,
) -> bytes:
    """Returns what follows the 24-byte header of a record (XLogRecordAssemble)."""
    head = b""
    payload = b""
    for block in blocks:
        flags = block.tag.fork
        flags |= 0x10 if block.image else 0
        flags |= 0x20 if block.data else 0
        flags |= 0x40 if block.will_init else 0
        flags |= 0x80 if block.same_rel else 0
        head += struct.pack("<BBH", block.id, flags, len(block.data))
        if block.image:
            head += image_header(block.image, version)
            payload += block.image.data
        if not block.same_rel:
            head += struct.pack("<III", *block.tag[:3])
        head += struct.pack("<I", block.tag.block)
        payload += block.data
    if origin is not None:
        head += struct.pack("<BH", 253, origin)
    if toplevel_xid is not None:
        head += struct.pack("<BI", 252, toplevel_xid)
    if main_data:
        if len(main_data) > 255 or long_main:
            head += struct.pack("<BI", 254, len(main_data))
        else:
            head += struct.pack("<BB", 255, len(main_data))
    return head + payload + main_data


def record_bytes(prev: int, rmgr: int, info: int, xid: int, body: bytes) -> bytes:
    """Returns a whole record with its CRC."""
    start = struct.pack("<IIQBBxx", 24 + len(body), xid, prev, info, rmgr)
    return start + struct.pack("<I", crc32c.crc32c(start, crc32c.crc32c(body))) + body


class WalWriter:
    """Appends records to WAL that begins at ``start_lsn`` (the start of a page).

    ``data`` is the WAL so far, ``records`` the records that a reader must find, ``lsn`` where the
    next one goes. ``prev`` starts as that of WAL never written before.
    """

    def __init__(
        self,
        version: int = 18,
        segment_size: int = SEGMENT,
        start_lsn: int = SEGMENT,
        *,
        system_identifier: int = SYSTEM_IDENTIFIER,
        timeline: int = 1,
        prev: int = 0,
    ) -> None:
        assert start_lsn % PAGE == 0
        self.version = version
        self.segment_size = segment_size
        self.start_lsn = self.lsn = start_lsn
        self.system_identifier = system_identifier
        self.timeline = timeline
        self.prev = prev
        self.data = bytearray()
        self.records: list[RawRecord] = []

    def page_header(self, lsn: int, rem_len: int = 0, flags: int = 0) -> bytes:
        """Returns the page header for ``lsn``; a contrecord's when ``rem_len`` is not 0."""
        flags |= CONTRECORD if rem_len else 0
        long_header = lsn % self.segment_size == 0
        flags |= LONG_HEADER if long_header else 0
        magic = MAGIC_OF_VERSION[self.version]
        head = struct.pack("<HHIQI4x", magic, flags, self.timeline, lsn, rem_len)
        if long_header:
            head += struct.pack("<QII", self.system_identifier, self.segment_size, PAGE)
        return head

    def raw(self, data: bytes) -> None:
        """Appends bytes as they are."""
        self.data += data
        self.lsn += len(data)

    def open_page(self, flags: int = 0) -> None:
        """Writes the page header when the position is at the start of a page."""
        if self.lsn % PAGE == 0:
            self.raw(self.page_header(self.lsn, 0, flags))

    def put(self, record: bytes) -> int:
        """Writes record bytes over as many pages as they need; returns where they start."""
        self.open_page()
        start = self.lsn
        done = 0
        while done < len(record):
            if self.lsn % PAGE == 0:
                self.raw(self.page_header(self.lsn, len(record) - done))
            step = min(len(record) - done, PAGE - self.lsn % PAGE)
            self.raw(record[done : done + step])
            done += step
        self.raw(bytes(-self.lsn % 8))
        return start

    def add(self, rmgr: int, info: int, xid: int, body: bytes) -> RawRecord:
        """Writes a record and returns it."""
        record = record_bytes(self.prev, rmgr, info, xid, body)
        start = self.put(record)
        self.prev = start
        raw = RawRecord(start, self.lsn, record)
        self.records.append(raw)
        return raw

    def add_of_length(self, total_length: int, rmgr: int = 10, fill: int = 0x5A) -> RawRecord:
        """Writes a record of that many bytes in all (24, 26 to 281, or 29 and more)."""
        size = total_length - 24
        if size == 0:
            return self.add(rmgr, 0, 1, b"")
        long_main = size - 2 > 255
        main_data = bytes((fill,)) * (size - (5 if long_main else 2))
        return self.add(rmgr, 0, 1, record_body(self.version, (), main_data, long_main=long_main))

    def fill_page(self, left: int) -> None:
        """Adds records until ``left`` bytes (a multiple of 8) of the page are free."""
        self.open_page()
        room = PAGE - self.lsn % PAGE - left
        if room < 32:
            self.add_of_length(PAGE - self.lsn % PAGE + 64)
            room = PAGE - self.lsn % PAGE - left
        while room > 400:
            self.add_of_length(200)
            room -= 200
        if room > 280:
            self.add_of_length(120)
            room -= 120
        self.add_of_length(room)
        assert self.lsn % PAGE == (PAGE - left) % PAGE

    def switch(self) -> RawRecord:
        """Writes XLOG_SWITCH and zeros up to the end of the segment (no page headers)."""
        record = record_bytes(self.prev, 0, 0x40, 0, b"")
        start = self.put(record)
        self.raw(bytes(-self.lsn % self.segment_size))
        self.prev = start
        raw = RawRecord(start, self.lsn, record)
        self.records.append(raw)
        return raw

    def abort_record(self, total_length: int, more: int) -> int:
        """Writes a record up to the end of the page and ``more`` bytes beyond, then crashes.

        ``more`` is 0 or takes in the record header. The rest of the last page is zeros, the next
        page has the overwrite flag and begins with an OVERWRITE_CONTRECORD. Returns where the
        lost record started. (One that is not complete on its first page is written over.)
        """
        self.open_page()
        start = self.lsn
        record = record_bytes(self.prev, 10, 0, 1, bytes(total_length - 24))
        written = PAGE - start % PAGE + more
        assert total_length > written
        done = 0
        while done < written:
            if self.lsn % PAGE == 0:
                self.raw(self.page_header(self.lsn, total_length - done))
            step = min(written - done, PAGE - self.lsn % PAGE)
            self.raw(record[done : done + step])
            done += step
        self.raw(bytes(-self.lsn % PAGE))
        self.open_page(OVERWRITE)
        self.overwrite_contrecord(start)
        return start

    def overwrite_contrecord(self, overwritten: int) -> RawRecord:
        """Writes the record that says which one was given up."""
        main_data = struct.pack("<QQ", overwritten, 0)
        return self.add(0, 0xD0, 0, record_body(self.version, (), main_data))

    def close(self, size: int | None = None) -> bytes:
        """Returns the WAL, with zeros up to the end of the segment (or of ``size`` bytes)."""
        end = size if size is not None else -(-len(self.data) // self.segment_size)
        length = end if size is not None else end * self.segment_size
        return bytes(self.data) + bytes(length - len(self.data))
