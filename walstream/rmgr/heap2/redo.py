"""Redo of the Heap2 resource manager (heap2_redo of heapam.c, heapam_xlog.c from 18 on).

What differs per version: pruning, freezing and vacuuming have records of their own up to 16 (their
bodies changed in 16) and share one from 17 on. The rest is the same in 14 to 18.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cython

from walstream.errors import RedoError, UnsupportedRecord

if TYPE_CHECKING:
    from walstream.rmgr.heap.effects import PruneParts
if not cython.compiled:
    from walstream.redo.rules.page import (
        max_offset,
        page_init,
        repair_fragmentation,
        set_item_id,
        truncate_line_pointers,
    )
    from walstream.redo.rules.target import Target
    from walstream.rmgr.heap.layout import (
        HEAPBLOCKS_PER_PAGE,
        SizeOfFreezePlan,
        SizeofHeapTupleHeader,
        SizeOfMultiInsertTuple,
        t_cid,
        t_infomask,
        t_infomask2,
        t_xmax,
        xlhp_freeze_plan_frzflags,
        xlhp_freeze_plan_ntuples,
        xlhp_freeze_plan_t_infomask,
        xlhp_freeze_plan_t_infomask2,
        xlhp_freeze_plan_xmax,
    )
    from walstream.rmgr.heap.redo import heap_at, new_tuple, only_block, put_header, set_lock_bits
    from walstream.rmgr.heap.visibilitymap import visibility_set
    from walstream.wal.buffer import move, put16, put32, u8, u16, u32
    from walstream.wal.bufpage import (
        LP_DEAD,
        LP_REDIRECT,
        LP_UNUSED,
        PD_ALL_VISIBLE,
        FrozenTransactionId,
        InvalidTransactionId,
        pd_flags,
        pd_upper,
        set_pd_flags,
    )
    from walstream.wal.opcodes import (
        VISIBILITYMAP_VALID_BITS,
        XLH_FREEZE_XVAC,
        XLH_INSERT_ALL_FROZEN_SET,
        XLH_INSERT_ALL_VISIBLE_CLEARED,
        XLH_INVALID_XVAC,
        XLHP_CLEANUP_LOCK,
        XLOG_HEAP2_FREEZE_PAGE,
        XLOG_HEAP2_LOCK_UPDATED,
        XLOG_HEAP2_MULTI_INSERT,
        XLOG_HEAP2_PRUNE,
        XLOG_HEAP2_VACUUM,
        XLOG_HEAP2_VISIBLE,
        XLOG_HEAP_INIT_PAGE,
    )


def heap2_redo(t: Target) -> int:
    if t.op == XLOG_HEAP2_VISIBLE:
        return visible_redo(t)
    only_block(t)
    if t.op == XLOG_HEAP2_PRUNE or t.op == XLOG_HEAP2_VACUUM or t.op == XLOG_HEAP2_FREEZE_PAGE:
        if t.version >= 17:
            return prune_freeze_redo(t)
        if t.op == XLOG_HEAP2_PRUNE:
            return prune_redo(t)
        if t.op == XLOG_HEAP2_VACUUM:
            return vacuum_redo(t)
        return freeze_redo(t)
    if t.op == XLOG_HEAP2_MULTI_INSERT or t.op == XLOG_HEAP2_MULTI_INSERT | XLOG_HEAP_INIT_PAGE:
        return multi_insert_redo(t)
    if t.op == XLOG_HEAP2_LOCK_UPDATED:
        return lock_updated_redo(t)
    raise UnsupportedRecord("the operation has no redo rule")


def set_redirects(t: Target, at: int, count: int) -> int:
    """Makes line pointers redirect: ``count`` pairs (from u16, to u16)."""
    limit = max_offset(t.page)
    for _ in range(count):
        offset = u16(t.p, at)
        to_offset = u16(t.p, at + 2)
        if offset < 1 or offset > limit:
            raise RedoError(f"invalid line pointer {offset}: page has {limit}")
        set_item_id(t.page, offset, to_offset, LP_REDIRECT, 0)
        at += 4
    return 0


def set_lines(t: Target, at: int, count: int, flags: int) -> int:
    """Makes ``count`` line pointers dead (flags 3) or unused (0)."""
    limit = max_offset(t.page)
    for _ in range(count):
        offset = u16(t.p, at)
        if offset < 1 or offset > limit:
            raise RedoError(f"invalid line pointer {offset}: page has {limit}")
        set_item_id(t.page, offset, 0, flags, 0)
        at += 2
    return 0


def set_pruned(t: Target, parts: PruneParts) -> int:
    """Sets the line pointers of a pruned page, which keeps its tuples where they lie."""
    # heap_page_prune_execute
    set_redirects(t, parts.redirected_at, parts.redirected)
    set_lines(t, parts.dead_at, parts.dead, LP_DEAD)
    set_lines(t, parts.unused_at, parts.unused, LP_UNUSED)
    return 0


def prune_redo(t: Target) -> int:
    """14 to 16. Main data: xid u32, redirected u16, dead u16. Block data: pairs, dead, unused."""
    # heap_xlog_prune
    t.need_main(8)
    parts = t.pruned
    redirected = u16(t.p, t.main_at + 4)
    dead = u16(t.p, t.main_at + 6)
    if parts.find_counted(t.data_at, t.data_length, redirected, dead) != 0:
        raise RedoError(f"block data too short: {t.data_length} bytes")
    set_pruned(t, parts)
    repair_fragmentation(t.page, t.version >= 15)
    return 1


def vacuum_redo(t: Target) -> int:
    """14 to 16. Main data: unused u16. Block data: their offset numbers."""
    # heap_xlog_vacuum
    t.need_main(2)
    count = u16(t.p, t.main_at)
    t.need_data(2 * count)
    set_lines(t, t.data_at, count, LP_UNUSED)
    truncate_line_pointers(t.page)
    return 1


def freeze_tuple(
    t: Target, offset: int, xmax: int, infomask2: int, infomask: int, flags: int
) -> int:
    """Mirrors heap_execute_freeze_tuple."""
    at = heap_at(t.page, offset)
    put32(t.page, at + t_xmax, xmax)
    if flags & XLH_FREEZE_XVAC:
        put32(t.page, at + t_cid, FrozenTransactionId)
    if flags & XLH_INVALID_XVAC:
        put32(t.page, at + t_cid, InvalidTransactionId)
    put16(t.page, at + t_infomask, infomask)
    put16(t.page, at + t_infomask2, infomask2)
    return 0


def freeze_redo(t: Target) -> int:
    """14 to 16. Main data: xid u32, count u16.

    Block data of 14 and 15: per tuple xmax u32, offset u16, infomask2 u16, infomask u16, flags u8,
    one byte of padding. Of 16: plans, then the offset numbers of all plans.
    """
    # heap_xlog_freeze_page
    t.need_main(6)
    count = u16(t.p, t.main_at + 4)
    # Plans of 16 have the size of the tuples of 14 and 15.
    t.need_data(SizeOfFreezePlan * count)
    at = t.data_at
    if t.version >= 16:
        return freeze_plans(t, at, count, at + SizeOfFreezePlan * count, at + t.data_length)
    for _ in range(count):
        freeze_tuple(
            t,
            u16(t.p, at + 4),
            u32(t.p, at),
            u16(t.p, at + 6),
            u16(t.p, at + 8),
            u8(t.p, at + 10),
        )
        at += SizeOfFreezePlan
    return 1


def freeze_plans(t: Target, plans: int, count: int, offsets: int, end: int) -> int:
    for i in range(count):
        plan = plans + SizeOfFreezePlan * i
        ntuples = u16(t.p, plan + xlhp_freeze_plan_ntuples)
        if end - offsets < 2 * ntuples:
            raise RedoError(f"freeze plan of {ntuples} tuples, {end - offsets} bytes left")
        for _ in range(ntuples):
            freeze_tuple(
                t,
                u16(t.p, offsets),
                u32(t.p, plan + xlhp_freeze_plan_xmax),
                u16(t.p, plan + xlhp_freeze_plan_t_infomask2),
                u16(t.p, plan + xlhp_freeze_plan_t_infomask),
                u8(t.p, plan + xlhp_freeze_plan_frzflags),
            )
            offsets += 2
    return 1


def prune_freeze_redo(t: Target) -> int:
    """17 and 18. Main data: reason u8, flags u8, xid u32 where flagged. Block data: PruneParts."""
    # heap_xlog_prune_freeze
    t.need_main(2)
    flags = u8(t.p, t.main_at + 1)
    parts = t.pruned
    if parts.find(t.p, t.data_at, t.data_length, flags) != 0:
        raise RedoError(f"block data too short: {t.data_length} bytes")
    if parts.redirected + parts.dead + parts.unused != 0:
        set_pruned(t, parts)
        if flags & XLHP_CLEANUP_LOCK:
            repair_fragmentation(t.page, True)
        else:
            truncate_line_pointers(t.page)
    end = t.data_at + t.data_length
    freeze_plans(t, parts.plans_at, parts.plans, parts.offsets_at, end)
    return 1


def visible_redo(t: Target) -> int:
    """Main data: xid u32, flags u8. Reference 0 is the map page, 1 the heap page."""
    # heap_xlog_visible
    t.need_main(5)
    if t.block_id == 1:
        set_pd_flags(t.page, pd_flags(t.page) | PD_ALL_VISIBLE)
        # Only a cluster that logs hint bits moves the heap page's LSN.
        return 1 if t.stamp_hints else 0
    only_block(t)
    r = t.reader
    i = r.find_block(1)
    if i < 0:
        raise RedoError("record has no block reference 1")
    if r.block_number[i] // HEAPBLOCKS_PER_PAGE != t.block:
        raise RedoError(f"heap block {r.block_number[i]} is not in this map page")
    if pd_upper(t.page) == 0:
        page_init(t.page, 0)
    flags = u8(t.p, t.main_at + 4) & VISIBILITYMAP_VALID_BITS
    return visibility_set(t.page, r.block_number[i], flags)


def multi_insert_redo(t: Target) -> int:
    """Main data: flags u8, padding, count u16, offset numbers (none where the page is initialised).

    Block data, per tuple from an even position on: length u16, infomask2 u16, infomask u16,
    hoff u8, the tuple from byte 23 on.
    """
    # heap_xlog_multi_insert
    t.need_main(4)
    m = t.main_at
    flags = u8(t.p, m)
    count = u16(t.p, m + 2)
    init = t.op & XLOG_HEAP_INIT_PAGE != 0
    if init:
        page_init(t.page, 0)
    else:
        t.need_main(4 + 2 * count)
    at = t.data_at
    end = at + t.data_length
    for i in range(count):
        offset = i + 1 if init else u16(t.p, m + 4 + 2 * i)
        at += (at - t.data_at) & 1
        if end - at < SizeOfMultiInsertTuple:
            raise RedoError(f"tuple {i} of {count}: {end - at} bytes left")
        length = u16(t.p, at)
        if end - at - SizeOfMultiInsertTuple < length:
            raise RedoError(
                f"tuple {i} of {count}: {length} bytes, {end - at - SizeOfMultiInsertTuple} left"
            )
        to = new_tuple(t.page, offset, SizeofHeapTupleHeader + length)
        put_header(
            t.page,
            to,
            t.xid,
            0,
            t.block,
            offset,
            u16(t.p, at + 2),
            u16(t.p, at + 4),
            u8(t.p, at + 6),
        )
        move(t.page, to + SizeofHeapTupleHeader, t.p, at + SizeOfMultiInsertTuple, length)
        at += SizeOfMultiInsertTuple + length
    if at != end:
        raise RedoError(f"total tuple length mismatch: {end - at} bytes left")
    if flags & XLH_INSERT_ALL_VISIBLE_CLEARED:
        set_pd_flags(t.page, pd_flags(t.page) & ~PD_ALL_VISIBLE)
    if flags & XLH_INSERT_ALL_FROZEN_SET:
        set_pd_flags(t.page, pd_flags(t.page) | PD_ALL_VISIBLE)
    return 1


def lock_updated_redo(t: Target) -> int:
    """Main data: xmax u32, offset u16, infobits u8, flags u8."""
    # heap_xlog_lock_updated
    t.need_main(8)
    m = t.main_at
    at = heap_at(t.page, u16(t.p, m + 4))
    set_lock_bits(t.page, at, u8(t.p, m + 6))
    put32(t.page, at + t_xmax, u32(t.p, m))
    return 1
