"""The checksum of a page (pg_checksum_page): 32 parallel FNV-1a sums over its 2048 words.

WAL carries no valid checksums: an image shows the one that the page had on disk before. So a page
gets its checksum when it leaves walstream, where its cluster has them on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cython

if TYPE_CHECKING:
    from walstream.wal.buffer import Bytes, Writable
if not cython.compiled:
    from walstream.wal.buffer import bytes_of, put8, put16, u16, u32, writable_of
    from walstream.wal.bufpage import (
        BLCKSZ,
        PG_UINT32_MAX,
        pd_checksum_at,
        pd_flags_at,
        pd_upper_at,
    )


# Where each of the sums starts (checksumBaseOffsets); part of the on-disk format.
STARTS = (
    0x5B1F36E9, 0xB8525960, 0x02AB50AA, 0x1DE66D2A, 0x79FF467A, 0x9BB9F8A3, 0x217E7CD2, 0x83E13D2C,
    0xF8D4474F, 0xE39EB970, 0x42C6AE16, 0x993216FA, 0x7B093B5D, 0x98DAFF3C, 0xF718902A, 0x0B1C9CDB,
    0xE58F764B, 0x187636BC, 0x5D7B3BB1, 0xE73DE7DE, 0x92BEC979, 0xCCA6C0B2, 0x304A0979, 0x85AA43D4,
    0x783125BB, 0x6CA8EAA2, 0xE407EAC6, 0x4B5CFC3E, 0x9FBF8C76, 0x15CA20BE, 0xF2CA9FD3, 0x959BD756,
)  # fmt: skip


class Lanes:
    """The sums while they are made; one owner."""

    def __init__(self) -> None:
        if not cython.compiled:
            self.start = [0] * 32
            self.sums = [0] * 32
        for j in range(32):
            self.start[j] = STARTS[j]


LANES = Lanes()


def page_checksum(page: Bytes, block: int) -> int:
    """Returns what pd_checksum of this page (8192 bytes) must be in block ``block``."""
    if len(page) != BLCKSZ:
        raise ValueError(f"page length: expected {BLCKSZ}, got {len(page)}")
    return checksum_of(LANES, bytes_of(page), 0, block)


def with_checksum(page: bytes, block: int) -> bytes:
    """Returns the page with its checksum stamped; a new page (pd_upper 0) has none."""
    if page[pd_upper_at : pd_upper_at + 2] == b"\0\0":
        return page
    return (
        page[:pd_checksum_at]
        + page_checksum(page, block).to_bytes(2, "little")
        + page[pd_flags_at:]
    )


def prove_pages(pages: Bytes, first_block: int, proven: Writable) -> int:
    """Sets ``proven[i]`` to 1 for each page with its right checksum, else to 0; other threads run.

    A page without pd_upper (PageIsNew) has none. ``pages`` are those from ``first_block`` on, as
    many as ``proven`` has bytes. Returns how many are proven.
    """
    if len(pages) < len(proven) * BLCKSZ:
        raise ValueError(f"pages: expected {len(proven) * BLCKSZ} bytes, got {len(pages)}")
    count = len(proven)
    p, q = bytes_of(pages), writable_of(proven)
    found = 0
    lanes = Lanes()
    with cython.nogil:
        for i in range(count):
            at = i * BLCKSZ
            right = u16(p, at + pd_upper_at) != 0 and u16(p, at + pd_checksum_at) == checksum_of(
                lanes, p, at, first_block + i
            )
            put8(q, i, 1 if right else 0)
            found += 1 if right else 0
    return found


def stamp_pages(pages: Writable, blocks: Bytes) -> int:
    """Stamps each of some pages with its checksum, as ``with_checksum``; other threads run.

    ``blocks``: their numbers, u32 little-endian. Returns how many there are.
    """
    count = len(blocks) // 4
    if len(pages) < count * BLCKSZ:
        raise ValueError(f"pages: expected {count * BLCKSZ} bytes, got {len(pages)}")
    p, q = writable_of(pages), bytes_of(blocks)
    lanes = Lanes()
    with cython.nogil:
        for i in range(count):
            at = i * BLCKSZ
            if u16(p, at + pd_upper_at) != 0:
                put16(p, at + pd_checksum_at, checksum_of(lanes, p, at, u32(q, 4 * i)))
    return count


def checksum_of(lanes: Lanes, page: Bytes, at: int, block: int) -> int:
    """Returns the checksum of the page at ``at``."""
    for j in range(32):
        mixed = lanes.start[j] ^ u32(page, at + 4 * j)
        # The stored checksum is the low half of the third word and counts as zero.
        if j == 2:
            mixed = lanes.start[j] ^ u16(page, at + pd_flags_at) << 16
        lanes.sums[j] = (mixed * 16777619 ^ mixed >> 17) & PG_UINT32_MAX
    for i in range(1, 64):
        for j in range(32):
            mixed = lanes.sums[j] ^ u32(page, at + 128 * i + 4 * j)
            lanes.sums[j] = (mixed * 16777619 ^ mixed >> 17) & PG_UINT32_MAX
    for _ in range(2):
        for j in range(32):
            mixed = lanes.sums[j]
            lanes.sums[j] = (mixed * 16777619 ^ mixed >> 17) & PG_UINT32_MAX
    result = 0
    for j in range(32):
        result ^= lanes.sums[j]
    return (result ^ block) % 65535 + 1
