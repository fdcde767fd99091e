"""Redo of SP-GiST records for one page (spgxlog.c), PostgreSQL 14 to 18.

An SP-GiST page has an 8-byte special space: flags u16, number of redirections u16, number of
placeholders u16, page id 0xFF82. Every tuple starts with its state in two bits (0 live, 1 redirect,
2 dead, 3 placeholder). Leaf: state and size (30 bits), next offset u16 (14 bits), heap item; dead
ones are 16 bytes long: state and size, u16, item pointer, xid. Inner: state, all-the-same 1 bit,
number of nodes 13 bits, prefix size 16 bits, size u16, 2 pad, prefix, nodes; a node is an index
tuple whose item pointer is the downlink.

Line pointers keep their places: a tuple that goes leaves a dead one, a new tuple may take the
place of a placeholder. What differs by version is in ``vacuum_redirect`` alone: from 16 its record
says whether the table is a catalog.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cython

from walstream.errors import RedoError, UnsupportedRecord

if TYPE_CHECKING:
    from walstream.redo.rules.target import Target
    from walstream.wal.buffer import Bytes, Writable
if not cython.compiled:
    from walstream.redo.rules.page import (
        add_item,
        index_multi_delete,
        index_tuple_delete,
        item_at,
        item_id,
        item_length,
        max_offset,
        page_init,
    )
    from walstream.wal.buffer import fill, put8, put16, put32, u8, u16, u32

# Flags of the special space.
LEAF = 0x04
NULLS = 0x08

# States of a tuple.
REDIRECT = 1
DEAD = 2
PLACEHOLDER = 3

# Typed in the .pxd: a literal this large would be a Python object in compiled code.
INVALID_BLOCK = 0xFFFFFFFF


def spgist_redo(t: Target) -> int:
    """Applies an SPGist record to one page; returns 1: the page gets the record's LSN.

    Raises:
        RedoError: the record or the page is not what PostgreSQL writes.
        UnsupportedRecord: the operation is unknown.
    """
    if t.op == 0x10:
        return add_leaf(t)
    if t.op == 0x20:
        return move_leafs(t)
    if t.op == 0x30:
        return add_node(t)
    if t.op == 0x40:
        return split_tuple(t)
    if t.op == 0x50:
        return pick_split(t)
    if t.op == 0x60:
        return vacuum_leaf(t)
    if t.op == 0x70:
        return vacuum_root(t)
    if t.op == 0x80:
        return vacuum_redirect(t)
    raise UnsupportedRecord(f"unknown SPGist operation {t.op}")


def unexpected(t: Target) -> int:
    raise RedoError(f"unexpected block reference {t.block_id}")


def expect_spgist(page: Bytes) -> int:
    """Raises unless the special space has the size that SP-GiST's has."""
    if u16(page, 16) != 8184:
        raise RedoError(f"not an SP-GiST page: expected pd_special 8184, got {u16(page, 16)}")
    return 0


def spgist_init(page: Writable, flags: int) -> int:
    """Makes an empty page (SpGistInitPage)."""
    page_init(page, 8)
    put16(page, 8184, flags)
    put16(page, 8190, 0xFF82)
    return 0


def count_up(page: Writable, at: int, by: int) -> int:
    """Adds to one of the counters of the special space: 8186 redirections, 8188 placeholders."""
    put16(page, at, u16(page, at) + by & 0xFFFF)
    return 0


def leaf_size(t: Target, at: int) -> int:
    """Returns the length of the leaf tuple at ``t.p[at]``, which lies in the main data."""
    length = 0
    if t.main_at + t.main_length - at >= 12:
        length = u32(t.p, at) >> 2
    if length < 12 or length > t.main_at + t.main_length - at:
        raise RedoError(
            f"invalid length {length} of a leaf tuple: "
            f"{t.main_at + t.main_length - at} bytes are left"
        )
    return length


def inner_size(t: Target, at: int) -> int:
    """Returns the length of the inner tuple at ``t.p[at]``, which lies in the main data."""
    length = 0
    if t.main_at + t.main_length - at >= 8:
        length = u16(t.p, at + 4)
    if length < 8 or length > t.main_at + t.main_length - at:
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
    if offset == 0:
        raise RedoError("invalid offset number 0")
    add_item(page, source, at, size, offset, 0)
    return 0


def add_or_replace(page: Writable, source: Bytes, at: int, size: int, offset: int) -> int:
    """Adds a tuple at the end or in the place of a placeholder (addOrReplaceTuple)."""
    if offset <= cython.cast(cython.uint, max_offset(page)):
        if u32(page, tuple_at(page, offset, 4)) & 3 != PLACEHOLDER:
            raise RedoError(f"tuple {offset} to be replaced is not a placeholder")
        count_up(page, 8188, -1)
        index_tuple_delete(page, offset)
    add_exactly(page, source, at, size, offset)
    return 0


def set_node_link(page: Writable, offset: int, node: int, block: int, to: int) -> int:
    """Lets a node of inner tuple ``offset`` lead to tuple ``to`` of a block (spgUpdateNodeLink)."""
    at = tuple_at(page, offset, 8)
    end = at + item_length(page, offset)
    nodes = u32(page, at) >> 3 & 0x1FFF
    cursor = at + 8 + (u32(page, at) >> 16)
    for i in range(nodes):
        if end - cursor < 8:
            raise RedoError(f"inner tuple {offset} ends in node {i} of {nodes}")
        if i == cython.cast(cython.int, node):
            if block < 0:
                raise RedoError("the record has no block reference for the downlink")
            put16(page, cursor, block >> 16)
            put16(page, cursor + 2, block & 0xFFFF)
            put16(page, cursor + 4, to)
            return 0
        cursor += u16(page, cursor + 6) & 0x1FFF
    raise RedoError(f"no node {node} in inner tuple {offset}: it has {nodes}")


def set_next(page: Writable, offset: int, next_offset: int) -> int:
    """Links a leaf tuple to the next one of its chain."""
    at = tuple_at(page, offset, 12)
    put16(page, at + 4, u16(page, at + 4) & 0xC000 | next_offset & 0x3FFF)
    return 0


def form_dead(scratch: Writable, state: int, block: int, offset: int, xid: int) -> int:
    """Writes a dead tuple of 16 bytes to ``scratch``; only a redirect uses where it leads to."""
    put32(scratch, 0, state | 16 << 2)
    put16(scratch, 4, 0)
    if state == REDIRECT:
        if block < 0:
            raise RedoError("the record has no block reference for the redirection")
        put16(scratch, 6, block >> 16)
        put16(scratch, 8, block & 0xFFFF)
        put16(scratch, 10, offset)
        put32(scratch, 12, xid)
    else:
        put32(scratch, 6, INVALID_BLOCK)
        put16(scratch, 10, 0)
        put32(scratch, 12, 0)
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
    fill(t.scratch, 16, 2048, 0)
    for i in range(count):
        offset = u16(t.p, numbers_at + 2 * i)
        if offset < 1 or offset > top:
            raise RedoError(f"invalid offset number {offset}: page has {top}")
        if u8(t.scratch, 16 + offset):
            raise RedoError(f"offset number {offset} is listed twice")
        put8(t.scratch, 16 + offset, 1)
    found = 0
    for offset in range(1, top + 1):
        if u8(t.scratch, 16 + offset):
            put16(t.scratch, 4096 + 2 * found, offset)
            found += 1
    index_multi_delete(t.page, t.scratch, 4096, found)
    first = u16(t.p, numbers_at)
    for i in range(found):
        offset = u16(t.scratch, 4096 + 2 * i)
        state = first_state if offset == first else rest_state
        form_dead(t.scratch, state, block, to, xid)
        add_exactly(t.page, t.scratch, 0, 16, offset)
        if state == REDIRECT:
            count_up(t.page, 8186, 1)
        elif state == PLACEHOLDER:
            count_up(t.page, 8188, 1)
    return 0


def add_leaf(t: Target) -> int:
    """Adds a leaf tuple.

    Main data: new page u8, nulls u8, offset u16, head of chain u16, parent offset u16, node u16,
    the tuple. Blocks: 0 the leaf page, 1 the parent.
    """
    t.need_main(10)
    m = t.main_at
    offset = u16(t.p, m + 2)
    if t.block_id == 1:
        expect_spgist(t.page)
        set_node_link(t.page, u16(t.p, m + 6), u16(t.p, m + 8), t.block_number(0), offset)
        return 1
    if t.block_id != 0:
        return unexpected(t)
    size = leaf_size(t, m + 10)
    if u8(t.p, m):
        spgist_init(t.page, LEAF | (NULLS if u8(t.p, m + 1) else 0))
    expect_spgist(t.page)
    head = u16(t.p, m + 4)
    if offset != head:
        add_or_replace(t.page, t.p, m + 10, size, offset)
        if head != 0:
            set_next(t.page, head, offset)
    else:
        # The head of the chain is a DEAD tuple: its place is taken.
        index_tuple_delete(t.page, offset)
        add_exactly(t.page, t.p, m + 10, size, offset)
    return 1


def move_leafs(t: Target) -> int:
    """Moves a chain of leaf tuples to another page.

    Main data: moves u16, new page u8, replace dead u8, nulls u8, pad, parent offset u16, node u16,
    2 pad, state (xid u32, building u8, 3 pad), offsets to delete, offsets to insert (one more,
    or only one where a dead tuple is replaced), leaf tuples. Blocks: 0 source, 1 destination,
    2 parent.
    """
    t.need_main(20)
    m = t.main_at
    moves = u16(t.p, m)
    inserts = 1 if u8(t.p, m + 3) else moves + 1
    insert_at = m + 20 + 2 * moves
    t.need_main(20 + 2 * moves + 2 * inserts)
    to = u16(t.p, insert_at + 2 * (inserts - 1))
    if t.block_id == 1:
        if u8(t.p, m + 2):
            spgist_init(t.page, LEAF | (NULLS if u8(t.p, m + 4) else 0))
        expect_spgist(t.page)
        at = insert_at + 2 * inserts
        for i in range(inserts):
            size = leaf_size(t, at)
            add_or_replace(t.page, t.p, at, size, u16(t.p, insert_at + 2 * i))
            at += size
        return 1
    expect_spgist(t.page)
    if t.block_id == 0:
        building = u8(t.p, m + 16) != 0
        replace_by_dead(
            t,
            m + 20,
            moves,
            PLACEHOLDER if building else REDIRECT,
            PLACEHOLDER,
            t.block_number(1),
            to,
            u32(t.p, m + 12),
        )
        return 1
    if t.block_id == 2:
        set_node_link(t.page, u16(t.p, m + 6), u16(t.p, m + 8), t.block_number(1), to)
        return 1
    return unexpected(t)


def add_node(t: Target) -> int:
    """Replaces an inner tuple by one with one more node.

    Main data: offset u16, new offset u16, new page u8, parent block i8, parent offset u16, node
    u16, 2 pad, state, the inner tuple. Blocks: 0 the page of the old tuple, 1 where the new one
    goes if that is another page, 2 the parent if it is neither (then the parent block is 2).
    """
    t.need_main(20)
    m = t.main_at
    size = inner_size(t, m + 20)
    offset = u16(t.p, m)
    new_offset = u16(t.p, m + 2)
    parent = u8(t.p, m + 5)
    new_block = t.block_number(1)
    if t.block_id == 1:
        if u8(t.p, m + 4):
            spgist_init(t.page, 0)
        expect_spgist(t.page)
        add_or_replace(t.page, t.p, m + 20, size, new_offset)
    elif t.block_id == 0:
        expect_spgist(t.page)
        index_tuple_delete(t.page, offset)
        if new_block < 0:
            add_exactly(t.page, t.p, m + 20, size, offset)
            return 1
        building = u8(t.p, m + 16) != 0
        form_dead(
            t.scratch,
            PLACEHOLDER if building else REDIRECT,
            new_block,
            new_offset,
            u32(t.p, m + 12),
        )
        add_exactly(t.page, t.scratch, 0, 16, offset)
        count_up(t.page, 8188 if building else 8186, 1)
    elif t.block_id == 2 and parent == 2:
        expect_spgist(t.page)
    else:
        return unexpected(t)
    if cython.cast(cython.int, parent) == t.block_id:
        set_node_link(t.page, u16(t.p, m + 6), u16(t.p, m + 8), new_block, new_offset)
    return 1


def split_tuple(t: Target) -> int:
    """Replaces an inner tuple by two, the prefix's leading to the postfix's.

    Main data: prefix offset u16, postfix offset u16, new page u8, same block u8, the two tuples.
    Blocks: 0 where the prefix tuple goes, 1 the postfix tuple if that is another page.
    """
    t.need_main(6)
    m = t.main_at
    prefix_size = inner_size(t, m + 6)
    postfix_at = m + 6 + prefix_size
    postfix_size = inner_size(t, postfix_at)
    same = u8(t.p, m + 5) != 0
    if t.block_id == 1 and not same:
        if u8(t.p, m + 4):
            spgist_init(t.page, 0)
        expect_spgist(t.page)
        add_or_replace(t.page, t.p, postfix_at, postfix_size, u16(t.p, m + 2))
        return 1
    if t.block_id != 0:
        return unexpected(t)
    expect_spgist(t.page)
    index_tuple_delete(t.page, u16(t.p, m))
    add_exactly(t.page, t.p, m + 6, prefix_size, u16(t.p, m))
    if same:
        add_or_replace(t.page, t.p, postfix_at, postfix_size, u16(t.p, m + 2))
    return 1


def pick_split(t: Target) -> int:
    """Replaces a chain of leaf tuples by an inner tuple with a chain for each node.

    Main data: root split u8, pad, deletes u16, inserts u16, init source u8, init destination u8,
    inner offset u16, init inner u8, nulls u8, inner is parent u8, pad, parent offset u16, node u16,
    2 pad, state; offsets to delete, offsets to insert, a page selector u8 for each insert (0
    source, else destination), the inner tuple, leaf tuples. Blocks: 0 source (not when the root is
    split), 1 destination, 2 inner, 3 parent.
    """
    t.need_main(28)
    m = t.main_at
    deletes = u16(t.p, m + 2)
    inserts = u16(t.p, m + 4)
    insert_at = m + 28 + 2 * deletes
    select_at = insert_at + 2 * inserts
    inner_at = select_at + inserts
    t.need_main(28 + 2 * deletes + 3 * inserts)
    size = inner_size(t, inner_at)
    inner_offset = u16(t.p, m + 8)
    nulls = NULLS if u8(t.p, m + 11) else 0
    if t.block_id == 3:
        expect_spgist(t.page)
        set_node_link(t.page, u16(t.p, m + 14), u16(t.p, m + 16), t.block_number(2), inner_offset)
        return 1
    if t.block_id == 2:
        if u8(t.p, m + 10):
            spgist_init(t.page, nulls)
        expect_spgist(t.page)
        add_or_replace(t.page, t.p, inner_at, size, inner_offset)
        if u8(t.p, m + 12):
            set_node_link(
                t.page, u16(t.p, m + 14), u16(t.p, m + 16), t.block_number(2), inner_offset
            )
        return 1
    if t.block_id == 0 and not u8(t.p, m):
        if u8(t.p, m + 6):
            spgist_init(t.page, LEAF | nulls)
        else:
            expect_spgist(t.page)
            building = u8(t.p, m + 24) != 0
            replace_by_dead(
                t,
                m + 28,
                deletes,
                PLACEHOLDER if building else REDIRECT,
                PLACEHOLDER,
                t.block_number(2),
                inner_offset,
                u32(t.p, m + 20),
            )
    elif t.block_id == 1:
        if u8(t.p, m + 7):
            spgist_init(t.page, LEAF | nulls)
        expect_spgist(t.page)
    else:
        return unexpected(t)
    at = inner_at + size
    for i in range(inserts):
        size = leaf_size(t, at)
        leaf = 1 if u8(t.p, select_at + i) else 0
        if cython.cast(cython.int, leaf) == t.block_id:
            add_or_replace(t.page, t.p, at, size, u16(t.p, insert_at + 2 * i))
        at += size
    return 1


def vacuum_leaf(t: Target) -> int:
    """Main data: dead u16, placeholders u16, moves u16, chains u16, state, then offset numbers.

    What becomes dead, what becomes a placeholder, where to move from, where to move to, whose link
    to set, and what to.
    """
    if t.block_id != 0:
        return unexpected(t)
    t.need_main(16)
    m = t.main_at
    dead = u16(t.p, m)
    placeholders = u16(t.p, m + 2)
    moves = u16(t.p, m + 4)
    chains = u16(t.p, m + 6)
    t.need_main(16 + 2 * (dead + placeholders + 2 * moves + 2 * chains))
    expect_spgist(t.page)
    at = m + 16
    replace_by_dead(t, at, dead, DEAD, DEAD, -1, 0, 0)
    at += 2 * dead
    replace_by_dead(t, at, placeholders, PLACEHOLDER, PLACEHOLDER, -1, 0, 0)
    at += 2 * placeholders
    top = max_offset(t.page)
    for i in range(moves):
        source = u16(t.p, at + 2 * i)
        target = u16(t.p, at + 2 * (moves + i))
        if source < 1 or source > top or target < 1 or target > top:
            raise RedoError(f"invalid move from {source} to {target}: page has {top} tuples")
        lp = item_id(t.page, source)
        put32(t.page, 20 + 4 * source, item_id(t.page, target))
        put32(t.page, 20 + 4 * target, lp)
    replace_by_dead(t, at, moves, PLACEHOLDER, PLACEHOLDER, -1, 0, 0)
    at += 4 * moves
    for i in range(chains):
        set_next(t.page, u16(t.p, at + 2 * i), u16(t.p, at + 2 * (chains + i)))
    return 1


def vacuum_root(t: Target) -> int:
    """Main data: deletes u16, 2 pad, state, offset numbers. The root is a leaf."""
    if t.block_id != 0:
        return unexpected(t)
    t.need_main(12)
    count = u16(t.p, t.main_at)
    t.need_main(12 + 2 * count)
    expect_spgist(t.page)
    index_multi_delete(t.page, t.p, t.main_at + 12, count)
    return 1


def vacuum_redirect(t: Target) -> int:
    """Main data: redirects u16, first placeholder to remove u16, conflict xid u32, offset numbers.

    From 16 a catalog flag u8 and a pad byte stand before the offset numbers.
    """
    if t.block_id != 0:
        return unexpected(t)
    header = 10 if t.version >= 16 else 8
    t.need_main(header)
    m = t.main_at
    count = u16(t.p, m)
    first = u16(t.p, m + 2)
    t.need_main(header + 2 * count)
    expect_spgist(t.page)
    for i in range(count):
        at = tuple_at(t.page, u16(t.p, m + header + 2 * i), 16)
        put32(t.page, at, u32(t.page, at) | PLACEHOLDER)
        put32(t.page, at + 6, INVALID_BLOCK)
        put16(t.page, at + 10, 0)
    count_up(t.page, 8186, -cython.cast(cython.int, count))
    count_up(t.page, 8188, count)
    if first != 0:
        top = max_offset(t.page)
        if first > top:
            raise RedoError(f"invalid first placeholder {first}: page has {top} tuples")
        for i in range(first, top + 1):
            put16(t.scratch, 2 * (i - first), i)
        count_up(t.page, 8188, -cython.cast(cython.int, top - first + 1))
        index_multi_delete(t.page, t.scratch, 0, top - first + 1)
    return 1
