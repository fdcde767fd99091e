"""What may differ between pages of GiST indexes of a primary and those after redo."""

from __future__ import annotations

from walstream.redo.rules.bufmask import (
    mask_lp_flags,
    mask_page_hint_bits,
    mask_unused_space,
    special_area,
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
from walstream.wal.buffer import put16, put64, u16


def mask(page: bytearray, _block: int, _strict: bool) -> None:
    """Mirrors gist_mask."""
    mask_page_hint_bits(page)
    mask_unused_space(page)
    shift = special_area(page, SizeOfGISTPageOpaque) - GISTPageOpaque
    # The NSN is an LSN.
    put64(page, gist_nsn + shift, 0)
    # The primary sets F_FOLLOW_RIGHT after it wrote the record; F_HAS_GARBAGE is a hint.
    flags = u16(page, gist_flags + shift)
    put16(page, gist_flags + shift, (flags | F_FOLLOW_RIGHT) & ~F_HAS_GARBAGE)
    if flags & F_LEAF:
        mask_lp_flags(page)
