"""What may differ between pages of GIN indexes of a primary and those after redo."""

from __future__ import annotations

from walstream.redo.rules.bufmask import (
    mask_page_content,
    mask_page_hint_bits,
    mask_unused_space,
    special_area,
)
from walstream.rmgr.gin.layout import GIN_DELETED, GinPageOpaque, SizeOfGinPageOpaque, gin_flags
from walstream.wal.buffer import u16
from walstream.wal.bufpage import SizeOfPageHeaderData, pd_lower


def mask(page: bytearray, _block: int, _strict: bool) -> None:
    """Mirrors gin_mask."""
    mask_page_hint_bits(page)
    shift = special_area(page, SizeOfGinPageOpaque) - GinPageOpaque
    if u16(page, gin_flags + shift) & GIN_DELETED:
        mask_page_content(page)
    elif pd_lower(page) > SizeOfPageHeaderData:
        # Older pages have no pd_lower that tells where their content ends.
        mask_unused_space(page)
