"""How BRIN records change one page (brin_xlog.c; the same bytes in PostgreSQL 14 to 18).

Three kinds of page: the metapage, revmap pages (an array of item pointers, which fills what other
pages keep as their hole) and regular pages with items. A revmap entry that INSERT or UPDATE sets
names the block of reference 0; that number is taken from the record, since only one page is here.
"""

from __future__ import annotations

import cython

from walstream.errors import RedoError, UnsupportedRecord

if not cython.compiled:
    from walstream.redo.rules.index_layout import ip_posid
    from walstream.redo.rules.page import (
        add_item,
        expect_special,
        index_delete_no_compact,
        index_tuple_overwrite,
        page_init,
    )
    from walstream.redo.rules.target import Target
    from walstream.rmgr.brin.layout import (
        BRIN_META_MAGIC,
        BRIN_PAGETYPE_META,
        BRIN_PAGETYPE_REGULAR,
        BRIN_PAGETYPE_REVMAP,
        REVMAP_PAGE_MAXITEMS,
        EndOfBrinMetaPage,
        SizeOfBrinSpecialSpace,
        brin_type,
        brinMagic,
        brinVersion,
        lastRevmapPage,
        pagesPerRange,
    )
    from walstream.wal.buffer import put16, put32, u16, u32
    from walstream.wal.bufpage import (
        PAI_OVERWRITE,
        InvalidBlockNumber,
        InvalidOffsetNumber,
        SizeOfItemPointerData,
        SizeOfPageHeaderData,
        put_block,
        set_pd_lower,
    )
    from walstream.wal.opcodes import (
        XLOG_BRIN_CREATE_INDEX,
        XLOG_BRIN_DESUMMARIZE,
        XLOG_BRIN_INIT_PAGE,
        XLOG_BRIN_INSERT,
        XLOG_BRIN_OPMASK,
        XLOG_BRIN_REVMAP_EXTEND,
        XLOG_BRIN_SAMEPAGE_UPDATE,
        XLOG_BRIN_UPDATE,
    )


def brin_redo(t: Target) -> int:
    """Applies one BRIN record to ``t.page``; returns 1 (the page gets the record's end LSN).

    Blocks: CREATE_INDEX 0 metapage; INSERT and UPDATE 0 page of the new tuple, 1 revmap, UPDATE
    also 2 page of the old tuple; SAMEPAGE_UPDATE 0; REVMAP_EXTEND 0 metapage, 1 new revmap page;
    DESUMMARIZE 0 revmap, 1 regular page. Bit 0x80 of INSERT and UPDATE: block 0 starts empty.

    Raises:
        RedoError: the record or the page is not what the operation needs.
        UnsupportedRecord: there is no such operation.
    """
    op = t.info & XLOG_BRIN_OPMASK
    if op == XLOG_BRIN_CREATE_INDEX:
        if t.block_id == 0:
            return create_index(t)
    elif op == XLOG_BRIN_INSERT:
        return insert(t, 0)
    elif op == XLOG_BRIN_UPDATE:
        if t.block_id == 2:
            return delete_old(t)
        return insert(t, 4)
    elif op == XLOG_BRIN_SAMEPAGE_UPDATE:
        if t.block_id == 0:
            return samepage_update(t)
    elif op == XLOG_BRIN_REVMAP_EXTEND:
        return revmap_extend(t)
    elif op == XLOG_BRIN_DESUMMARIZE:
        return desummarize(t)
    else:
        raise UnsupportedRecord(f"unknown operation {t.op:#04x}")
    return t.no_block()


def create_index(t: Target) -> int:
    # brin_xlog_createidx
    # xl_brin_createidx: pagesPerRange u32, version u16. brin_metapage_init.
    t.need_main(6)
    page_init(t.page, SizeOfBrinSpecialSpace)
    put16(t.page, brin_type, BRIN_PAGETYPE_META)
    put32(t.page, brinMagic, BRIN_META_MAGIC)
    put32(t.page, brinVersion, u16(t.p, t.main_at + 4))
    put32(t.page, pagesPerRange, u32(t.p, t.main_at))
    set_pd_lower(t.page, EndOfBrinMetaPage)
    return 1


def insert(t: Target, at: int) -> int:
    """The part that INSERT and UPDATE share; xl_brin_insert is at ``at`` of the main data."""
    # brin_xlog_insert_update
    # xl_brin_insert: heapBlk u32, pagesPerRange u32, offnum u16.
    t.need_main(at + 10)
    offset = u16(t.p, t.main_at + at + 8)
    if t.block_id == 0:
        if t.info & XLOG_BRIN_INIT_PAGE:
            page_init(t.page, SizeOfBrinSpecialSpace)
            put16(t.page, brin_type, BRIN_PAGETYPE_REGULAR)
        else:
            expect_special(t.page, SizeOfBrinSpecialSpace)
        t.need_data(1)
        add_item(t.page, t.p, t.data_at, t.data_length, offset, PAI_OVERWRITE)
        return 1
    if t.block_id == 1:
        pages_per_range = u32(t.p, t.main_at + at + 4)
        heap_block = u32(t.p, t.main_at + at)
        return set_revmap(t, pages_per_range, heap_block, t.need_block(0), offset)
    return t.no_block()


def delete_old(t: Target) -> int:
    # brin_xlog_update
    # xl_brin_update: oldOffnum u16, pad, xl_brin_insert.
    t.need_main(14)
    expect_special(t.page, SizeOfBrinSpecialSpace)
    index_delete_no_compact(t.page, u16(t.p, t.main_at))
    return 1


def samepage_update(t: Target) -> int:
    # brin_xlog_samepage_update
    # xl_brin_samepage_update: offnum u16.
    t.need_main(2)
    t.need_data(1)
    expect_special(t.page, SizeOfBrinSpecialSpace)
    index_tuple_overwrite(t.page, u16(t.p, t.main_at), t.p, t.data_at, t.data_length)
    return 1


def revmap_extend(t: Target) -> int:
    # brin_xlog_revmap_extend
    # xl_brin_revmap_extend: targetBlk u32.
    t.need_main(4)
    if t.block_id == 0:
        expect_special(t.page, SizeOfBrinSpecialSpace)
        put32(t.page, lastRevmapPage, u32(t.p, t.main_at))
        set_pd_lower(t.page, EndOfBrinMetaPage)
        return 1
    if t.block_id == 1:
        page_init(t.page, SizeOfBrinSpecialSpace)
        put16(t.page, brin_type, BRIN_PAGETYPE_REVMAP)
        return 1
    return t.no_block()


def desummarize(t: Target) -> int:
    # brin_xlog_desummarize_page
    # xl_brin_desummarize: pagesPerRange u32, heapBlk u32, regOffset u16.
    t.need_main(10)
    if t.block_id == 0:
        return set_revmap(
            t, u32(t.p, t.main_at), u32(t.p, t.main_at + 4), InvalidBlockNumber, InvalidOffsetNumber
        )
    if t.block_id == 1:
        expect_special(t.page, SizeOfBrinSpecialSpace)
        index_delete_no_compact(t.page, u16(t.p, t.main_at + 8))
        return 1
    return t.no_block()


def set_revmap(t: Target, pages_per_range: int, heap_block: int, block: int, offset: int) -> int:
    """Sets the item pointer of the range of ``heap_block`` (brinSetHeapBlockItemptr)."""
    expect_special(t.page, SizeOfBrinSpecialSpace)
    if pages_per_range == 0:
        raise RedoError("pagesPerRange is 0")
    at = SizeOfPageHeaderData + (
        heap_block // pages_per_range % REVMAP_PAGE_MAXITEMS * SizeOfItemPointerData
    )
    put_block(t.page, at, block)
    put16(t.page, at + ip_posid, offset)
    return 1
