"""Index tuples as records carry them: block and offset (6 bytes), info u16, then the key.

The low 13 bits of info are the length (IndexTupleSize). What the other fields mean is the business
of each index's rules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cython

from walstream.errors import RedoError

if TYPE_CHECKING:
    from walstream.redo.rules.target import Target
    from walstream.wal.buffer import Bytes
if not cython.compiled:
    from walstream.redo.rules.index_layout import INDEX_SIZE_MASK, SizeOfIndexTupleData, t_info
    from walstream.redo.rules.page import add_item, max_offset
    from walstream.wal.buffer import u16
    from walstream.wal.bufpage import maxalign


def tuple_length(p: Bytes, at: int, available: int) -> int:
    """Returns the length of the tuple at ``p[at]``, of which ``available`` bytes are there."""
    length = 0
    if available >= SizeOfIndexTupleData:
        length = u16(p, at + t_info) & INDEX_SIZE_MASK
    if length < SizeOfIndexTupleData or length > available:
        raise RedoError(f"invalid length {length} of an index tuple: {available} bytes are left")
    return length


def aligned_length(p: Bytes, at: int, available: int) -> int:
    """Returns as ``tuple_length``, rounded up to a multiple of 8; the padding is there too."""
    length = maxalign(tuple_length(p, at, available))
    if length > available:
        raise RedoError(f"no padding of an index tuple: {available} bytes are left of {length}")
    return length


def append_tuples(t: Target, at: int, count: int) -> int:
    """Adds the tuples of the block data from ``t.p[at]`` on behind the last one of the page.

    Raises:
        RedoError: they are not ``count``, or do not fit.
    """
    end = t.data_at + t.data_length
    offset = max_offset(t.page)
    found = 0
    while at < end:
        length = tuple_length(t.p, at, end - at)
        offset += 1
        add_item(t.page, t.p, at, length, offset, 0)
        at += length
        found += 1
    if found != cython.cast(cython.longlong, count):
        raise RedoError(f"block data holds {found} index tuples: expected {count}")
    return 0
