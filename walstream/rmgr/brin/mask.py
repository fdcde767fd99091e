"""What may differ between pages of BRIN indexes of a primary and those after redo."""

from __future__ import annotations

from walstream.redo.rules.bufmask import mask_page_hint_bits, mask_unused_space, special_area
from walstream.rmgr.brin.layout import (
    BRIN_EVACUATE_PAGE,
    BRIN_PAGETYPE_META,
    BRIN_PAGETYPE_REGULAR,
    BrinSpecialSpace,
    SizeOfBrinSpecialSpace,
    brin_flags,
    brin_type,
)
from walstream.wal.buffer import put16, u16
from walstream.wal.bufpage import SizeOfPageHeaderData, pd_lower


def mask(page: bytearray, _block: int, _strict: bool) -> None:
    """Mirrors brin_mask."""
    mask_page_hint_bits(page)
    shift = special_area(page, SizeOfBrinSpecialSpace) - BrinSpecialSpace
    kind = u16(page, brin_type + shift)
    if kind == BRIN_PAGETYPE_REGULAR or (
        kind == BRIN_PAGETYPE_META and pd_lower(page) > SizeOfPageHeaderData
    ):
        mask_unused_space(page)
    # BRIN_EVACUATE_PAGE is not logged.
    flags = u16(page, brin_flags + shift)
    put16(page, brin_flags + shift, flags & ~BRIN_EVACUATE_PAGE)
