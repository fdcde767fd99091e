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
    from walstream.wal.buffer import fill, put8, put16, put32, u8, u16, writable_of


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
    if len(page) != 8192:
        raise ValueError(f"page length: expected 8192, got {len(page)}")
    masked = bytearray(page)
    mask_in_place(writable_of(masked), rmgr, block, strict)
    return bytes(masked)


def mask_in_place(page: Writable, rmgr: int, block: int, strict: bool) -> int:
    if u16(page, 14) == 0:
        return 0
    fill(page, 0, 10, 0)  # LSN and checksum
    if rmgr < 9 or rmgr > 17 or rmgr == 15:  # Sequence, Generic
        return mask_hole(page)
    mask_hints(page)
    if rmgr == 9 or rmgr == 10:
        return mask_heap(page, block, strict)
    if rmgr == 11:
        return mask_btree(page)
    if rmgr == 12:
        return mask_hash(page)
    if rmgr == 13:
        return mask_gin(page)
    if rmgr == 14:
        return mask_gist(page)
    if rmgr == 17:
        return mask_brin(page)
    if u16(page, 12) >= 24:  # SP-GiST (spg_mask)
        return mask_hole(page)
    return 0


def mask_hints(page: Writable) -> int:
    """PD_HAS_FREE_LINES, PD_PAGE_FULL, PD_ALL_VISIBLE and pd_prune_xid (mask_page_hint_bits)."""
    put32(page, 20, 0)
    put16(page, 10, u16(page, 10) & 0xFFF8)
    return 0


def mask_hole(page: Writable) -> int:
    """Everything between pd_lower and pd_upper (mask_unused_space)."""
    check_pointers(page)
    fill(page, u16(page, 12), u16(page, 14) - u16(page, 12), 0)
    return 0


def mask_content(page: Writable) -> int:
    """All after the header, and what pd_lower and pd_upper say (mask_page_content)."""
    fill(page, 24, 8192 - 24, 0)
    put32(page, 12, 0)
    return 0


def mask_line_flags(page: Writable) -> int:
    """The flags of used line pointers: LP_DEAD is a hint in an index (mask_lp_flags)."""
    count = max_offset(page)
    for i in range(1, count + 1):
        lp = item_id(page, i)
        put32(page, 20 + 4 * i, lp >> 17 << 17 | lp & 0x7FFF)
    return 0


def special_area(page: Writable, size: int) -> int:
    """Returns where the special area starts, which must have ``size`` bytes."""
    if u16(page, 16) + size > 8192:
        raise RedoError(f"special area: expected {size} bytes, starts at {u16(page, 16)}")
    return u16(page, 16)


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
        at = lp & 0x7FFF
        length = lp >> 17
        if length == 0:
            continue
        if at < 24 or at + ((length + 7) & ~7) > 8192:
            raise RedoError(f"invalid line pointer {i}: offset {at}, length {length}")
        if (lp >> 15) & 3 == 1 and length >= 23:
            infomask = u16(page, at + 20)
            if strict:
                infomask &= 0xF0DF
            elif infomask & 0x0300 != 0x0300:
                infomask &= 0x000F
            else:
                infomask &= 0xF3FF
            put16(page, at + 20, infomask)
            put32(page, at + 8, 0)
            if u16(page, at + 16) == 0xFFFE:
                # A speculative tuple has a token where redo puts its own position.
                put16(page, at + 12, block >> 16)
                put16(page, at + 14, block & 0xFFFF)
                put16(page, at + 16, i)
        fill(page, at + length, (8 - length % 8) % 8, 0)
    return 0


def mask_btree(page: Writable) -> int:
    """Special area: left u32, right u32, level u32, flags u16, cycle id u16 (btree_mask)."""
    mask_hole(page)
    special = special_area(page, 16)
    flags = u16(page, special + 12)
    if flags & 0x01:  # leaf
        mask_line_flags(page)
    # BTP_HAS_GARBAGE is a hint, BTP_SPLIT_END and the cycle id are not logged.
    put16(page, special + 12, flags & 0xFF9F)
    put16(page, special + 14, 0)
    return 0


def mask_hash(page: Writable) -> int:
    """Special area: previous u32, next u32, bucket u32, flags u16, page id u16 (hash_mask)."""
    mask_hole(page)
    special = special_area(page, 16)
    flags = u16(page, special + 12)
    kind = flags & 0x0F
    if kind == 0:
        mask_content(page)
    elif kind & 0x03:  # bucket or overflow page
        mask_line_flags(page)
    if kind != 0:
        put16(page, special + 12, flags & 0xFF7F)
    return 0


def mask_gin(page: Writable) -> int:
    """Special area: right u32, maximal offset u16, flags u16 (gin_mask)."""
    special = special_area(page, 8)
    if u16(page, special + 6) & 0x04:  # deleted
        mask_content(page)
    elif u16(page, 12) > 24:
        mask_hole(page)
    return 0


def mask_gist(page: Writable) -> int:
    """Special area: NSN u64, right u32, flags u16, page id u16 (gist_mask)."""
    mask_hole(page)
    special = special_area(page, 16)
    fill(page, special, 8, 0)
    # The primary sets F_FOLLOW_RIGHT after it wrote the record; F_HAS_GARBAGE is a hint.
    flags = u16(page, special + 12)
    put16(page, special + 12, (flags | 0x08) & 0xFFEF)
    if flags & 0x01:  # leaf
        mask_line_flags(page)
    return 0


def mask_brin(page: Writable) -> int:
    """The last four bytes of the page are flags u16 and type u16 (brin_mask)."""
    special = special_area(page, 8)
    kind = u16(page, special + 6)
    if kind == 0xF093 or (kind == 0xF091 and u16(page, 12) > 24):
        mask_hole(page)
    # BRIN_EVACUATE_PAGE is not logged.
    put8(page, special + 4, u8(page, special + 4) & 0xFE)
    return 0
