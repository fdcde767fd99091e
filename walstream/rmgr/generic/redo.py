"""Redo of generic WAL: pieces of the new page, and a hole of zeros (generic_redo)."""

from __future__ import annotations

import cython

from walstream.errors import RedoError, UnsupportedRecord

if not cython.compiled:
    from walstream.redo.rules.page import check_pointers
    from walstream.redo.rules.target import Target
    from walstream.wal.buffer import fill, move, u16
    from walstream.wal.bufpage import BLCKSZ, pd_lower, pd_upper


def generic_redo(t: Target) -> int:
    """Block data, repeated: offset u16, length u16, bytes."""
    if t.op != 0x00:
        raise UnsupportedRecord("the operation has no redo rule")
    at = t.data_at
    end = at + t.data_length
    while at < end:
        if end - at < 4:
            raise RedoError("delta ends inside a piece's header")
        offset = u16(t.p, at)
        length = u16(t.p, at + 2)
        at += 4
        if end - at < length or offset + length > BLCKSZ:
            raise RedoError(f"delta piece of {length} bytes at {offset}, {end - at} bytes left")
        move(t.page, offset, t.p, at, length)
        at += length
    # The delta does not say what is in the hole.
    check_pointers(t.page)
    fill(t.page, pd_lower(t.page), pd_upper(t.page) - pd_lower(t.page), 0)
    return 1
