"""What may differ between pages of hash indexes of a primary and those after redo."""

from __future__ import annotations

from walstream.redo.rules.bufmask import (
    mask_lp_flags,
    mask_page_content,
    mask_page_hint_bits,
    mask_unused_space,
    special_area,
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
from walstream.wal.buffer import put16, u16


def mask(page: bytearray, _block: int, _strict: bool) -> None:
    """Mirrors hash_mask."""
    mask_page_hint_bits(page)
    mask_unused_space(page)
    shift = special_area(page, SizeOfHashPageOpaque) - HashPageOpaque
    flags = u16(page, hasho_flag + shift)
    kind = flags & LH_PAGE_TYPE
    if kind == LH_UNUSED_PAGE:
        mask_page_content(page)
        return
    if kind & (LH_BUCKET_PAGE | LH_OVERFLOW_PAGE):
        mask_lp_flags(page)
    # A hint.
    put16(page, hasho_flag + shift, flags & ~LH_PAGE_HAS_DEAD_TUPLES)
