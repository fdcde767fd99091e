"""Redo of GIN records for one page (ginxlog.c); the same in PostgreSQL 14 to 18.

A GIN page has an 8-byte special space: rightlink u32, maxoff u16, flags u16. Three kinds of pages
have no line pointers: the meta page (56 bytes of counters after the header), internal pages of a
posting tree (after a right bound of 8 bytes, ``maxoff`` posting items of 10 bytes: child block,
key), and its leaves (after the right bound, compressed segments up to pd_lower), which are in
``posting.py``.

An operation whose pages always travel as images (SPLIT, VACUUM_PAGE) has nothing to redo: a record
of it without the image is an error, as it is in PostgreSQL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cython

from walstream.errors import RedoError, UnsupportedRecord

if TYPE_CHECKING:
    from walstream.redo.rules.target import Target
    from walstream.wal.buffer import Writable
if not cython.compiled:
    from walstream.redo.rules.index_layout import SizeOfIndexTupleData, ip_posid
    from walstream.redo.rules.index_tuple import append_tuples, tuple_length
    from walstream.redo.rules.page import (
        add_item,
        index_tuple_delete,
        item_at,
        item_length,
        page_init,
    )
    from walstream.rmgr.gin.layout import (
        GIN_COMPRESSED,
        GIN_DATA,
        GIN_DELETED,
        GIN_INCOMPLETE_SPLIT,
        GIN_INSERT_ISDATA,
        GIN_INSERT_ISLEAF,
        GIN_LEAF,
        GIN_LIST,
        GIN_LIST_FULLROW,
        GIN_META,
        EndOfGinMetaPage,
        GinDataPageData,
        GinDataPageMaxDataSize,
        GinPageOpaque,
        SizeOfGinMetaPageData,
        SizeOfGinPageOpaque,
        SizeOfPostingItem,
        gin_flags,
        gin_maxoff,
        gin_rightlink,
    )
    from walstream.rmgr.gin.posting import expect_flags, recompress
    from walstream.wal.buffer import move, put16, put32, u8, u16, u32
    from walstream.wal.bufpage import (
        FirstOffsetNumber,
        InvalidBlockNumber,
        InvalidOffsetNumber,
        SizeOfPageHeaderData,
        block_at,
        put_block,
        set_pd_lower,
        set_pd_prune_xid,
    )
    from walstream.wal.opcodes import (
        XLOG_GIN_CREATE_PTREE,
        XLOG_GIN_DELETE_LISTPAGE,
        XLOG_GIN_DELETE_PAGE,
        XLOG_GIN_INSERT,
        XLOG_GIN_INSERT_LISTPAGE,
        XLOG_GIN_SPLIT,
        XLOG_GIN_UPDATE_META_PAGE,
        XLOG_GIN_VACUUM_DATA_LEAF_PAGE,
        XLOG_GIN_VACUUM_PAGE,
    )


def gin_redo(t: Target) -> int:
    """Applies a Gin record to one page; returns 1 where the page gets the record's LSN.

    Raises:
        RedoError: the record or the page is not what PostgreSQL writes.
        UnsupportedRecord: the operation is unknown.
    """
    if t.op == XLOG_GIN_INSERT:
        return insert(t)
    if t.op == XLOG_GIN_VACUUM_DATA_LEAF_PAGE:
        if t.block_id != 0:
            return t.no_block()
        return recompress(t)
    if t.op == XLOG_GIN_UPDATE_META_PAGE:
        return update_meta(t)
    if t.op == XLOG_GIN_INSERT_LISTPAGE:
        return insert_list_page(t)
    if t.op == XLOG_GIN_DELETE_LISTPAGE:
        return delete_list_pages(t)
    if t.op == XLOG_GIN_CREATE_PTREE:
        return create_posting_tree(t)
    if t.op == XLOG_GIN_DELETE_PAGE:
        return delete_page(t)
    if t.op == XLOG_GIN_SPLIT:
        if t.block_id == 3:
            return clear_incomplete_split(t)
        raise RedoError(f"split without a full-page image of block reference {t.block_id}")
    if t.op == XLOG_GIN_VACUUM_PAGE:
        raise RedoError("vacuum of an entry page without its full-page image")
    raise UnsupportedRecord(f"unknown Gin operation {t.op}")


def gin_init(page: Writable, flags: int) -> int:
    """Makes an empty page (GinInitPage)."""
    page_init(page, SizeOfGinPageOpaque)
    put32(page, gin_rightlink, InvalidBlockNumber)
    put16(page, gin_flags, flags)
    return 0


def meta_page(t: Target, metadata_at: int) -> int:
    """Writes the whole meta page from the 56 bytes of GinMetaPageData in the record."""
    gin_init(t.page, GIN_META)
    move(t.page, SizeOfPageHeaderData, t.p, metadata_at, SizeOfGinMetaPageData)
    set_pd_lower(t.page, EndOfGinMetaPage)
    return 1


def clear_incomplete_split(t: Target) -> int:
    """The left child of a split whose downlink is now there (ginRedoClearIncompleteSplit)."""
    expect_flags(t.page, 0, 0)
    put16(t.page, gin_flags, u16(t.page, gin_flags) & ~GIN_INCOMPLETE_SPLIT)
    return 1


def create_posting_tree(t: Target) -> int:
    """A posting tree of one leaf. Main data: size u32, segments."""
    # ginRedoCreatePTree
    if t.block_id != 0:
        return t.no_block()
    t.need_main(4)
    size = u32(t.p, t.main_at)
    if size > GinDataPageMaxDataSize:
        raise RedoError(
            f"posting list too long: expected at most {GinDataPageMaxDataSize} bytes, got {size}"
        )
    t.need_main(4 + size)
    gin_init(t.page, GIN_DATA | GIN_LEAF | GIN_COMPRESSED)
    move(t.page, GinDataPageData, t.p, t.main_at + 4, size)
    set_pd_lower(t.page, GinDataPageData + size)
    return 1


def insert(t: Target) -> int:
    """Main data: flags u16 (1 data, 2 leaf); off a leaf also left and right child block."""
    # ginRedoInsert
    t.need_main(2)
    flags = u16(t.p, t.main_at)
    right = InvalidBlockNumber
    if not flags & GIN_INSERT_ISLEAF:
        t.need_main(10)
        right = block_at(t.p, t.main_at + 6)
        if t.block_id == 1:
            return clear_incomplete_split(t)
    if t.block_id != 0:
        return t.no_block()
    if not flags & GIN_INSERT_ISDATA:
        return insert_entry(t, right)
    if flags & GIN_INSERT_ISLEAF:
        return recompress(t)
    return insert_posting_item(t, right)


def insert_entry(t: Target, right: int) -> int:
    """Block data: offset u16, is_delete u8, a pad byte, the tuple (ginRedoInsertEntry)."""
    expect_flags(t.page, GIN_DATA, 0)
    t.need_data(12)
    offset = u16(t.p, t.data_at)
    size = tuple_length(t.p, t.data_at + 4, t.data_length - 4)
    if right != InvalidBlockNumber:
        # The tuple at this place was the downlink of the page that was split; it now leads to the
        # right half, and the new tuple to the left one.
        at = item_at(t.page, offset)
        if item_length(t.page, offset) < SizeOfIndexTupleData:
            raise RedoError(f"index tuple {offset} on the page is shorter than 8 bytes")
        put_block(t.page, at, right)
        put16(t.page, at + ip_posid, InvalidOffsetNumber)
    if u8(t.p, t.data_at + 2):
        index_tuple_delete(t.page, offset)
    if offset == InvalidOffsetNumber:
        raise RedoError("invalid offset number 0")
    add_item(t.page, t.p, t.data_at + 4, size, offset, 0)
    return 1


def insert_posting_item(t: Target, right: int) -> int:
    """Block data: offset u16, the posting item. Mirrors GinDataPageAddPostingItem."""
    expect_flags(t.page, GIN_DATA | GIN_LEAF, GIN_DATA)
    t.need_data(12)
    offset = u16(t.p, t.data_at)
    count = u16(t.page, gin_maxoff)
    if offset < 1 or offset > count:
        raise RedoError(f"invalid posting item {offset}: page has {count}")
    if GinDataPageData + SizeOfPostingItem * (count + 1) > GinPageOpaque:
        raise RedoError(f"no room for a posting item: page has {count}")
    at = GinDataPageData + SizeOfPostingItem * (offset - FirstOffsetNumber)
    put_block(t.page, at, right)
    move(t.page, at + SizeOfPostingItem, t.page, at, SizeOfPostingItem * (count - offset + 1))
    move(t.page, at, t.p, t.data_at + 2, SizeOfPostingItem)
    put16(t.page, gin_maxoff, count + 1)
    set_pd_lower(t.page, GinDataPageData + SizeOfPostingItem * (count + 1))
    return 1


def delete_posting_item(t: Target, offset: int) -> int:
    """Mirrors GinPageDeletePostingItem."""
    expect_flags(t.page, GIN_DATA | GIN_LEAF, GIN_DATA)
    count = u16(t.page, gin_maxoff)
    if offset < 1 or offset > count:
        raise RedoError(f"invalid posting item {offset}: page has {count}")
    if GinDataPageData + SizeOfPostingItem * count > GinPageOpaque:
        raise RedoError(f"too many posting items: {count}")
    at = GinDataPageData + SizeOfPostingItem * (offset - FirstOffsetNumber)
    move(t.page, at, t.page, at + SizeOfPostingItem, SizeOfPostingItem * (count - offset))
    put16(t.page, gin_maxoff, count - 1)
    set_pd_lower(t.page, GinDataPageData + SizeOfPostingItem * (count - 1))
    return 1


def delete_page(t: Target) -> int:
    """Main data: parent offset u16, 2 pad, right link u32, deletion xid u32.

    Blocks: 0 the deleted page, 1 its parent, 2 its left sibling.
    """
    # ginRedoDeletePage
    t.need_main(12)
    if t.block_id == 1:
        return delete_posting_item(t, u16(t.p, t.main_at))
    expect_flags(t.page, GIN_DATA, GIN_DATA)
    if t.block_id == 0:
        put16(t.page, gin_flags, u16(t.page, gin_flags) | GIN_DELETED)
        set_pd_prune_xid(t.page, u32(t.p, t.main_at + 8))
        return 1
    if t.block_id == 2:
        put32(t.page, gin_rightlink, u32(t.p, t.main_at + 4))
        return 1
    return t.no_block()


def update_meta(t: Target) -> int:
    """Main data: 12-byte relation id, 4 pad, metadata, previous tail, new right link, ntuples i32.

    Block 0 is the meta page; block 1 the tail of the pending list, which either gets the tuples of
    its block data (one more heap row) or a link to the new tail.
    """
    # ginRedoUpdateMetapage
    t.need_main(84)
    if t.block_id == 0:
        return meta_page(t, t.main_at + 16)
    if t.block_id != 1:
        return t.no_block()
    expect_flags(t.page, GIN_LIST, GIN_LIST)
    count = u32(t.p, t.main_at + 80)
    if count != 0 and not count >> 31:
        append_tuples(t, t.data_at, count)
        put16(t.page, gin_maxoff, u16(t.page, gin_maxoff) + 1 & 0xFFFF)
        return 1
    if u32(t.p, t.main_at + 72) == InvalidBlockNumber:
        raise RedoError("a tail page is referenced, but there is neither a tuple nor a new tail")
    put32(t.page, gin_rightlink, u32(t.p, t.main_at + 76))
    return 1


def insert_list_page(t: Target) -> int:
    """A new page of the pending list. Main data: right link u32, ntuples i32."""
    # ginRedoInsertListPage
    if t.block_id != 0:
        return t.no_block()
    t.need_main(8)
    right = u32(t.p, t.main_at)
    gin_init(t.page, GIN_LIST)
    put32(t.page, gin_rightlink, right)
    if right == InvalidBlockNumber:
        # The tail of a sublist holds the end of exactly one heap row.
        put16(t.page, gin_flags, GIN_LIST | GIN_LIST_FULLROW)
        put16(t.page, gin_maxoff, 1)
    append_tuples(t, t.data_at, u32(t.p, t.main_at + 4))
    return 1


def delete_list_pages(t: Target) -> int:
    """Main data: metadata, ndeleted i32. Block 0 is the meta page, the others are deleted."""
    # ginRedoDeleteListPages
    t.need_main(60)
    if t.block_id == 0:
        return meta_page(t, t.main_at)
    if cython.cast(cython.uint, t.block_id) > u32(t.p, t.main_at + 56):
        raise RedoError(
            f"unexpected block reference {t.block_id}: {u32(t.p, t.main_at + 56)} pages are deleted"
        )
    gin_init(t.page, GIN_DELETED)
    return 1
