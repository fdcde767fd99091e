"""What may differ between pages that Generic records change of a primary and those after redo."""

from __future__ import annotations

from walstream.redo.rules.bufmask import mask_unused_space


def mask(page: bytearray, _block: int, _strict: bool) -> None:
    """Mirrors generic_mask."""
    mask_unused_space(page)
