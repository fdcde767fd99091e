"""The inputs that fuzzing begins with, made anew each time: all versions, operations and shapes."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from random import Random

import lz4.block
import zstandard

from tests.fuzz.inputs import PAGE, SEGMENT_SIZES, Case, ImageCase, RecordCase, WalCase
from tests.redo.rules.test_mutations import messages_of
from tests.redo.vectors import redo_cases
from tests.support.pglz import pglz_compress
from tests.support.walgen import OVERWRITE, Block, WalWriter, record_body, record_bytes
from walstream.rmgr.layout import KINDS, Layout
from walstream.rmgr.table import operations
from walstream.wal.model import BLCKSZ, BufferTag, PageImage
from walstream.wal.versions import VERSIONS

TAG = BufferTag(1663, 5, 16384, 0, 7)
# One freeze plan of two tuples, a redirection, a dead item, an unused item, the plan's offsets.
PRUNE = struct.pack("<HxxIHHBxH7H", 1, 9, 8, 7, 0, 2, 1, 3, 4, 1, 5, 1, 6) + struct.pack(
    "<HH", 1, 2
)
_SMALL = (0, 1, 1, 2, 3)


def _numbers(random: Random, size: int) -> bytes:
    return b"".join(random.choice(_SMALL).to_bytes(size, "little") for _ in range(30))


def _body(random: Random, layout: Layout, size: int) -> bytes:
    """Returns main data whose fields are small numbers, and more of ``size`` bytes each."""
    body = bytearray(layout.size)
    for field in layout.fields:
        if not field.counted_by:
            width = max(KINDS[field.kind].size, 1)
            number = random.choice(_SMALL).to_bytes(width, "little")
            body[field.offset : field.offset + width] = number
    return bytes(body) + _numbers(random, size)


def bodies(version: int) -> Iterator[RecordCase]:
    """Records of each operation that the version has, with small counts in them."""
    random = Random(version)
    for (rmgr, code), op in operations(version).items():
        for size in (2, 4, 8):
            data = PRUNE if rmgr == 9 else _numbers(random, size)
            blocks = [Block(0, TAG, data), Block(1, TAG._replace(block=8), b"", same_rel=True)]
            main_data = _body(random, op.layout, size)
            yield RecordCase(version, rmgr, code, record_body(version, blocks, main_data))
    # All that the end of a transaction can say.
    for version_15 in (0, 0x100 if version >= 15 else 0):
        body = struct.pack("<qI", 815_000_000_123_456, 0x9F | 0x20 | version_15)
        body += struct.pack("<II", 5, 1663) + struct.pack("<iII", 2, 801, 802)
        body += struct.pack("<i3I", 1, 1663, 5, 16384)
        body += struct.pack("<i", 0) if version_15 else b""
        body += struct.pack("<ib3xII4xI", 1, -2, 5, 16384, 900) + b"a gid\0"
        body += struct.pack("<Qq", 1 << 32, 815_000_000_000_000)
        for info in (0x80, 0xA0, 0xB0, 0xC0):
            yield RecordCase(version, 1, info, record_body(version, (), body, origin=3))


def real_records() -> Iterator[RecordCase]:
    """A few records of each operation that the redo vectors hold (version 15)."""
    seen: dict[tuple[int, int], int] = {}
    for case in redo_cases():
        for message in messages_of(case.request):
            if message[0] != 0x41:
                continue
            record = bytes(message[13:])
            operation = (record[17], record[16])
            if seen.get(operation, 0) < 3 and len(record) < 700:
                seen[operation] = seen.get(operation, 0) + 1
                yield RecordCase(15, *operation, record[24:])


def images() -> Iterator[ImageCase]:
    page = bytes(range(200)) * 3 + bytes(4000) + b"tuple of a page " * 224
    page = page[:BLCKSZ].ljust(BLCKSZ, b"\1")
    for offset, length in ((0, 0), (600, 4000)):
        raw = page[:offset] + page[offset + length :]
        packed = (
            raw,
            pglz_compress(raw),
            lz4.block.compress(raw, store_size=False),
            zstandard.compress(raw),
        )
        for compression, data in enumerate(packed):
            yield ImageCase(compression, offset, length, data)


def wal_case(wal: WalWriter, page: int, offset: int = 0, seed: int = 1) -> WalCase:
    """Returns the case of WAL that was written from a page's start, without its first bytes."""
    size = SEGMENT_SIZES.index(wal.segment_size)
    return WalCase(
        wal.version, seed % 2 == 0, 0, 0, size, page, offset, seed, bytes(wal.data)[offset:]
    )


def _writer(version: int, page: int = 1, size: int = SEGMENT_SIZES[0]) -> WalWriter:
    start = WalCase(version, True, 0, 0, SEGMENT_SIZES.index(size), page, 0, 0, b"").start_lsn
    return WalWriter(version, size, start)


def _some_records(wal: WalWriter, random: Random, count: int) -> None:
    cases = [case for case in bodies(wal.version) if len(case.body) < 300]
    for case in random.sample(cases, count):
        if (case.rmgr, case.info) != (0, 0x40):
            wal.add(case.rmgr, case.info, random.randrange(3), case.body)


def wals() -> Iterator[WalCase]:
    """Small WAL: most begin near the end of a page, so that little of it crosses into the next."""
    for version in VERSIONS:
        random = Random(version)
        for left in (0, 8, 16, 24, 40, 200):
            wal = _writer(version)
            wal.fill_page(left)
            offset = wal.lsn % PAGE or PAGE
            wal.prev = 0
            _some_records(wal, random, 3)
            if offset < PAGE:
                yield wal_case(wal, 1, offset, left)
            wal.add_of_length(9000)
            yield wal_case(wal, 1, offset if offset < PAGE else 0, left + 1)
        for page in (0, 1, 2, 3):
            for size in SEGMENT_SIZES:
                wal = _writer(version, page, size)
                _some_records(wal, random, 4)
                image = PageImage(bytes(300), 100, BLCKSZ - 300, 0, True)
                wal.add(11, 0, 7, record_body(version, [Block(0, TAG, b"x", image)], b"main"))
                packed = PageImage(pglz_compress(bytes(BLCKSZ)), 0, 0, 1, True)
                wal.add(0, 0xB0, 0, record_body(version, [Block(0, TAG, b"", packed)]))
                yield wal_case(wal, page, 0, page)
        # The rest of a segment after a switch; a record that a crash cut; zeros, and a page after.
        wal = _writer(version, 3)
        _some_records(wal, random, 2)
        wal.switch()
        _some_records(wal, random, 2)
        yield wal_case(wal, 3)
        wal = _writer(version)
        wal.fill_page(64)
        wal.abort_record(9000, 0)
        _some_records(wal, random, 2)
        yield wal_case(wal, 1)
        yield wal_case(wal, 1, PAGE - 64)._replace(flags=1)
        for named in (wal.prev, 8, None):
            wal = _writer(version)
            wal.fill_page(64)
            wal.put(record_bytes(wal.prev, 10, 0, 1, bytes(8000))[:64])
            wal.open_page(OVERWRITE)
            if named is None:
                wal.add_of_length(100)
            else:
                wal.overwrite_contrecord(named)
            yield wal_case(wal, 1)
        wal = _writer(version)
        _some_records(wal, random, 2)
        yield wal_case(wal, 1)._replace(data=bytes(wal.data) + bytes(500))
        wal.raw(bytes(-wal.lsn % PAGE))
        wal.open_page()
        yield wal_case(wal, 1)


def seeds() -> list[Case]:
    """Returns all of them; the same at every call."""
    return [
        *wals(),
        *(case for version in VERSIONS for case in bodies(version)),
        *real_records(),
        *images(),
    ]
