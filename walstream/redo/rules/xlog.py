"""Redo of the xlog resource manager: not written yet, every record is refused by name."""

from __future__ import annotations

import cython

from walstream.errors import UnsupportedRecord

if not cython.compiled:
    from walstream.redo.rules.target import Target


def xlog_redo(t: Target) -> int:
    raise UnsupportedRecord("no rule for this operation")
