"""What may differ between pages of SP-GiST indexes of a primary and those after redo."""

from __future__ import annotations

from walstream.redo.rules.bufmask import mask_page_hint_bits, mask_unused_space
from walstream.wal.bufpage import SizeOfPageHeaderData, pd_lower


def mask(page: bytearray, _block: int, _strict: bool) -> None:
    """Mirrors spg_mask."""
    mask_page_hint_bits(page)
    if pd_lower(page) >= SizeOfPageHeaderData:
        mask_unused_space(page)
