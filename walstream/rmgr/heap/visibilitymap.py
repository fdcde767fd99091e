"""The visibility map: two bits a heap block (visibilitymap.c).

Heap2/VISIBLE names the map page whose bits it sets. Heap records clear bits through flags in their
main data. Servers up to 18.4 do not name the map page then: its bits are cleared whatever its LSN,
which stays as it is. Later minor releases name it (fork 2) where a bit was set, and stamp it. A
relation's truncation clears the tail of its last map page, again without naming it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cython

from walstream.errors import RedoError

if TYPE_CHECKING:
    from walstream.wal.buffer import Writable
if not cython.compiled:
    from walstream.redo.rules.page import page_init
    from walstream.redo.rules.target import Target
    from walstream.rmgr.heap.effects import cleared_bits, new_heap_block, old_heap_block
    from walstream.rmgr.heap.layout import (
        BITS_PER_HEAPBLOCK,
        HEAPBLOCKS_PER_BYTE,
        HEAPBLOCKS_PER_PAGE,
        OLD_BLOCK_SHIFT,
    )
    from walstream.wal.buffer import fill, put8, u8, u32
    from walstream.wal.bufpage import BLCKSZ, SizeOfPageHeaderData, pd_upper
    from walstream.wal.layout import RM_SMGR_ID
    from walstream.wal.opcodes import (
        SMGR_TRUNCATE_VM,
        VISIBILITYMAP_VALID_BITS,
        XLOG_SMGR_TRUNCATE,
    )


def visibility_set(page: Writable, heap_block: int, flags: int) -> int:
    """Sets bits of a heap block (visibilitymap_set); returns 1 where the page changed."""
    at = SizeOfPageHeaderData + heap_block % HEAPBLOCKS_PER_PAGE // HEAPBLOCKS_PER_BYTE
    shift = heap_block % HEAPBLOCKS_PER_BYTE * BITS_PER_HEAPBLOCK
    bits = u8(page, at)
    if (bits >> shift) & VISIBILITYMAP_VALID_BITS == flags:
        return 0
    put8(page, at, bits | flags << shift)
    return 1


def visibility_clear(page: Writable, heap_block: int, flags: int) -> int:
    """Clears bits of a heap block (visibilitymap_clear); returns 1 where the page changed."""
    at = SizeOfPageHeaderData + heap_block % HEAPBLOCKS_PER_PAGE // HEAPBLOCKS_PER_BYTE
    bits = u8(page, at)
    flags <<= heap_block % HEAPBLOCKS_PER_BYTE * BITS_PER_HEAPBLOCK
    put8(page, at, bits & ~flags & 0xFF)
    return 1 if bits & flags else 0


def visibility_redo(t: Target, spc: int, db: int, rel: int) -> int:
    """Clears the bits in a map page that a record's flags say; returns 1 where it changed.

    Raises:
        RedoError: the record does nothing to this page.
    """
    if pd_upper(t.page) == 0:
        page_init(t.page, 0)
    if t.rmgr == RM_SMGR_ID and t.op == XLOG_SMGR_TRUNCATE:
        return truncate_tail(t, spc, db, rel)
    bits = cleared_bits(t.p, t.main_at, t.main_length, t.rmgr, t.info)
    if bits < 0:
        raise RedoError(f"main data too short: {t.main_length} bytes")
    outcome = 0
    flags = bits >> OLD_BLOCK_SHIFT
    if flags:
        outcome = clear_for(t, old_heap_block(t.reader), flags, spc, db, rel)
    flags = bits & VISIBILITYMAP_VALID_BITS
    if flags:
        outcome |= clear_for(t, new_heap_block(t.reader), flags, spc, db, rel)
    if outcome == 0:
        raise RedoError("the record clears no bits in this map page")
    return outcome >> 1


def clear_for(t: Target, i: int, flags: int, spc: int, db: int, rel: int) -> int:
    """Clears bits of the heap block of reference ``i``.

    Returns 0 where the block is not of this map page, 1 where its bits were clear, 3 where the page
    changed.
    """
    r = t.reader
    if (
        i < 0
        or r.block_rel[i] != rel
        or r.block_db[i] != db
        or r.block_spc[i] != spc
        or r.block_number[i] // HEAPBLOCKS_PER_PAGE != t.block
    ):
        return 0
    return 3 if visibility_clear(t.page, r.block_number[i], flags) else 1


def truncate_tail(t: Target, spc: int, db: int, rel: int) -> int:
    """Clears the bits of blocks that Storage/TRUNCATE cuts off (visibilitymap_prepare_truncate).

    Main data: block count u32, relation id 12 bytes, flags u32.
    """
    t.need_main(20)
    blocks = u32(t.p, t.main_at)
    if (
        u32(t.p, t.main_at + 4) != spc
        or u32(t.p, t.main_at + 8) != db
        or u32(t.p, t.main_at + 12) != rel
        or u32(t.p, t.main_at + 16) & SMGR_TRUNCATE_VM == 0
        or blocks // HEAPBLOCKS_PER_PAGE != t.block
    ):
        raise RedoError("the truncation does not touch this block")
    rest = blocks % HEAPBLOCKS_PER_PAGE
    if rest != 0:
        at = SizeOfPageHeaderData + rest // HEAPBLOCKS_PER_BYTE
        put8(
            t.page,
            at,
            u8(t.page, at) & ((1 << rest % HEAPBLOCKS_PER_BYTE * BITS_PER_HEAPBLOCK) - 1),
        )
        fill(t.page, at + 1, BLCKSZ - at - 1, 0)
    return 0
