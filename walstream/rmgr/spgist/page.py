"""SP-GiST pages and tuples, for the rules in ``spgist.py``.

The special space has 8 bytes: flags u16, number of redirections u16, number of placeholders u16,
page id 0xFF82. Every tuple starts with its state in two bits (0 live, 1 redirect, 2 dead,
3 placeholder). Leaf: state and size (30 bits), next offset u16 (14 bits), heap item; dead ones are
16 bytes long: state and size, u16, item pointer, xid. Inner: state, all-the-same 1 bit, number of
nodes 13 bits, prefix size 16 bits, size u16, 2 pad, prefix, nodes; a node is an index tuple whose
item pointer is the downlink.

Line pointers keep their places: a tuple that goes leaves a dead one, a new tuple may take the
place of a placeholder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cython

from walstream.errors import RedoError

if TYPE_CHECKING:
    from walstream.redo.rules.target import Target
    from walstream.wal.buffer import Bytes, Writable
if not cython.compiled:
    from walstream.redo.rules.index_layout import (
        INDEX_SIZE_MASK,
        SizeOfIndexTupleData,
        ip_posid,
        t_info,
    )
    from walstream.redo.rules.page import (
        add_item,
        index_multi_delete,
        index_tuple_delete,
        item_at,
        item_length,
        max_offset,
        page_init,
    )
    from walstream.rmgr.spgist.layout import (
        SGDTSIZE,
        SGITHDRSZ,
        SGLT_NEXT_OFFSET_MASK,
        SGLT_SIZE_SHIFT,
        SGLTHDRSZ,
        SPGIST_PAGE_ID,
        SPGIST_PLACEHOLDER,
        SPGIST_REDIRECT,
        SPGIST_STATE_MASK,
        SizeOfSpGistPageOpaque,
        sgdt_pointer,
        sgdt_posid,
        sgdt_xid,
        sgit_size,
        sglt_info,
        spgist_flags,
        spgist_nPlaceholder,
        spgist_nRedirection,
        spgist_page_id,
    )
    from walstream.wal.buffer import fill, put8, put16, put32, u8, u16, u32
    from walstream.wal.bufpage import InvalidBlockNumber, InvalidOffsetNumber, put_block


def spgist_init(page: Writable, flags: int) -> int:
    """Makes an empty page (SpGistInitPage)."""
    page_init(page, SizeOfSpGistPageOpaque)
    put16(page, spgist_flags, flags)
    put16(page, spgist_page_id, SPGIST_PAGE_ID)
    return 0


def count_up(page: Writable, at: int, by: int) -> int:
    """Adds to one of the counters of the special space: 8186 redirections, 8188 placeholders."""
    put16(page, at, u16(page, at) + by & 0xFFFF)
    return 0


def leaf_size(t: Target, at: int) -> int:
    """Returns the length of the leaf tuple at ``t.p[at]``, which lies in the main data."""
    length = 0
    if t.main_at + t.main_length - at >= SGLTHDRSZ:
        length = u32(t.p, at) >> SGLT_SIZE_SHIFT
    if length < SGLTHDRSZ or length > t.main_at + t.main_length - at:
        raise RedoError(
            f"invalid length {length} of a leaf tuple: "
            f"{t.main_at + t.main_length - at} bytes are left"
        )
    return length


def inner_size(t: Target, at: int) -> int:
    """Returns the length of the inner tuple at ``t.p[at]``, which lies in the main data."""
    length = 0
    if t.main_at + t.main_length - at >= SGITHDRSZ:
        length = u16(t.p, at + sgit_size)
    if length < SGITHDRSZ or length > t.main_at + t.main_length - at:
        raise RedoError(
            f"invalid length {length} of an inner tuple: "
            f"{t.main_at + t.main_length - at} bytes are left"
        )
    return length


def tuple_at(page: Bytes, offset: int, minimum: int) -> int:
    """Returns where a tuple starts that has at least ``minimum`` bytes, all inside the page."""
    at = item_at(page, offset)
    if item_length(page, offset) < minimum:
        raise RedoError(
            f"tuple {offset} has {item_length(page, offset)} bytes: expected at least {minimum}"
        )
    return at


def add_exactly(page: Writable, source: Bytes, at: int, size: int, offset: int) -> int:
    """Adds a tuple under the given offset number; later line pointers move up."""
    if offset == InvalidOffsetNumber:
        raise RedoError("invalid offset number 0")
    add_item(page, source, at, size, offset, 0)
    return 0


def add_or_replace(page: Writable, source: Bytes, at: int, size: int, offset: int) -> int:
    """Adds a tuple at the end or in the place of a placeholder (addOrReplaceTuple)."""
    if offset <= cython.cast(cython.uint, max_offset(page)):
        if u32(page, tuple_at(page, offset, 4)) & SPGIST_STATE_MASK != SPGIST_PLACEHOLDER:
            raise RedoError(f"tuple {offset} to be replaced is not a placeholder")
        count_up(page, spgist_nPlaceholder, -1)
        index_tuple_delete(page, offset)
    add_exactly(page, source, at, size, offset)
    return 0


def set_node_link(page: Writable, offset: int, node: int, block: int, to: int) -> int:
    """Lets a node of inner tuple ``offset`` lead to tuple ``to`` of a block (spgUpdateNodeLink)."""
    at = tuple_at(page, offset, SGITHDRSZ)
    end = at + item_length(page, offset)
    nodes = u32(page, at) >> 3 & 0x1FFF
    cursor = at + SGITHDRSZ + (u32(page, at) >> 16)
    for i in range(nodes):
        if end - cursor < SizeOfIndexTupleData:
            raise RedoError(f"inner tuple {offset} ends in node {i} of {nodes}")
        if i == cython.cast(cython.int, node):
            if block < 0:
                raise RedoError("the record has no block reference for the downlink")
            put_block(page, cursor, block)
            put16(page, cursor + ip_posid, to)
            return 0
        cursor += u16(page, cursor + t_info) & INDEX_SIZE_MASK
    raise RedoError(f"no node {node} in inner tuple {offset}: it has {nodes}")


def set_next(page: Writable, offset: int, next_offset: int) -> int:
    """Links a leaf tuple to the next one of its chain."""
    at = tuple_at(page, offset, SGLTHDRSZ)
    info = u16(page, at + sglt_info) & ~SGLT_NEXT_OFFSET_MASK
    put16(page, at + sglt_info, info | next_offset & SGLT_NEXT_OFFSET_MASK)
    return 0


def form_dead(scratch: Writable, state: int, block: int, offset: int, xid: int) -> int:
    """Writes a dead tuple of 16 bytes to ``scratch``; only a redirect uses where it leads to."""
    put32(scratch, 0, state | SGDTSIZE << SGLT_SIZE_SHIFT)
    put16(scratch, sglt_info, 0)
    if state == SPGIST_REDIRECT:
        if block < 0:
            raise RedoError("the record has no block reference for the redirection")
        put_block(scratch, sgdt_pointer, block)
        put16(scratch, sgdt_posid, offset)
        put32(scratch, sgdt_xid, xid)
    else:
        put32(scratch, sgdt_pointer, InvalidBlockNumber)
        put16(scratch, sgdt_posid, 0)
        put32(scratch, sgdt_xid, 0)
    return 0


def replace_by_dead(
    t: Target,
    numbers_at: int,
    count: int,
    first_state: int,
    rest_state: int,
    block: int,
    to: int,
    xid: int,
) -> int:
    """Puts dead tuples in the places of others (spgPageIndexMultiDelete).

    ``t.p[numbers_at]`` are ``count`` offset numbers in any order; the first one of them gets
    ``first_state``. In the scratch: a dead tuple, a mark for each offset number, and from 4096 the
    offset numbers in ascending order.
    """
    if count == 0:
        return 0
    top = max_offset(t.page)
    fill(t.scratch, SGDTSIZE, 2048, 0)
    for i in range(count):
        offset = u16(t.p, numbers_at + 2 * i)
        if offset < 1 or offset > top:
            raise RedoError(f"invalid offset number {offset}: page has {top}")
        if u8(t.scratch, SGDTSIZE + offset):
            raise RedoError(f"offset number {offset} is listed twice")
        put8(t.scratch, SGDTSIZE + offset, 1)
    found = 0
    for offset in range(1, top + 1):
        if u8(t.scratch, SGDTSIZE + offset):
            put16(t.scratch, 4096 + 2 * found, offset)
            found += 1
    index_multi_delete(t.page, t.scratch, 4096, found)
    first = u16(t.p, numbers_at)
    for i in range(found):
        offset = u16(t.scratch, 4096 + 2 * i)
        state = first_state if offset == first else rest_state
        form_dead(t.scratch, state, block, to, xid)
        add_exactly(t.page, t.scratch, 0, SGDTSIZE, offset)
        if state == SPGIST_REDIRECT:
            count_up(t.page, spgist_nRedirection, 1)
        elif state == SPGIST_PLACEHOLDER:
            count_up(t.page, spgist_nPlaceholder, 1)
    return 0
