"""The visibility map: two bits a heap block, 32672 heap blocks a map page (visibilitymap.c).

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
    from walstream.wal.buffer import fill, put8, u8, u16, u32


def visibility_set(page: Writable, heap_block: int, flags: int) -> int:
    """Sets bits of a heap block (visibilitymap_set); returns 1 where the page changed."""
    at = 24 + heap_block % 32672 // 4
    shift = heap_block % 4 * 2
    bits = u8(page, at)
    if (bits >> shift) & 3 == flags:
        return 0
    put8(page, at, bits | flags << shift)
    return 1


def visibility_clear(page: Writable, heap_block: int, flags: int) -> int:
    """Clears bits of a heap block (visibilitymap_clear); returns 1 where the page changed."""
    at = 24 + heap_block % 32672 // 4
    bits = u8(page, at)
    flags <<= heap_block % 4 * 2
    put8(page, at, bits & ~flags & 0xFF)
    return 1 if bits & flags else 0


def visibility_redo(t: Target, spc: int, db: int, rel: int) -> int:
    """Clears the bits in a map page that a record's flags say; returns 1 where it changed.

    Raises:
        RedoError: the record does nothing to this page.
    """
    if u16(t.page, 14) == 0:
        page_init(t.page, 0)
    if t.rmgr == 2 and t.op == 0x20:
        return truncate_tail(t, spc, db, rel)
    op = t.op & 0x70
    outcome = 0
    if t.rmgr == 10:
        if op == 0x00:  # INSERT: offset u16, flags
            t.need_main(3)
            if u8(t.p, t.main_at + 2) & 1:
                outcome = clear_for(t, 0, 3, spc, db, rel)
        elif op == 0x10:  # DELETE: xmax u32, offset u16, infobits, flags
            t.need_main(8)
            if u8(t.p, t.main_at + 7) & 1:
                outcome = clear_for(t, 0, 3, spc, db, rel)
        elif op == 0x20 or op == 0x40:  # UPDATE: flags for the old page 1, for the new page 2
            t.need_main(14)
            flags = u8(t.p, t.main_at + 7)
            if flags & 1:
                outcome = clear_for(t, 1 if t.reader.find_block(1) >= 0 else 0, 3, spc, db, rel)
            if flags & 2:
                outcome |= clear_for(t, 0, 3, spc, db, rel)
        elif op == 0x60:  # LOCK, as DELETE: only the all-frozen bit
            t.need_main(8)
            if u8(t.p, t.main_at + 7) & 1:
                outcome = clear_for(t, 0, 2, spc, db, rel)
    elif t.rmgr == 9:
        if op == 0x50:  # MULTI_INSERT: flags
            t.need_main(4)
            if u8(t.p, t.main_at) & 1:
                outcome = clear_for(t, 0, 3, spc, db, rel)
        elif op == 0x60:  # LOCK_UPDATED, as LOCK
            t.need_main(8)
            if u8(t.p, t.main_at + 7) & 1:
                outcome = clear_for(t, 0, 2, spc, db, rel)
    if outcome == 0:
        raise RedoError("the record clears no bits in this map page")
    return outcome >> 1


def clear_for(t: Target, block_id: int, flags: int, spc: int, db: int, rel: int) -> int:
    """Clears bits of the heap block of a reference.

    Returns 0 where the block is not of this map page, 1 where its bits were clear, 3 where the page
    changed.
    """
    r = t.reader
    i = r.find_block(block_id)
    if (
        i < 0
        or r.block_rel[i] != rel
        or r.block_db[i] != db
        or r.block_spc[i] != spc
        or r.block_fork[i] != 0
        or r.block_number[i] // 32672 != t.block
    ):
        return 0
    return 3 if visibility_clear(t.page, r.block_number[i], flags) else 1


def truncate_tail(t: Target, spc: int, db: int, rel: int) -> int:
    """Clears the bits of blocks that Storage/TRUNCATE cuts off (visibilitymap_prepare_truncate).

    Main data: block count u32, relation id 12 bytes, flags u32 (1 heap, 2 map, 4 FSM).
    """
    t.need_main(20)
    blocks = u32(t.p, t.main_at)
    if (
        u32(t.p, t.main_at + 4) != spc
        or u32(t.p, t.main_at + 8) != db
        or u32(t.p, t.main_at + 12) != rel
        or u32(t.p, t.main_at + 16) & 2 == 0
        or blocks // 32672 != t.block
    ):
        raise RedoError("the truncation does not touch this block")
    rest = blocks % 32672
    if rest != 0:
        at = 24 + rest // 4
        put8(t.page, at, u8(t.page, at) & ((1 << rest % 4 * 2) - 1))
        fill(t.page, at + 1, 8192 - at - 1, 0)
    return 0
