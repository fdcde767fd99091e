"""The checksum of a page (pg_checksum_page): 32 parallel FNV-1a sums over its 2048 words.

WAL carries no valid checksums: an image shows the one that the page had on disk before. So a page
gets its checksum when it leaves walstream, where its cluster has them on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cython

if TYPE_CHECKING:
    from walstream.wal.buffer import Bytes
if not cython.compiled:
    from walstream.wal.buffer import bytes_of, u32
    from walstream.wal.bufpage import (
        BLCKSZ,
        PG_UINT32_MAX,
        pd_checksum_at,
        pd_flags,
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
    """The sums while they are made."""

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
    return checksum_of(bytes_of(page), block)


def with_checksum(page: bytes, block: int) -> bytes:
    """Returns the page with its checksum stamped; a new page (pd_upper 0) has none."""
    if page[pd_upper_at : pd_upper_at + 2] == b"\0\0":
        return page
    return (
        page[:pd_checksum_at]
        + page_checksum(page, block).to_bytes(2, "little")
        + page[pd_flags_at:]
    )


def checksum_of(page: Bytes, block: int) -> int:
    lanes = LANES
    for j in range(32):
        lanes.sums[j] = lanes.start[j]
    for i in range(64):
        at = 128 * i
        for j in range(32):
            mixed = lanes.sums[j] ^ u32(page, at + 4 * j)
            # the stored checksum is the low half of the third word and counts as zero
            if i == 0 and j == 2:
                mixed = lanes.sums[j] ^ pd_flags(page) << 16
            lanes.sums[j] = (mixed * 16777619 ^ mixed >> 17) & PG_UINT32_MAX
    for _ in range(2):
        for j in range(32):
            mixed = lanes.sums[j]
            lanes.sums[j] = (mixed * 16777619 ^ mixed >> 17) & PG_UINT32_MAX
    result = 0
    for j in range(32):
        result ^= lanes.sums[j]
    return (result ^ block) % 65535 + 1
