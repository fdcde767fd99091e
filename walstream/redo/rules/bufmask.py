"""What the masks of all resource managers are made of (bufmask.c).

A mask hides what may differ between a page of a primary and the same page after redo. Each is
``mask`` of ``rmgr/NAME/mask.py``; ``redo/rules/mask.py`` finds it. ``page`` is 8192 bytes.
"""

from __future__ import annotations

import cython

from walstream.errors import RedoError

if not cython.compiled:
    from walstream.redo.rules.page import check_pointers, item_id, max_offset
    from walstream.wal.buffer import fill, put32, writable_of
    from walstream.wal.bufpage import (
        BLCKSZ,
        LP_UNUSED,
        PD_ALL_VISIBLE,
        PD_HAS_FREE_LINES,
        PD_PAGE_FULL,
        InvalidTransactionId,
        SizeOfPageHeaderData,
        item_id_at,
        line_pointer,
        lp_len,
        lp_off,
        pd_flags,
        pd_flags_at,
        pd_lower,
        pd_special,
        pd_upper,
        set_pd_flags,
        set_pd_lower,
        set_pd_prune_xid,
        set_pd_upper,
    )


def mask_page_lsn_and_checksum(page: bytearray) -> int:
    fill(writable_of(page), 0, pd_flags_at, 0)
    return 0


def mask_page_hint_bits(page: bytearray) -> int:
    """Hides PD_HAS_FREE_LINES, PD_PAGE_FULL, PD_ALL_VISIBLE and pd_prune_xid."""
    p = writable_of(page)
    set_pd_prune_xid(p, InvalidTransactionId)
    set_pd_flags(p, pd_flags(p) & ~(PD_HAS_FREE_LINES | PD_PAGE_FULL | PD_ALL_VISIBLE))
    return 0


def mask_unused_space(page: bytearray) -> int:
    """Hides everything between pd_lower and pd_upper.

    Raises:
        RedoError: these are none of a page.
    """
    p = writable_of(page)
    check_pointers(p)
    fill(p, pd_lower(p), pd_upper(p) - pd_lower(p), 0)
    return 0


def mask_page_content(page: bytearray) -> int:
    """Hides all behind the header, and what pd_lower and pd_upper say."""
    p = writable_of(page)
    fill(p, SizeOfPageHeaderData, BLCKSZ - SizeOfPageHeaderData, 0)
    set_pd_lower(p, 0)
    set_pd_upper(p, 0)
    return 0


def mask_lp_flags(page: bytearray) -> int:
    """Hides the flags of line pointers: LP_DEAD is a hint in an index."""
    p = writable_of(page)
    for i in range(1, max_offset(p) + 1):
        lp = item_id(p, i)
        put32(p, item_id_at(i), line_pointer(lp_off(lp), LP_UNUSED, lp_len(lp)))
    return 0


def special_area(page: bytearray, size: int) -> int:
    """Returns where the special area starts.

    Raises:
        RedoError: it has less than ``size`` bytes.
    """
    p = writable_of(page)
    if pd_special(p) + size > BLCKSZ:
        raise RedoError(f"special area: expected {size} bytes, starts at {pd_special(p)}")
    return pd_special(p)
