"""Hides what may differ between a page of a primary and the same page after redo.

These are the masks of wal_consistency_checking, one a resource manager (rm_mask): hint bits that
are not logged, the hole, and the few fields that redo sets otherwise than the primary does. Pages
are compared after both were masked.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache

from walstream.redo.rules.bufmask import mask_page_lsn_and_checksum, mask_unused_space
from walstream.rmgr.rmgrlist import RMGRS
from walstream.wal.bufpage import BLCKSZ, pd_upper

Mask = Callable[[bytearray, int, bool], None]


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
    if pd_upper(masked) != 0:
        mask_page_lsn_and_checksum(masked)
        _mask_of(rmgr)(masked, block, strict)
    return bytes(masked)


@cache
def _mask_of(rmgr_id: int) -> Mask:
    module = RMGRS[rmgr_id].mask if rmgr_id < len(RMGRS) else ""
    if not module:
        return _mask_hole
    mask: Mask = importlib.import_module(f"walstream.rmgr.{module}").mask
    return mask


def _mask_hole(page: bytearray, _block: int, _strict: bool) -> None:
    """Whose pages these are is not known: some manager's, of which XLOG has the image."""
    mask_unused_space(page)
