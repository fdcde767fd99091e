"""Hides what may differ between a page of a primary and the same page after redo.

These are the masks of wal_consistency_checking, one a resource manager (rm_mask): hint bits that
are not logged, the hole, and the few fields that redo sets otherwise than the primary does. Pages
are compared after both were masked. ``strict`` gives heap pages a narrower mask: PostgreSQL hides
all of an unfrozen tuple's infomask but its lowest four bits, the narrower mask hides only the four
hint bits and the command id with its HEAP_COMBOCID, which redo never sets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cython

from walstream.errors import RedoError

if TYPE_CHECKING:
    from walstream.wal.buffer import Writable
if not cython.compiled:
    from walstream.redo.rules.page import check_pointers, item_id, max_offset
    from walstream.rmgr.brin.layout import (
        BRIN_EVACUATE_PAGE,
        BRIN_PAGETYPE_META,
        BRIN_PAGETYPE_REGULAR,
        BrinSpecialSpace,
        SizeOfBrinSpecialSpace,
        brin_flags,
        brin_type,
    )
    from walstream.rmgr.btree.layout import (
        BTP_HAS_GARBAGE,
        BTP_LEAF,
        BTP_SPLIT_END,
        BTPageOpaque,
        SizeOfBTPageOpaque,
        btpo_cycleid,
        btpo_flags,
    )
    from walstream.rmgr.gin.layout import (
        GIN_DELETED,
        GinPageOpaque,
        SizeOfGinPageOpaque,
        gin_flags,
    )
    from walstream.rmgr.gist.layout import (
        F_FOLLOW_RIGHT,
        F_HAS_GARBAGE,
        F_LEAF,
        GISTPageOpaque,
        SizeOfGISTPageOpaque,
        gist_flags,
        gist_nsn,
    )
    from walstream.rmgr.hash.layout import (
        LH_BUCKET_PAGE,
        LH_OVERFLOW_PAGE,
        LH_PAGE_HAS_DEAD_TUPLES,
        LH_PAGE_TYPE,
        LH_UNUSED_PAGE,
        HashPageOpaque,
        SizeOfHashPageOpaque,
        hasho_flag,
    )
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
        LP_UNUSED,
        PD_ALL_VISIBLE,
        PD_HAS_FREE_LINES,
        PD_PAGE_FULL,
        InvalidTransactionId,
        SizeOfPageHeaderData,
        item_id_at,
        line_pointer,
        lp_flags,
        lp_len,
        lp_off,
        maxalign,
        pd_flags,
        pd_flags_at,
        pd_lower,
        pd_special,
        pd_upper,
        put_block,
        set_pd_flags,
        set_pd_lower,
        set_pd_prune_xid,
        set_pd_upper,
    )
    from walstream.wal.layout import (
        RM_BRIN_ID,
        RM_BTREE_ID,
        RM_GIN_ID,
        RM_GIST_ID,
        RM_HASH_ID,
        RM_HEAP2_ID,
        RM_HEAP_ID,
        RM_SEQ_ID,
    )


def mask_page(page: bytes, rmgr: int, block: int, *, strict: bool = False) -> bytes:
    """Returns the page as ``wal_consistency_checking`` compares it.

    Args:
        page: 8192 bytes. A page of zeros stays as it is.
        rmgr: the id of the resource manager that changed it (its heap, index or sequence).
        block: its block number, which stands in for speculative tokens.
        strict: hide less of heap tuples; a visibility map page keeps its bits.

    Raises:
        RedoError: the page's header is not one that PostgreSQL would mask.
    """
    if len(page) != BLCKSZ:
        raise ValueError(f"page length: expected {BLCKSZ}, got {len(page)}")
    masked = bytearray(page)
    mask_in_place(writable_of(masked), rmgr, block, strict)
    return bytes(masked)


def mask_in_place(page: Writable, rmgr: int, block: int, strict: bool) -> int:
    if pd_upper(page) == 0:
        return 0
    fill(page, 0, pd_flags_at, 0)  # LSN and checksum
    if rmgr < RM_HEAP2_ID or rmgr > RM_BRIN_ID or rmgr == RM_SEQ_ID:  # Sequence, Generic
        return mask_hole(page)
    mask_hints(page)
    if rmgr == RM_HEAP2_ID or rmgr == RM_HEAP_ID:
        return mask_heap(page, block, strict)
    if rmgr == RM_BTREE_ID:
        return mask_btree(page)
    if rmgr == RM_HASH_ID:
        return mask_hash(page)
    if rmgr == RM_GIN_ID:
        return mask_gin(page)
    if rmgr == RM_GIST_ID:
        return mask_gist(page)
    if rmgr == RM_BRIN_ID:
        return mask_brin(page)
    if pd_lower(page) >= SizeOfPageHeaderData:  # SP-GiST (spg_mask)
        return mask_hole(page)
    return 0


def mask_hints(page: Writable) -> int:
    """PD_HAS_FREE_LINES, PD_PAGE_FULL, PD_ALL_VISIBLE and pd_prune_xid (mask_page_hint_bits)."""
    set_pd_prune_xid(page, InvalidTransactionId)
    set_pd_flags(page, pd_flags(page) & ~(PD_HAS_FREE_LINES | PD_PAGE_FULL | PD_ALL_VISIBLE))
    return 0


def mask_hole(page: Writable) -> int:
    """Everything between pd_lower and pd_upper (mask_unused_space)."""
    check_pointers(page)
    fill(page, pd_lower(page), pd_upper(page) - pd_lower(page), 0)
    return 0


def mask_content(page: Writable) -> int:
    """All after the header, and what pd_lower and pd_upper say (mask_page_content)."""
    fill(page, SizeOfPageHeaderData, BLCKSZ - SizeOfPageHeaderData, 0)
    set_pd_lower(page, 0)
    set_pd_upper(page, 0)
    return 0


def mask_line_flags(page: Writable) -> int:
    """The flags of used line pointers: LP_DEAD is a hint in an index (mask_lp_flags)."""
    count = max_offset(page)
    for i in range(1, count + 1):
        lp = item_id(page, i)
        put32(page, item_id_at(i), line_pointer(lp_off(lp), LP_UNUSED, lp_len(lp)))
    return 0


def special_area(page: Writable, size: int) -> int:
    """Returns where the special area starts, which must have ``size`` bytes."""
    if pd_special(page) + size > BLCKSZ:
        raise RedoError(f"special area: expected {size} bytes, starts at {pd_special(page)}")
    return pd_special(page)


def mask_heap(page: Writable, block: int, strict: bool) -> int:
    """Mirrors heap_mask."""
    count = max_offset(page)
    if strict and count == 0:
        # No heap page has no line pointer and something to compare; a map page has.
        check_pointers(page)
        return 0
    mask_hole(page)
    for i in range(1, count + 1):
        lp = item_id(page, i)
        at = lp_off(lp)
        length = lp_len(lp)
        if length == 0:
            continue
        if at < SizeOfPageHeaderData or at + maxalign(length) > BLCKSZ:
            raise RedoError(f"invalid line pointer {i}: offset {at}, length {length}")
        if lp_flags(lp) == LP_NORMAL and length >= SizeofHeapTupleHeader:
            infomask = u16(page, at + t_infomask)
            if strict:
                infomask &= ~(HEAP_HINT_BITS | HEAP_COMBOCID)
            elif infomask & HEAP_XMIN_FROZEN != HEAP_XMIN_FROZEN:
                infomask &= ~HEAP_XACT_MASK
            else:
                infomask &= ~(HEAP_XMAX_COMMITTED | HEAP_XMAX_INVALID)
            put16(page, at + t_infomask, infomask)
            put32(page, at + t_cid, 0)
            if u16(page, at + t_ctid_offset) == SpecTokenOffsetNumber:
                # A speculative tuple has a token where redo puts its own position.
                put_block(page, at + t_ctid, block)
                put16(page, at + t_ctid_offset, i)
        fill(page, at + length, (8 - length % 8) % 8, 0)
    return 0


def mask_btree(page: Writable) -> int:
    """Mirrors btree_mask."""
    mask_hole(page)
    shift = special_area(page, SizeOfBTPageOpaque) - BTPageOpaque
    flags = u16(page, btpo_flags + shift)
    if flags & BTP_LEAF:
        mask_line_flags(page)
    # BTP_HAS_GARBAGE is a hint, BTP_SPLIT_END and the cycle id are not logged.
    put16(page, btpo_flags + shift, flags & ~(BTP_HAS_GARBAGE | BTP_SPLIT_END))
    put16(page, btpo_cycleid + shift, 0)
    return 0


def mask_hash(page: Writable) -> int:
    """Mirrors hash_mask."""
    mask_hole(page)
    shift = special_area(page, SizeOfHashPageOpaque) - HashPageOpaque
    flags = u16(page, hasho_flag + shift)
    kind = flags & LH_PAGE_TYPE
    if kind == LH_UNUSED_PAGE:
        mask_content(page)
    elif kind & (LH_BUCKET_PAGE | LH_OVERFLOW_PAGE):
        mask_line_flags(page)
    if kind != LH_UNUSED_PAGE:
        put16(page, hasho_flag + shift, flags & ~LH_PAGE_HAS_DEAD_TUPLES)
    return 0


def mask_gin(page: Writable) -> int:
    """Mirrors gin_mask."""
    shift = special_area(page, SizeOfGinPageOpaque) - GinPageOpaque
    if u16(page, gin_flags + shift) & GIN_DELETED:
        mask_content(page)
    elif pd_lower(page) > SizeOfPageHeaderData:
        mask_hole(page)
    return 0


def mask_gist(page: Writable) -> int:
    """Mirrors gist_mask."""
    mask_hole(page)
    shift = special_area(page, SizeOfGISTPageOpaque) - GISTPageOpaque
    fill(page, gist_nsn + shift, 8, 0)
    # The primary sets F_FOLLOW_RIGHT after it wrote the record; F_HAS_GARBAGE is a hint.
    flags = u16(page, gist_flags + shift)
    put16(page, gist_flags + shift, (flags | F_FOLLOW_RIGHT) & ~F_HAS_GARBAGE)
    if flags & F_LEAF:
        mask_line_flags(page)
    return 0


def mask_brin(page: Writable) -> int:
    """Mirrors brin_mask."""
    shift = special_area(page, SizeOfBrinSpecialSpace) - BrinSpecialSpace
    kind = u16(page, brin_type + shift)
    if kind == BRIN_PAGETYPE_REGULAR or (
        kind == BRIN_PAGETYPE_META and pd_lower(page) > SizeOfPageHeaderData
    ):
        mask_hole(page)
    # BRIN_EVACUATE_PAGE is not logged.
    flags = u16(page, brin_flags + shift)
    put16(page, brin_flags + shift, flags & ~BRIN_EVACUATE_PAGE)
    return 0
