"""Redo of the Heap resource manager (heap_redo of heapam.c).

A tuple on its page: xmin u32 0, xmax u32 4, command id u32 8, ctid 12 (block high u16, low u16,
offset u16), infomask2 u16 18, infomask u16 20, hoff u8 22, then null bitmap, padding, data.
A tuple in WAL leaves out what the record implies: infomask2 u16, infomask u16, hoff u8, then
everything from byte 23 on. The bodies are the same in 14 to 18.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cython

from walstream.errors import RedoError, UnsupportedRecord

if TYPE_CHECKING:
    from walstream.wal.buffer import Bytes, Writable
if not cython.compiled:
    from walstream.redo.rules.page import check_pointers, item_id, max_offset, page_init
    from walstream.redo.rules.target import Target
    from walstream.rmgr.heap.layout import (
        HEAP_COMBOCID,
        HEAP_HOT_UPDATED,
        HEAP_KEYS_UPDATED,
        HEAP_LOCK_MASK,
        HEAP_MOVED,
        HEAP_XMAX_BITS,
        HEAP_XMAX_EXCL_LOCK,
        HEAP_XMAX_IS_MULTI,
        HEAP_XMAX_KEYSHR_LOCK,
        HEAP_XMAX_LOCK_ONLY,
        MaxHeapTupleSize,
        MaxHeapTuplesPerPage,
        MovedPartitionsOffsetNumber,
        SizeOfHeapHeader,
        SizeofHeapTupleHeader,
        t_cid,
        t_ctid,
        t_ctid_offset,
        t_hoff,
        t_infomask,
        t_infomask2,
        t_xmax,
        t_xmin,
    )
    from walstream.wal.buffer import move, put8, put16, put32, u8, u16, u32
    from walstream.wal.bufpage import (
        BLCKSZ,
        LP_NORMAL,
        PD_ALL_VISIBLE,
        FirstNormalTransactionId,
        InvalidBlockNumber,
        InvalidTransactionId,
        SizeOfItemIdData,
        SizeOfPageHeaderData,
        item_id_at,
        line_pointer,
        lp_flags,
        lp_in_use,
        lp_len,
        lp_off,
        maxalign,
        pd_flags,
        pd_lower,
        pd_prune_xid,
        pd_upper,
        put_block,
        set_pd_flags,
        set_pd_lower,
        set_pd_prune_xid,
        set_pd_upper,
    )
    from walstream.wal.opcodes import (
        XLH_DELETE_ALL_VISIBLE_CLEARED,
        XLH_DELETE_IS_PARTITION_MOVE,
        XLH_DELETE_IS_SUPER,
        XLH_INSERT_ALL_FROZEN_SET,
        XLH_INSERT_ALL_VISIBLE_CLEARED,
        XLH_UPDATE_NEW_ALL_VISIBLE_CLEARED,
        XLH_UPDATE_OLD_ALL_VISIBLE_CLEARED,
        XLH_UPDATE_PREFIX_FROM_OLD,
        XLH_UPDATE_SUFFIX_FROM_OLD,
        XLHL_KEYS_UPDATED,
        XLHL_XMAX_EXCL_LOCK,
        XLHL_XMAX_IS_MULTI,
        XLHL_XMAX_KEYSHR_LOCK,
        XLHL_XMAX_LOCK_ONLY,
        XLOG_HEAP_CONFIRM,
        XLOG_HEAP_DELETE,
        XLOG_HEAP_HOT_UPDATE,
        XLOG_HEAP_INIT_PAGE,
        XLOG_HEAP_INPLACE,
        XLOG_HEAP_INSERT,
        XLOG_HEAP_LOCK,
        XLOG_HEAP_OPMASK,
        XLOG_HEAP_UPDATE,
    )


def heap_redo(t: Target) -> int:
    op = t.op & XLOG_HEAP_OPMASK
    if op == XLOG_HEAP_INSERT:
        return insert_redo(t)
    if op == XLOG_HEAP_UPDATE or op == XLOG_HEAP_HOT_UPDATE:
        return update_redo(t)
    if op == XLOG_HEAP_DELETE:
        return delete_redo(t)
    if op == XLOG_HEAP_LOCK:
        return lock_redo(t)
    if op == XLOG_HEAP_INPLACE:
        return inplace_redo(t)
    if op == XLOG_HEAP_CONFIRM:
        return confirm_redo(t)
    raise UnsupportedRecord("the operation has no redo rule")


def heap_at(page: Bytes, offset: int) -> int:
    """Returns where a normal tuple starts; its 23 header bytes and its length are on the page."""
    if offset < 1 or offset > cython.cast(cython.uint, max_offset(page)):
        raise RedoError(f"invalid line pointer {offset}: page has {max_offset(page)}")
    lp = item_id(page, offset)
    at = lp_off(lp)
    if (
        lp_flags(lp) != LP_NORMAL
        or lp_len(lp) < SizeofHeapTupleHeader
        or at < SizeOfPageHeaderData
        or at + lp_len(lp) > BLCKSZ
    ):
        raise RedoError(
            f"invalid line pointer {offset}: flags {lp_flags(lp)}, offset {at}, length {lp_len(lp)}"
        )
    return at


def put_ctid(page: Writable, at: int, block: int, offset: int) -> int:
    put_block(page, at + t_ctid, block)
    put16(page, at + t_ctid_offset, offset)
    return 0


def set_prunable(page: Writable, xid: int) -> int:
    """Lowers pd_prune_xid to ``xid`` (PageSetPrunable)."""
    old = pd_prune_xid(page)
    # TransactionIdPrecedes: ids below 3 are older than all others, those compare modulo 2^32.
    if (
        old == InvalidTransactionId
        or ((xid < FirstNormalTransactionId or old < FirstNormalTransactionId) and xid < old)
        or (
            xid >= FirstNormalTransactionId
            and old >= FirstNormalTransactionId
            and ((xid - old) >> 31) & 1
        )
    ):
        set_pd_prune_xid(page, xid)
    return 0


def set_lock_bits(page: Writable, at: int, infobits: int) -> int:
    """Replaces what a tuple says of its xmax (fix_infomask_from_infobits)."""
    infomask = u16(page, at + t_infomask) & ~(HEAP_XMAX_BITS | HEAP_MOVED)
    infomask2 = u16(page, at + t_infomask2) & ~HEAP_KEYS_UPDATED
    if infobits & XLHL_XMAX_IS_MULTI:
        infomask |= HEAP_XMAX_IS_MULTI
    if infobits & XLHL_XMAX_LOCK_ONLY:
        infomask |= HEAP_XMAX_LOCK_ONLY
    if infobits & XLHL_XMAX_EXCL_LOCK:
        infomask |= HEAP_XMAX_EXCL_LOCK
    if infobits & XLHL_XMAX_KEYSHR_LOCK:
        infomask |= HEAP_XMAX_KEYSHR_LOCK
    if infobits & XLHL_KEYS_UPDATED:
        infomask2 |= HEAP_KEYS_UPDATED
    put16(page, at + t_infomask, infomask)
    put16(page, at + t_infomask2, infomask2)
    return 0


def new_tuple(page: Writable, offset: int, size: int) -> int:
    """Makes room for a tuple at an unused line pointer; returns where its bytes go.

    As ``page.add_item`` with both of its flags, but the caller writes the bytes in place.
    """
    check_pointers(page)
    limit = max_offset(page) + 1
    if offset < 1 or offset > limit:
        raise RedoError(f"invalid max offset number: record says {offset}, page has {limit - 1}")
    if offset > MaxHeapTuplesPerPage:
        raise RedoError(
            f"cannot put more than {MaxHeapTuplesPerPage} items in a heap page: {offset}"
        )
    lower = pd_lower(page)
    if offset == limit:
        lower += SizeOfItemIdData
    elif lp_in_use(item_id(page, offset)):
        raise RedoError(f"will not overwrite a used line pointer: {offset}")
    upper = pd_upper(page)
    aligned = maxalign(size)
    if size > MaxHeapTupleSize or lower + aligned > upper:
        raise RedoError(f"no room for a tuple of {size} bytes: lower = {lower}, upper = {upper}")
    upper -= aligned
    put32(page, item_id_at(offset), line_pointer(upper, LP_NORMAL, size))
    set_pd_lower(page, lower)
    set_pd_upper(page, upper)
    return upper


def put_header(
    page: Writable,
    to: int,
    xmin: int,
    xmax: int,
    block: int,
    offset: int,
    infomask2: int,
    infomask: int,
    hoff: int,
) -> int:
    put32(page, to + t_xmin, xmin)
    put32(page, to + t_xmax, xmax)
    put32(page, to + t_cid, 0)
    put_ctid(page, to, block, offset)
    put16(page, to + t_infomask2, infomask2)
    # HeapTupleHeaderSetCmin takes HEAP_COMBOCID away.
    put16(page, to + t_infomask, infomask & ~HEAP_COMBOCID)
    put8(page, to + t_hoff, hoff)
    return 0


def only_block(t: Target) -> int:
    if t.block_id != 0:
        raise RedoError(f"block reference: expected 0, got {t.block_id}")
    return 0


def insert_redo(t: Target) -> int:
    """Main data: offset u16, flags u8. Block data: the tuple."""
    # heap_xlog_insert
    only_block(t)
    t.need_main(3)
    t.need_data(SizeOfHeapHeader + 1)
    if t.op & XLOG_HEAP_INIT_PAGE:
        page_init(t.page, 0)
    offset = u16(t.p, t.main_at)
    flags = u8(t.p, t.main_at + 2)
    at = t.data_at
    body = t.data_length - SizeOfHeapHeader
    to = new_tuple(t.page, offset, SizeofHeapTupleHeader + body)
    put_header(
        t.page, to, t.xid, 0, t.block, offset, u16(t.p, at), u16(t.p, at + 2), u8(t.p, at + 4)
    )
    move(t.page, to + SizeofHeapTupleHeader, t.p, at + SizeOfHeapHeader, body)
    if flags & XLH_INSERT_ALL_VISIBLE_CLEARED:
        set_pd_flags(t.page, pd_flags(t.page) & ~PD_ALL_VISIBLE)
    if flags & XLH_INSERT_ALL_FROZEN_SET:
        set_pd_flags(t.page, pd_flags(t.page) | PD_ALL_VISIBLE)
    return 1


def delete_redo(t: Target) -> int:
    """Main data: xmax u32, offset u16, infobits u8, flags u8."""
    # heap_xlog_delete
    only_block(t)
    t.need_main(8)
    m = t.main_at
    offset = u16(t.p, m + 4)
    flags = u8(t.p, m + 7)
    at = heap_at(t.page, offset)
    set_lock_bits(t.page, at, u8(t.p, m + 6))
    put16(t.page, at + t_infomask2, u16(t.page, at + t_infomask2) & ~HEAP_HOT_UPDATED)
    put16(t.page, at + t_infomask, u16(t.page, at + t_infomask) & ~HEAP_COMBOCID)
    if flags & XLH_DELETE_IS_SUPER:
        # of a speculative tuple, which nobody shall see
        put32(t.page, at + t_xmin, InvalidTransactionId)
    else:
        put32(t.page, at + t_xmax, u32(t.p, m))
    put32(t.page, at + t_cid, 0)
    set_prunable(t.page, t.xid)
    if flags & XLH_DELETE_ALL_VISIBLE_CLEARED:
        set_pd_flags(t.page, pd_flags(t.page) & ~PD_ALL_VISIBLE)
    if flags & XLH_DELETE_IS_PARTITION_MOVE:
        put_ctid(t.page, at, InvalidBlockNumber, MovedPartitionsOffsetNumber)
    else:
        put_ctid(t.page, at, t.block, offset)
    return 1


def update_redo(t: Target) -> int:
    """Main data: old xmax u32, offset u16, infobits u8, flags u8, new xmax u32, new offset u16.

    Reference 0 is the new tuple's page, 1 the old one's; without 1 they are the same page, and the
    old tuple is changed before the new one is added.
    """
    # heap_xlog_update
    t.need_main(14)
    r = t.reader
    i = r.find_block(1)
    if t.block_id == 1:
        new_block = r.block_number[0]
        if r.block_id[0] != 0:
            raise RedoError("record has no block reference 0")
        return update_old(t, new_block)
    only_block(t)
    if i < 0:
        update_old(t, t.block)
        return update_new(t, True)
    if t.op & XLOG_HEAP_INIT_PAGE:
        page_init(t.page, 0)
    return update_new(t, False)


def update_old(t: Target, new_block: int) -> int:
    m = t.main_at
    at = heap_at(t.page, u16(t.p, m + 4))
    set_lock_bits(t.page, at, u8(t.p, m + 6))
    if t.op & XLOG_HEAP_OPMASK == XLOG_HEAP_HOT_UPDATE:
        put16(t.page, at + t_infomask2, u16(t.page, at + t_infomask2) | HEAP_HOT_UPDATED)
    else:
        put16(t.page, at + t_infomask2, u16(t.page, at + t_infomask2) & ~HEAP_HOT_UPDATED)
    put16(t.page, at + t_infomask, u16(t.page, at + t_infomask) & ~HEAP_COMBOCID)
    put32(t.page, at + t_xmax, u32(t.p, m))
    put32(t.page, at + t_cid, 0)
    put_ctid(t.page, at, new_block, u16(t.p, m + 12))
    set_prunable(t.page, t.xid)
    if u8(t.p, m + 7) & XLH_UPDATE_OLD_ALL_VISIBLE_CLEARED:
        set_pd_flags(t.page, pd_flags(t.page) & ~PD_ALL_VISIBLE)
    return 1


def update_new(t: Target, same_page: bool) -> int:
    """Block data: prefix length u16 and suffix length u16 where flagged, then the tuple.

    Prefix and suffix of the tuple's data are those of the old tuple, which lies on the same page.
    """
    m = t.main_at
    flags = u8(t.p, m + 7)
    offset = u16(t.p, m + 12)
    at = t.data_at
    end = at + t.data_length
    prefix = suffix = 0
    t.need_data(
        SizeOfHeapHeader
        + (2 if flags & XLH_UPDATE_PREFIX_FROM_OLD else 0)
        + (2 if flags & XLH_UPDATE_SUFFIX_FROM_OLD else 0)
    )
    if flags & XLH_UPDATE_PREFIX_FROM_OLD:
        prefix = u16(t.p, at)
        at += 2
    if flags & XLH_UPDATE_SUFFIX_FROM_OLD:
        suffix = u16(t.p, at)
        at += 2
    infomask2 = u16(t.p, at)
    infomask = u16(t.p, at + 2)
    hoff = u8(t.p, at + 4)
    at += SizeOfHeapHeader
    body = end - at
    old = old_length = old_hoff = 0
    if prefix + suffix != 0:
        if not same_page:
            raise RedoError("update takes bytes of a tuple on another page")
        old = heap_at(t.page, u16(t.p, m + 4))
        old_length = lp_len(item_id(t.page, u16(t.p, m + 4)))
        old_hoff = u8(t.page, old + t_hoff)
        if (
            old_hoff + prefix > old_length
            or suffix > old_length
            or (
                prefix != 0
                and (hoff < SizeofHeapTupleHeader or hoff - SizeofHeapTupleHeader > body)
            )
        ):
            raise RedoError(
                f"prefix {prefix} or suffix {suffix} is longer than the old tuple of {old_length}"
            )
        old_hoff += old
    to = new_tuple(t.page, offset, SizeofHeapTupleHeader + prefix + body + suffix)
    put_header(t.page, to, t.xid, u32(t.p, m + 8), t.block, offset, infomask2, infomask, hoff)
    to += SizeofHeapTupleHeader
    if prefix != 0:
        # null bitmap and padding come from the record, before the prefix
        head = hoff - SizeofHeapTupleHeader
        move(t.page, to, t.p, at, head)
        to += head
        move(t.page, to, t.page, old_hoff, prefix)
        to += prefix
        at += head
        body -= head
    move(t.page, to, t.p, at, body)
    if suffix != 0:
        move(t.page, to + body, t.page, old + old_length - suffix, suffix)
    if flags & XLH_UPDATE_NEW_ALL_VISIBLE_CLEARED:
        set_pd_flags(t.page, pd_flags(t.page) & ~PD_ALL_VISIBLE)
    return 1


def confirm_redo(t: Target) -> int:
    """Main data: offset u16. A speculative tuple gets its real ctid."""
    # heap_xlog_confirm
    only_block(t)
    t.need_main(2)
    offset = u16(t.p, t.main_at)
    at = heap_at(t.page, offset)
    put_ctid(t.page, at, t.block, offset)
    return 1


def lock_redo(t: Target) -> int:
    """Main data: xmax u32, offset u16, infobits u8, flags u8."""
    # heap_xlog_lock
    only_block(t)
    t.need_main(8)
    m = t.main_at
    offset = u16(t.p, m + 4)
    at = heap_at(t.page, offset)
    set_lock_bits(t.page, at, u8(t.p, m + 6))
    infomask = u16(t.page, at + t_infomask)
    if (
        infomask & HEAP_XMAX_LOCK_ONLY
        or infomask & (HEAP_XMAX_IS_MULTI | HEAP_LOCK_MASK) == HEAP_XMAX_EXCL_LOCK
    ):
        # HEAP_XMAX_IS_LOCKED_ONLY: the tuple was not updated, so nothing follows it.
        put16(t.page, at + t_infomask2, u16(t.page, at + t_infomask2) & ~HEAP_HOT_UPDATED)
        put_ctid(t.page, at, t.block, offset)
    put16(t.page, at + t_infomask, infomask & ~HEAP_COMBOCID)
    put32(t.page, at + t_xmax, u32(t.p, m))
    put32(t.page, at + t_cid, 0)
    return 1


def inplace_redo(t: Target) -> int:
    """Main data: offset u16 (18 adds invalidation messages). Block data: the tuple's new data."""
    # heap_xlog_inplace
    only_block(t)
    t.need_main(2)
    offset = u16(t.p, t.main_at)
    at = heap_at(t.page, offset)
    length = lp_len(item_id(t.page, offset))
    hoff = u8(t.page, at + t_hoff)
    if hoff > length or length - hoff != t.data_length:
        raise RedoError(
            f"wrong tuple length: tuple has {length} bytes, header {hoff}, record {t.data_length}"
        )
    move(t.page, at + hoff, t.p, t.data_at, t.data_length)
    return 1
