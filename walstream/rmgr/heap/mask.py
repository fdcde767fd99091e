"""What may differ between heap pages of a primary and those after redo (heap_mask)."""

from __future__ import annotations

import cython

from walstream.errors import RedoError

if not cython.compiled:
    from walstream.redo.rules.bufmask import mask_page_hint_bits, mask_unused_space
    from walstream.redo.rules.page import check_pointers, item_id, max_offset
    from walstream.rmgr.heap.layout import (
        HEAP_COMBOCID,
        HEAP_HINT_BITS,
        HEAP_XACT_MASK,
        HEAP_XMAX_COMMITTED,
        HEAP_XMAX_INVALID,
        HEAP_XMIN_FROZEN,
        SizeofHeapTupleHeader,
        SpecTokenOffsetNumber,
        t_cid,
        t_ctid,
        t_ctid_offset,
        t_infomask,
    )
    from walstream.wal.buffer import fill, put16, put32, u16, writable_of
    from walstream.wal.bufpage import (
        BLCKSZ,
        LP_NORMAL,
        SizeOfPageHeaderData,
        lp_flags,
        lp_len,
        lp_off,
        maxalign,
        put_block,
    )


def mask(page: bytearray, block: int, strict: bool) -> int:
    """Mirrors heap_mask; also masks a page of the visibility map.

    PostgreSQL hides all of an unfrozen tuple's infomask but its lowest four bits; where ``strict``,
    only the four hint bits are hidden, and the command id with its HEAP_COMBOCID, which redo never
    sets.
    """
    p = writable_of(page)
    mask_page_hint_bits(page)
    count = max_offset(p)
    if strict and count == 0:
        # No heap page has no line pointer and something to compare; a map page has.
        check_pointers(p)
        return 0
    mask_unused_space(page)
    for i in range(1, count + 1):
        lp = item_id(p, i)
        at = lp_off(lp)
        length = lp_len(lp)
        if length == 0:
            continue
        if at < SizeOfPageHeaderData or at + maxalign(length) > BLCKSZ:
            raise RedoError(f"invalid line pointer {i}: offset {at}, length {length}")
        if lp_flags(lp) == LP_NORMAL and length >= SizeofHeapTupleHeader:
            infomask = u16(p, at + t_infomask)
            if strict:
                infomask &= ~(HEAP_HINT_BITS | HEAP_COMBOCID)
            elif infomask & HEAP_XMIN_FROZEN != HEAP_XMIN_FROZEN:
                infomask &= ~HEAP_XACT_MASK
            else:
                infomask &= ~(HEAP_XMAX_COMMITTED | HEAP_XMAX_INVALID)
            put16(p, at + t_infomask, infomask)
            put32(p, at + t_cid, 0)
            if u16(p, at + t_ctid_offset) == SpecTokenOffsetNumber:
                # A speculative tuple has a token where redo puts its own position.
                put_block(p, at + t_ctid, block)
                put16(p, at + t_ctid_offset, i)
        fill(p, at + length, maxalign(length) - length, 0)
    return 0
