"""Redo of SP-GiST records for one page (spgxlog.c), PostgreSQL 14 to 18.

What differs by version is in ``vacuum_redirect`` alone: from 16 its record says whether the table
is a catalog. Pages and tuples are in ``page.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cython

from walstream.errors import RedoError, UnsupportedRecord

if TYPE_CHECKING:
    from walstream.redo.rules.target import Target
if not cython.compiled:
    from walstream.redo.rules.page import (
        expect_special,
        index_multi_delete,
        index_tuple_delete,
        item_id,
        max_offset,
    )
    from walstream.rmgr.spgist.layout import (
        SGDTSIZE,
        SPGIST_DEAD,
        SPGIST_LEAF,
        SPGIST_NULLS,
        SPGIST_PLACEHOLDER,
        SPGIST_REDIRECT,
        SizeOfSpGistPageOpaque,
        sgdt_pointer,
        sgdt_posid,
        spgist_nPlaceholder,
        spgist_nRedirection,
    )
    from walstream.rmgr.spgist.page import (
        add_exactly,
        add_or_replace,
        count_up,
        form_dead,
        inner_size,
        leaf_size,
        replace_by_dead,
        set_next,
        set_node_link,
        spgist_init,
        tuple_at,
    )
    from walstream.wal.buffer import put16, put32, u8, u16, u32
    from walstream.wal.bufpage import InvalidBlockNumber, InvalidOffsetNumber, item_id_at
    from walstream.wal.opcodes import (
        XLOG_SPGIST_ADD_LEAF,
        XLOG_SPGIST_ADD_NODE,
        XLOG_SPGIST_MOVE_LEAFS,
        XLOG_SPGIST_PICKSPLIT,
        XLOG_SPGIST_SPLIT_TUPLE,
        XLOG_SPGIST_VACUUM_LEAF,
        XLOG_SPGIST_VACUUM_REDIRECT,
        XLOG_SPGIST_VACUUM_ROOT,
    )


def spgist_redo(t: Target) -> int:
    """Applies an SPGist record to one page; returns 1: the page gets the record's LSN.

    Raises:
        RedoError: the record or the page is not what PostgreSQL writes.
        UnsupportedRecord: the operation is unknown.
    """
    if t.op == XLOG_SPGIST_ADD_LEAF:
        return add_leaf(t)
    if t.op == XLOG_SPGIST_MOVE_LEAFS:
        return move_leafs(t)
    if t.op == XLOG_SPGIST_ADD_NODE:
        return add_node(t)
    if t.op == XLOG_SPGIST_SPLIT_TUPLE:
        return split_tuple(t)
    if t.op == XLOG_SPGIST_PICKSPLIT:
        return pick_split(t)
    if t.op == XLOG_SPGIST_VACUUM_LEAF:
        return vacuum_leaf(t)
    if t.op == XLOG_SPGIST_VACUUM_ROOT:
        return vacuum_root(t)
    if t.op == XLOG_SPGIST_VACUUM_REDIRECT:
        return vacuum_redirect(t)
    raise UnsupportedRecord(f"unknown SPGist operation {t.op}")


def add_leaf(t: Target) -> int:
    """Adds a leaf tuple.

    Main data: new page u8, nulls u8, offset u16, head of chain u16, parent offset u16, node u16,
    the tuple. Blocks: 0 the leaf page, 1 the parent.
    """
    # spgRedoAddLeaf
    t.need_main(10)
    m = t.main_at
    offset = u16(t.p, m + 2)
    if t.block_id == 1:
        expect_special(t.page, SizeOfSpGistPageOpaque)
        set_node_link(t.page, u16(t.p, m + 6), u16(t.p, m + 8), t.block_number(0), offset)
        return 1
    if t.block_id != 0:
        return t.no_block()
    size = leaf_size(t, m + 10)
    if u8(t.p, m):
        spgist_init(t.page, SPGIST_LEAF | (SPGIST_NULLS if u8(t.p, m + 1) else 0))
    expect_special(t.page, SizeOfSpGistPageOpaque)
    head = u16(t.p, m + 4)
    if offset != head:
        add_or_replace(t.page, t.p, m + 10, size, offset)
        if head != InvalidOffsetNumber:
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
    # spgRedoMoveLeafs
    t.need_main(20)
    m = t.main_at
    moves = u16(t.p, m)
    inserts = 1 if u8(t.p, m + 3) else moves + 1
    insert_at = m + 20 + 2 * moves
    t.need_main(20 + 2 * moves + 2 * inserts)
    to = u16(t.p, insert_at + 2 * (inserts - 1))
    if t.block_id == 1:
        if u8(t.p, m + 2):
            spgist_init(t.page, SPGIST_LEAF | (SPGIST_NULLS if u8(t.p, m + 4) else 0))
        expect_special(t.page, SizeOfSpGistPageOpaque)
        at = insert_at + 2 * inserts
        for i in range(inserts):
            size = leaf_size(t, at)
            add_or_replace(t.page, t.p, at, size, u16(t.p, insert_at + 2 * i))
            at += size
        return 1
    expect_special(t.page, SizeOfSpGistPageOpaque)
    if t.block_id == 0:
        building = u8(t.p, m + 16) != 0
        replace_by_dead(
            t,
            m + 20,
            moves,
            SPGIST_PLACEHOLDER if building else SPGIST_REDIRECT,
            SPGIST_PLACEHOLDER,
            t.block_number(1),
            to,
            u32(t.p, m + 12),
        )
        return 1
    if t.block_id == 2:
        set_node_link(t.page, u16(t.p, m + 6), u16(t.p, m + 8), t.block_number(1), to)
        return 1
    return t.no_block()


def add_node(t: Target) -> int:
    """Replaces an inner tuple by one with one more node.

    Main data: offset u16, new offset u16, new page u8, parent block i8, parent offset u16, node
    u16, 2 pad, state, the inner tuple. Blocks: 0 the page of the old tuple, 1 where the new one
    goes if that is another page, 2 the parent if it is neither (then the parent block is 2).
    """
    # spgRedoAddNode
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
        expect_special(t.page, SizeOfSpGistPageOpaque)
        add_or_replace(t.page, t.p, m + 20, size, new_offset)
    elif t.block_id == 0:
        expect_special(t.page, SizeOfSpGistPageOpaque)
        index_tuple_delete(t.page, offset)
        if new_block < 0:
            add_exactly(t.page, t.p, m + 20, size, offset)
            return 1
        building = u8(t.p, m + 16) != 0
        form_dead(
            t.scratch,
            SPGIST_PLACEHOLDER if building else SPGIST_REDIRECT,
            new_block,
            new_offset,
            u32(t.p, m + 12),
        )
        add_exactly(t.page, t.scratch, 0, SGDTSIZE, offset)
        count_up(t.page, spgist_nPlaceholder if building else spgist_nRedirection, 1)
    elif t.block_id == 2 and parent == 2:
        expect_special(t.page, SizeOfSpGistPageOpaque)
    else:
        return t.no_block()
    if cython.cast(cython.int, parent) == t.block_id:
        set_node_link(t.page, u16(t.p, m + 6), u16(t.p, m + 8), new_block, new_offset)
    return 1


def split_tuple(t: Target) -> int:
    """Replaces an inner tuple by two, the prefix's leading to the postfix's.

    Main data: prefix offset u16, postfix offset u16, new page u8, same block u8, the two tuples.
    Blocks: 0 where the prefix tuple goes, 1 the postfix tuple if that is another page.
    """
    # spgRedoSplitTuple
    t.need_main(6)
    m = t.main_at
    prefix_size = inner_size(t, m + 6)
    postfix_at = m + 6 + prefix_size
    postfix_size = inner_size(t, postfix_at)
    same = u8(t.p, m + 5) != 0
    if t.block_id == 1 and not same:
        if u8(t.p, m + 4):
            spgist_init(t.page, 0)
        expect_special(t.page, SizeOfSpGistPageOpaque)
        add_or_replace(t.page, t.p, postfix_at, postfix_size, u16(t.p, m + 2))
        return 1
    if t.block_id != 0:
        return t.no_block()
    expect_special(t.page, SizeOfSpGistPageOpaque)
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
    # spgRedoPickSplit
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
    nulls = SPGIST_NULLS if u8(t.p, m + 11) else 0
    if t.block_id == 3:
        expect_special(t.page, SizeOfSpGistPageOpaque)
        set_node_link(t.page, u16(t.p, m + 14), u16(t.p, m + 16), t.block_number(2), inner_offset)
        return 1
    if t.block_id == 2:
        if u8(t.p, m + 10):
            spgist_init(t.page, nulls)
        expect_special(t.page, SizeOfSpGistPageOpaque)
        add_or_replace(t.page, t.p, inner_at, size, inner_offset)
        if u8(t.p, m + 12):
            set_node_link(
                t.page, u16(t.p, m + 14), u16(t.p, m + 16), t.block_number(2), inner_offset
            )
        return 1
    if t.block_id == 0 and not u8(t.p, m):
        if u8(t.p, m + 6):
            spgist_init(t.page, SPGIST_LEAF | nulls)
        else:
            expect_special(t.page, SizeOfSpGistPageOpaque)
            building = u8(t.p, m + 24) != 0
            replace_by_dead(
                t,
                m + 28,
                deletes,
                SPGIST_PLACEHOLDER if building else SPGIST_REDIRECT,
                SPGIST_PLACEHOLDER,
                t.block_number(2),
                inner_offset,
                u32(t.p, m + 20),
            )
    elif t.block_id == 1:
        if u8(t.p, m + 7):
            spgist_init(t.page, SPGIST_LEAF | nulls)
        expect_special(t.page, SizeOfSpGistPageOpaque)
    else:
        return t.no_block()
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
    # spgRedoVacuumLeaf
    if t.block_id != 0:
        return t.no_block()
    t.need_main(16)
    m = t.main_at
    dead = u16(t.p, m)
    placeholders = u16(t.p, m + 2)
    moves = u16(t.p, m + 4)
    chains = u16(t.p, m + 6)
    t.need_main(16 + 2 * (dead + placeholders + 2 * moves + 2 * chains))
    expect_special(t.page, SizeOfSpGistPageOpaque)
    at = m + 16
    replace_by_dead(t, at, dead, SPGIST_DEAD, SPGIST_DEAD, -1, 0, 0)
    at += 2 * dead
    replace_by_dead(t, at, placeholders, SPGIST_PLACEHOLDER, SPGIST_PLACEHOLDER, -1, 0, 0)
    at += 2 * placeholders
    top = max_offset(t.page)
    for i in range(moves):
        source = u16(t.p, at + 2 * i)
        target = u16(t.p, at + 2 * (moves + i))
        if source < 1 or source > top or target < 1 or target > top:
            raise RedoError(f"invalid move from {source} to {target}: page has {top} tuples")
        lp = item_id(t.page, source)
        put32(t.page, item_id_at(source), item_id(t.page, target))
        put32(t.page, item_id_at(target), lp)
    replace_by_dead(t, at, moves, SPGIST_PLACEHOLDER, SPGIST_PLACEHOLDER, -1, 0, 0)
    at += 4 * moves
    for i in range(chains):
        set_next(t.page, u16(t.p, at + 2 * i), u16(t.p, at + 2 * (chains + i)))
    return 1


def vacuum_root(t: Target) -> int:
    """Main data: deletes u16, 2 pad, state, offset numbers. The root is a leaf."""
    # spgRedoVacuumRoot
    if t.block_id != 0:
        return t.no_block()
    t.need_main(12)
    count = u16(t.p, t.main_at)
    t.need_main(12 + 2 * count)
    expect_special(t.page, SizeOfSpGistPageOpaque)
    index_multi_delete(t.page, t.p, t.main_at + 12, count)
    return 1


def vacuum_redirect(t: Target) -> int:
    """Main data: redirects u16, first placeholder to remove u16, conflict xid u32, offset numbers.

    From 16 a catalog flag u8 and a pad byte stand before the offset numbers.
    """
    # spgRedoVacuumRedirect
    if t.block_id != 0:
        return t.no_block()
    header = 10 if t.version >= 16 else 8
    t.need_main(header)
    m = t.main_at
    count = u16(t.p, m)
    first = u16(t.p, m + 2)
    t.need_main(header + 2 * count)
    expect_special(t.page, SizeOfSpGistPageOpaque)
    for i in range(count):
        at = tuple_at(t.page, u16(t.p, m + header + 2 * i), SGDTSIZE)
        put32(t.page, at, u32(t.page, at) | SPGIST_PLACEHOLDER)
        put32(t.page, at + sgdt_pointer, InvalidBlockNumber)
        put16(t.page, at + sgdt_posid, InvalidOffsetNumber)
    count_up(t.page, spgist_nRedirection, -cython.cast(cython.int, count))
    count_up(t.page, spgist_nPlaceholder, count)
    if first != InvalidOffsetNumber:
        top = max_offset(t.page)
        if first > top:
            raise RedoError(f"invalid first placeholder {first}: page has {top} tuples")
        for i in range(first, top + 1):
            put16(t.scratch, 2 * (i - first), i)
        count_up(t.page, spgist_nPlaceholder, -cython.cast(cython.int, top - first + 1))
        index_multi_delete(t.page, t.scratch, 0, top - first + 1)
    return 1
