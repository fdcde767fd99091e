"""What may differ between pages of B-trees of a primary and those after redo."""

from __future__ import annotations

from walstream.redo.rules.bufmask import (
    mask_lp_flags,
    mask_page_hint_bits,
    mask_unused_space,
    special_area,
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
from walstream.wal.buffer import put16, u16


def mask(page: bytearray, _block: int, _strict: bool) -> None:
    """Mirrors btree_mask."""
    mask_page_hint_bits(page)
    mask_unused_space(page)
    shift = special_area(page, SizeOfBTPageOpaque) - BTPageOpaque
    flags = u16(page, btpo_flags + shift)
    if flags & BTP_LEAF:
        mask_lp_flags(page)
    # BTP_HAS_GARBAGE is a hint, BTP_SPLIT_END and the cycle id are not logged.
    put16(page, btpo_flags + shift, flags & ~(BTP_HAS_GARBAGE | BTP_SPLIT_END))
    put16(page, btpo_cycleid + shift, 0)
