"""Redo of sequences: the one tuple of the one page is written anew (seq_redo)."""

from __future__ import annotations

import cython

from walstream.errors import RedoError, UnsupportedRecord

if not cython.compiled:
    from walstream.redo.rules.page import add_item, page_init
    from walstream.redo.rules.target import Target
    from walstream.wal.buffer import put16


def sequence_redo(t: Target) -> int:
    """Main data: relation id 12 bytes, then the tuple. The special area is the magic 0x1717."""
    if t.op != 0x00:
        raise UnsupportedRecord("the operation has no redo rule")
    if t.block_id != 0:
        raise RedoError(f"block reference: expected 0, got {t.block_id}")
    t.need_main(12)
    page_init(t.page, 8)
    put16(t.page, 8184, 0x1717)
    if t.main_length - 12 > 8192:
        raise RedoError(f"sequence tuple of {t.main_length - 12} bytes")
    add_item(t.page, t.p, t.main_at + 12, t.main_length - 12, 1, 0)
    return 1
