"""Redo of XLOG records that carry page images. The engine restores an image that is to be applied
before any rule runs, so only references without one arrive here."""

from __future__ import annotations

import cython

from walstream.errors import RedoError, UnsupportedRecord

if not cython.compiled:
    from walstream.redo.rules.target import Target
    from walstream.wal.opcodes import XLOG_FPI, XLOG_FPI_FOR_HINT


def xlog_redo(t: Target) -> int:
    if t.op == XLOG_FPI_FOR_HINT:  # FPI_FOR_HINT without full_page_writes: nothing to do
        return 0
    if t.op == XLOG_FPI:
        raise RedoError("XLOG_FPI record did not contain full-page image")
    raise UnsupportedRecord("the operation has no redo rule")
