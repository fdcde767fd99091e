"""Redo of GiST records for one page (gistxlog.c), PostgreSQL 14 to 18.

A GiST page has a 16-byte special space: NSN (high u32, low u32), rightlink u32, flags u16, page id
0xFF81. What differs by version is in ``delete`` alone: from 16 its record says whether the table is
a catalog.

The left half of a split carries follow-right until its downlink is in the parent. The record that
inserts the downlink names that page, and clears the flag and stamps the NSN only after it was
logged, so even a full-page image in that record still has the flag: ``gist_after_image``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cython

from walstream.errors import RedoError, UnsupportedRecord

if TYPE_CHECKING:
    from walstream.redo.rules.target import Target
    from walstream.wal.buffer import Writable
if not cython.compiled:
    from walstream.redo.rules.index_tuple import append_tuples, tuple_length
    from walstream.redo.rules.page import (
        expect_special,
        index_multi_delete,
        index_tuple_delete,
        index_tuple_overwrite,
        max_offset,
        page_init,
    )
    from walstream.rmgr.gist.layout import (
        F_DELETED,
        F_FOLLOW_RIGHT,
        F_HAS_GARBAGE,
        F_LEAF,
        F_TUPLES_DELETED,
        GIST_PAGE_ID,
        GIST_ROOT_BLKNO,
        EndOfGISTDeletedPage,
        SizeOfGISTPageOpaque,
        deleteXid,
        gist_flags,
        gist_nsn,
        gist_page_id,
        gist_rightlink,
    )
    from walstream.wal.buffer import move, put16, put32, u8, u16, u32, u64
    from walstream.wal.bufpage import (
        PG_UINT32_MAX,
        InvalidBlockNumber,
        pd_lower,
        pd_upper,
        set_pd_lower,
    )
    from walstream.wal.opcodes import (
        XLOG_GIST_DELETE,
        XLOG_GIST_PAGE_DELETE,
        XLOG_GIST_PAGE_SPLIT,
        XLOG_GIST_PAGE_UPDATE,
    )


def gist_redo(t: Target) -> int:
    """Applies a Gist record to one page; returns 1: the page gets the record's LSN.

    Raises:
        RedoError: the record or the page is not what PostgreSQL writes.
        UnsupportedRecord: the operation is unknown, or names no page (PAGE_REUSE, ASSIGN_LSN).
    """
    if t.op == XLOG_GIST_PAGE_UPDATE:
        if t.block_id == 0:
            return page_update(t)
        if t.block_id == 1:
            return clear_follow_right(t)
    elif t.op == XLOG_GIST_DELETE:
        if t.block_id == 0:
            return delete(t)
    elif t.op == XLOG_GIST_PAGE_SPLIT:
        if t.block_id == 0:
            return clear_follow_right(t)
        return page_split(t)
    elif t.op == XLOG_GIST_PAGE_DELETE:
        if t.block_id <= 1:
            return page_delete(t)
    else:
        raise UnsupportedRecord(f"unknown Gist operation {t.op}")
    return t.no_block()


def gist_after_image(t: Target) -> int:
    """What is left to do once the record's full-page image is on the page; returns 1 if anything.

    The engine calls this for every Gist image that it restored, after it stamped the page.
    """
    if (t.op == XLOG_GIST_PAGE_UPDATE and t.block_id == 1) or (
        t.op == XLOG_GIST_PAGE_SPLIT and t.block_id == 0
    ):
        return clear_follow_right(t)
    return 0


def set_flags(page: Writable, clear: int, add: int) -> int:
    put16(page, gist_flags, u16(page, gist_flags) & ~clear | add)
    return 0


def set_nsn(page: Writable, nsn: int) -> int:
    put32(page, gist_nsn, nsn >> 32)
    put32(page, gist_nsn + 4, nsn & PG_UINT32_MAX)
    return 0


def clear_follow_right(t: Target) -> int:
    """The left half of a split whose downlink is now there (gistRedoClearFollowRight)."""
    expect_special(t.page, SizeOfGISTPageOpaque)
    set_nsn(t.page, t.end_lsn)
    set_flags(t.page, F_FOLLOW_RIGHT, 0)
    return 1


def page_update(t: Target) -> int:
    """Main data: deletes u16, inserts u16. Block data: offset numbers to delete, tuples to add."""
    # gistRedoPageUpdateRecord
    expect_special(t.page, SizeOfGISTPageOpaque)
    t.need_main(4)
    deletes = u16(t.p, t.main_at)
    inserts = u16(t.p, t.main_at + 2)
    at = t.data_at
    t.need_data(2 * deletes)
    if deletes == 1 and inserts == 1:
        # One for one is done in place, as gistplacetopage does.
        size = tuple_length(t.p, at + 2, t.data_length - 2)
        index_tuple_overwrite(t.page, u16(t.p, at), t.p, at + 2, size)
        append_tuples(t, at + 2 + size, 0)
        return 1
    if deletes > 0:
        index_multi_delete(t.page, t.p, at, deletes)
        if u16(t.page, gist_flags) & F_LEAF:
            set_flags(t.page, 0, F_TUPLES_DELETED)
    append_tuples(t, at + 2 * deletes, inserts)
    return 1


def delete(t: Target) -> int:
    """Removes tuples that were marked dead. Main data: conflict xid u32, count u16, offset numbers.

    From 16 a catalog flag u8 and a pad byte stand before the offset numbers.
    """
    # gistRedoDeleteRecord
    expect_special(t.page, SizeOfGISTPageOpaque)
    header = 8 if t.version >= 16 else 6
    t.need_main(header)
    count = u16(t.p, t.main_at + 4)
    if t.version >= 16 or t.main_length > header:
        t.need_main(header + 2 * count)
        index_multi_delete(t.page, t.p, t.main_at + header, count)
    set_flags(t.page, F_HAS_GARBAGE, F_TUPLES_DELETED)
    return 1


def page_split(t: Target) -> int:
    """Makes one of the pages of a split, ids 1 to n.

    Main data: right link of the original page u32, 4 pad, its NSN u64, leaf u8, pad, number of
    pages u16, mark follow-right u8. Block data: number of tuples i32, the tuples.
    """
    # gistRedoPageSplitRecord
    t.need_main(21)
    pages = u16(t.p, t.main_at + 18)
    index = t.block_id
    if index > pages:
        raise RedoError(f"unexpected block reference {index}: the split has {pages} pages")
    t.need_data(4)
    flags = 0
    last = index == pages
    if t.block != GIST_ROOT_BLKNO:
        if u8(t.p, t.main_at + 16):
            flags = F_LEAF
        # A root split leaves no page to follow: the new root, block 0, has all downlinks.
        if not last and u8(t.p, t.main_at + 20) and t.block_number(1) != GIST_ROOT_BLKNO:
            flags |= F_FOLLOW_RIGHT
    if t.block == GIST_ROOT_BLKNO:
        right = InvalidBlockNumber
    elif last:
        right = u32(t.p, t.main_at)
    else:
        right = t.block_number(t.block_id + 1)
        if right < 0:
            raise RedoError(f"the split has {pages} pages, but no block reference {index + 1}")
    page_init(t.page, SizeOfGISTPageOpaque)
    put32(t.page, gist_rightlink, right)
    put16(t.page, gist_flags, flags)
    put16(t.page, gist_page_id, GIST_PAGE_ID)
    set_nsn(t.page, u64(t.p, t.main_at + 8))
    append_tuples(t, t.data_at + 4, u32(t.p, t.data_at))
    return 1


def page_delete(t: Target) -> int:
    """Main data: deletion xid u64, offset of the downlink u16. Blocks: 0 the page, 1 its parent.

    A deleted page holds the xid after its header (GISTDeletedPageContents).
    """
    # gistRedoPageDelete
    expect_special(t.page, SizeOfGISTPageOpaque)
    t.need_main(10)
    if t.block_id == 1:
        index_tuple_delete(t.page, u16(t.p, t.main_at + 8))
        return 1
    if pd_upper(t.page) < EndOfGISTDeletedPage or max_offset(t.page) > 0:
        raise RedoError(
            f"a page with tuples is deleted: lower = {pd_lower(t.page)}, upper = {pd_upper(t.page)}"
        )
    set_flags(t.page, 0, F_DELETED)
    set_pd_lower(t.page, EndOfGISTDeletedPage)
    move(t.page, deleteXid, t.p, t.main_at, 8)
    return 1
