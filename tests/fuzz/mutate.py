"""Changes inputs so that they still get past the CRC: records are taken out, changed, put back.

Byte changes alone nearly all die at the first checksum. Here WAL is taken apart into its records
(leniently, for it may be damaged), one of them changed in one of its parts, and all laid out again
with lengths, prev links, page headers and CRC as they must be; or bytes are changed where they
stand, pages and headers too, and most of the time the CRC of every record is mended.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from random import Random
from typing import NamedTuple

import crc32c

from tests.fuzz.inputs import FIND_RECORD, PAGE, Case, ImageCase, RecordCase, WalCase, unpack
from tests.support.walgen import Block, WalWriter, record_body, record_bytes
from walstream.errors import RecordError
from walstream.rmgr.table import operations
from walstream.wal.model import BufferTag, PageImage, RawRecord
from walstream.wal.record import decode_wal_record
from walstream.wal.versions import VERSIONS

ChangeBytes = Callable[[bytes, int], bytes]
"""Returns other bytes of at most so many."""

_NUMBERS = (
    0,
    1,
    2,
    3,
    7,
    8,
    16,
    24,
    32,
    64,
    127,
    128,
    200,
    254,
    255,
    0xFFFF,
    0x7FFFFFFF,
    0xFFFFFFFF,
)
# Headers within a record, by their ids: blocks with and without image and relation, the others.
_HEADERS = (
    struct.pack("<BBH4I", 1, 0x00, 0, 1663, 5, 16384, 7),
    struct.pack("<BBHI", 1, 0x80, 0, 7),
    struct.pack("<BBHHHB4I", 1, 0x10, 0, 8192, 0, 0, 1663, 5, 16384, 7),
    struct.pack("<BBHHHBH4I", 1, 0x10, 0, 0, 100, 7, 8, 1663, 5, 16384, 7),
    struct.pack("<BI", 252, 700),
    struct.pack("<BH", 253, 3),
    struct.pack("<BI", 254, 0),
    struct.pack("<BB", 255, 0),
)
# Bytes of the longest input.
LIMIT = 20_000


def byte_changer(random: Random) -> ChangeBytes:
    """Returns a plain changer, where no fuzzer lends its own."""

    def change(data: bytes, limit: int) -> bytes:
        new = bytearray(data)
        for _ in range(random.choice((1, 1, 2, 5))):
            at = random.randrange(len(new) + 1)
            kind = random.randrange(6)
            if kind == 0:
                new[at:at] = random.randbytes(random.choice((1, 2, 4, 30)))
            elif kind == 1:
                del new[at : at + random.choice((1, 2, 4, 30))]
            elif at < len(new):
                if kind == 2:
                    new[at] ^= 1 << random.randrange(8)
                else:
                    number = random.choice(_NUMBERS)
                    size = random.choice((1, 2, 4)[: kind - 2])
                    raw = struct.pack("<I", number & 0xFFFFFFFF)[:size]
                    new[at : at + size] = raw
        return bytes(new[:limit])

    return change


# -- where the records are


class Found(NamedTuple):
    """A record: its bytes, and the ranges of the WAL that they come from."""

    data: bytes
    ranges: list[tuple[int, int]]


def find_records(case: WalCase) -> list[Found]:
    """Returns the records that the page headers and lengths lead to, whole ones only."""
    data = case.data
    first = case.start_lsn
    at = 0
    if first % PAGE:
        at = -first % PAGE if case.flags & FIND_RECORD else 0
    if at + 24 <= len(data) and (first + at) % PAGE == 0:
        info, remaining = struct.unpack_from("<2xH12xI", data, at)
        if info & 1:
            at += header_size(data, at) + (remaining + 7 & -8)
    found = []
    while at < len(data):
        if (first + at) % PAGE == 0:
            at += header_size(data, at)
        if at + 4 > len(data):
            break
        left = struct.unpack_from("<I", data, at)[0]
        if not 24 <= left <= len(data):
            # Zeros, or damage: on at the next page.
            at += PAGE - (first + at) % PAGE
            continue
        ranges: list[tuple[int, int]] = []
        while left and at < len(data):
            if (first + at) % PAGE == 0:
                if ranges and data[at + 2 : at + 3] > b"\7":
                    break  # given up: the page begins with an OVERWRITE_CONTRECORD
                at += header_size(data, at)
            step = min(left, PAGE - (first + at) % PAGE, len(data) - at)
            if step <= 0:
                break
            ranges.append((at, at + step))
            at += step
            left -= step
        if not left:
            found.append(Found(b"".join(data[start:end] for start, end in ranges), ranges))
            at += -(first + at) % 8
    return found


def header_size(data: bytes, at: int) -> int:
    return 40 if at + 4 <= len(data) and data[at + 2] & 2 else 24


def mend_crcs(case: WalCase) -> WalCase:
    """Returns the WAL with the CRC of every record that can be found as it must be."""
    data = bytearray(case.data)
    for record in find_records(case):
        head = record.data[:20]
        right = struct.pack("<I", crc32c.crc32c(head, crc32c.crc32c(record.data[24:])))
        if right != record.data[20:24]:
            places = [i for start, end in record.ranges for i in range(start, end)][20:24]
            for place, value in zip(places, right, strict=True):
                data[place] = value
    return case._replace(data=bytes(data))


# -- changes


class Mutator:
    """Changes inputs; ``change_bytes`` is the fuzzer's own way with bytes."""

    def __init__(self, random: Random, change_bytes: ChangeBytes) -> None:
        self.random = random
        self.change_bytes = change_bytes

    def mutate(self, data: bytes, limit: int) -> bytes:
        """Returns another input of at most ``limit`` bytes."""
        limit = min(limit, LIMIT)
        case = unpack(data)
        if case is None or self.random.random() < 0.1:
            return self.change_bytes(data, limit)
        return self.change(case, limit).pack()[:limit]

    def change(self, case: Case, limit: int) -> Case:
        if isinstance(case, WalCase):
            return self.change_wal(case, limit)
        if isinstance(case, RecordCase):
            return self.change_record(case, limit)
        return self.change_image(case, limit)

    def change_wal(self, case: WalCase, limit: int) -> WalCase:
        dice = self.random.random()
        if dice < 0.1:
            return case._replace(seed=self.random.randrange(1 << 16))
        if dice < 0.15:
            return case._replace(flags=case.flags ^ 1 << self.random.randrange(4))
        if dice < 0.65:
            return self.lay_out(case, self.change_records(case, limit - 500), limit)
        data = bytearray(case.data)
        places = [0]
        places += range(-case.start_lsn % PAGE, len(data), PAGE)
        places += [start for record in find_records(case) for start, _ in record.ranges]
        at = min(self.random.choice(places), max(len(data) - 1, 0))
        size = self.random.choice((4, 8, 24, 40, 200))
        changed = self.change_bytes(bytes(data[at : at + size]), size)
        if self.random.random() < 0.8:
            # In place, so that what follows stays where it is.
            changed = (changed + data[at + len(changed) : at + size])[:size]
        data[at : at + size] = changed
        case = case._replace(data=bytes(data[:limit]))
        return mend_crcs(case) if self.random.random() < 0.7 else case

    def change_records(self, case: WalCase, limit: int) -> list[RecordCase]:
        records = [
            RecordCase(case.version, record.data[17], record.data[16], record.data[24:])
            for record in find_records(case)
        ]
        for _ in range(self.random.choice((1, 1, 2))):
            at = self.random.randrange(len(records) + 1)
            dice = self.random.random()
            if at == len(records) or dice < 0.1:
                operation = self.random.choice(sorted(operations(case.version)))
                records.insert(at, RecordCase(case.version, *operation, b""))
            elif dice < 0.2:
                del records[at]
            elif dice < 0.25:
                records.insert(at, self.random.choice(records))
            else:
                records[at] = self.change_record(records[at], limit)
        return records

    def lay_out(self, case: WalCase, records: list[RecordCase], limit: int) -> WalCase:
        wal = WalWriter(case.version, case.segment_size, case.start_lsn // PAGE * PAGE)
        wal.start_lsn = wal.lsn = -(-case.start_lsn // 8) * 8
        aborted = self.random.randrange(40)
        for number, record in enumerate(records):
            if len(wal.data) + len(record.body) > limit:
                break
            if number == aborted:
                wal.abort_record(9000, self.random.choice((0, 24, 64)))
            start = record_bytes(wal.prev, record.rmgr, record.info, number, record.body)
            wal.prev = wal.put(start)
            if record[1:3] == (0, 0x40) and -wal.lsn % wal.segment_size < 2 * PAGE:
                wal.raw(bytes(-wal.lsn % wal.segment_size))
        return case._replace(offset=wal.start_lsn % PAGE, data=bytes(wal.data))

    def change_image(self, case: ImageCase, limit: int) -> ImageCase:
        dice = self.random.random()
        if dice < 0.1:
            return case._replace(hole_offset=self.random.choice((0, 1, 600, 8191, 8192, 65535)))
        if dice < 0.2:
            return case._replace(hole_length=self.random.choice((0, 1, 4000, 8191, 8192, 65535)))
        if dice < 0.25:
            return case._replace(compression=self.random.randrange(5))
        return case._replace(data=self.change_bytes(case.data, limit - 8))

    def change_record(self, case: RecordCase, limit: int) -> RecordCase:
        dice = self.random.random()
        if dice < 0.04:
            return case._replace(version=self.random.choice(VERSIONS))
        if dice < 0.1:
            rmgr, info = self.random.choice(sorted(operations(case.version)))
            return case._replace(rmgr=rmgr, info=info | self.random.choice((0, 0, 0x80, 2)))
        if dice < 0.12:
            return case._replace(rmgr=self.random.choice((22, 128, 255)))
        if dice < 0.18:
            return case._replace(body=self.cut_headers(case))
        if dice < 0.22:
            end = self.random.choice((40, len(case.body))) + 1
            return case._replace(body=case.body[: self.random.randrange(end)])
        if dice < 0.4:
            return case._replace(body=self.change_bytes(case.body, limit))
        return case._replace(body=self.change_body(case, limit))

    def cut_headers(self, case: RecordCase) -> bytes:
        """Returns a body of headers that announce nothing, and a last one that may be cut."""
        whole = record_body(
            case.version,
            [Block(0, BufferTag(1663, 5, 16384, 0, 7))] * self.random.randrange(2),
            origin=self.random.choice((None, 3)),
            toplevel_xid=self.random.choice((None, 700)),
        )
        last = self.random.choice(_HEADERS)
        return whole + last[: self.random.randrange(len(last)) + 1]

    def change_body(self, case: RecordCase, limit: int) -> bytes:
        """Returns the body with one of its parts changed and the lengths in it right again."""
        raw = record_bytes(0, case.rmgr, case.info, 0, case.body)
        try:
            record = decode_wal_record(RawRecord(8, 64, raw), case.version)
        except RecordError:
            return self.change_bytes(case.body, limit)
        main_data = record.main_data
        blocks = [
            Block(ref.id, ref.tag, ref.data, ref.image, ref.will_init) for ref in record.blocks
        ]
        dice = self.random.random()
        if dice < 0.4 or not blocks:
            main_data = self.change_bytes(main_data, limit)
        else:
            at = self.random.randrange(len(blocks))
            blocks[at] = self.change_block(blocks[at], limit)
            if dice > 0.95:
                del blocks[at]
            elif dice > 0.9 and blocks[-1].id < 32:
                blocks.append(blocks[at]._replace(id=blocks[-1].id + 1))
        return record_body(
            case.version,
            blocks,
            main_data,
            origin=record.origin or (7 if self.random.random() < 0.05 else None),
            toplevel_xid=record.toplevel_xid or (7 if self.random.random() < 0.05 else None),
        )

    def change_block(self, block: Block, limit: int) -> Block:
        dice = self.random.random()
        if dice < 0.5:
            return block._replace(data=self.change_bytes(block.data, min(limit, 0xFFFF)))
        if dice < 0.6:
            place = self.random.randrange(5)
            numbers = list(block.tag)
            limit = 3 if place == 3 else 0xFFFFFFFF
            numbers[place] = min(self.random.choice(_NUMBERS), limit)
            return block._replace(tag=BufferTag(*numbers))
        if dice < 0.65:
            return block._replace(will_init=not block.will_init)
        if dice < 0.7:
            return block._replace(image=None)
        image = block.image or PageImage(b"image", 100, 8000, 1, True)
        packed = self.change_image(ImageCase(image.compression % 4, *image[1:3], image.data), limit)
        return block._replace(
            image=PageImage(
                packed.data[:0xFFFF],
                packed.hole_offset,
                packed.hole_length,
                packed.compression % 4,
                image.apply,
            )
        )
