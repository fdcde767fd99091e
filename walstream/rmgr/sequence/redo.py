"""Redo of sequences: the one tuple of the one page is written anew (seq_redo)."""

from __future__ import annotations

import cython

from walstream.errors import RedoError, UnsupportedRecord

if not cython.compiled:
    from walstream.redo.rules.page import add_item, page_init
    from walstream.redo.rules.target import Target
    from walstream.rmgr.heap.layout import SEQ_MAGIC, SizeOfSequenceMagic
    from walstream.wal.buffer import put32
    from walstream.wal.bufpage import BLCKSZ, FirstOffsetNumber, pd_special
    from walstream.wal.layout import SizeOfRelFileLocator
    from walstream.wal.opcodes import XLOG_SEQ_LOG


def sequence_redo(t: Target) -> int:
    """Main data: relation id 12 bytes, then the tuple. The special area is a magic number."""
    # seq_redo
    if t.op != XLOG_SEQ_LOG:
        raise UnsupportedRecord("the operation has no redo rule")
    if t.block_id != 0:
        raise RedoError(f"block reference: expected 0, got {t.block_id}")
    t.need_main(SizeOfRelFileLocator)
    page_init(t.page, SizeOfSequenceMagic)
    put32(t.page, pd_special(t.page), SEQ_MAGIC)
    if t.main_length - SizeOfRelFileLocator > BLCKSZ:
        raise RedoError(f"sequence tuple of {t.main_length - SizeOfRelFileLocator} bytes")
    add_item(
        t.page,
        t.p,
        t.main_at + SizeOfRelFileLocator,
        t.main_length - SizeOfRelFileLocator,
        FirstOffsetNumber,
        0,
    )
    return 1
