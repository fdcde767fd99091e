"""How B-tree records change one page (nbtxlog.c, nbtdedup.c).

Versions: only DELETE differs, isCatalogRel follows its counts since 16; redo does not look at it.

Pages and tuples are in ``page.py``.
"""

from __future__ import annotations

import cython

from walstream.errors import RedoError, UnsupportedRecord

if not cython.compiled:
    from walstream.redo.rules.index_layout import SizeOfIndexTupleData, t_info, t_tid
    from walstream.redo.rules.index_tuple import aligned_length
    from walstream.redo.rules.page import (
        add_item,
        expect_special,
        index_multi_delete,
        index_tuple_delete,
        item_at,
        item_length,
        max_offset,
    )
    from walstream.redo.rules.target import Target
    from walstream.rmgr.btree.layout import (
        BTP_DELETED,
        BTP_HALF_DEAD,
        BTP_HAS_FULLXID,
        BTP_HAS_GARBAGE,
        BTP_INCOMPLETE_SPLIT,
        BTP_LEAF,
        BTP_META,
        BTP_ROOT,
        BTREE_MAGIC,
        INDEX_ALT_TID_MASK,
        P_FIRSTKEY,
        P_HIKEY,
        P_NONE,
        BTPageOpaque,
        EndOfBTDeletedPage,
        EndOfBTMetaPage,
        SizeOfBTPageOpaque,
        btm_allequalimage,
        btm_last_cleanup_num_heap_tuples,
        btm_magic,
        btm_version,
        btpo_cycleid,
        btpo_flags,
        btpo_next,
        btpo_prev,
        deleted_safexid,
    )
    from walstream.rmgr.btree.page import (
        append,
        begin_scratch,
        copy_item,
        end_scratch,
        init_page,
        merge_items,
        restore_items,
        swap_posting,
        update_posting,
    )
    from walstream.wal.buffer import move, put8, put16, put32, put64, put_f64, u8, u16, u32, u64
    from walstream.wal.bufpage import (
        LP_NORMAL,
        item_id_at,
        line_pointer,
        put_block,
        set_pd_lower,
        set_pd_upper,
    )
    from walstream.wal.layout import SizeOfBlockNumber
    from walstream.wal.opcodes import (
        XLOG_BTREE_DEDUP,
        XLOG_BTREE_DELETE,
        XLOG_BTREE_INSERT_LEAF,
        XLOG_BTREE_INSERT_META,
        XLOG_BTREE_INSERT_POST,
        XLOG_BTREE_INSERT_UPPER,
        XLOG_BTREE_MARK_PAGE_HALFDEAD,
        XLOG_BTREE_META_CLEANUP,
        XLOG_BTREE_NEWROOT,
        XLOG_BTREE_REUSE_PAGE,
        XLOG_BTREE_SPLIT_L,
        XLOG_BTREE_SPLIT_R,
        XLOG_BTREE_UNLINK_PAGE,
        XLOG_BTREE_UNLINK_PAGE_META,
        XLOG_BTREE_VACUUM,
    )


def btree_redo(t: Target) -> int:
    """Applies one B-tree record to ``t.page``; returns 1: the page gets the record's end LSN.

    Raises:
        RedoError: the record or the page is not what the operation needs.
        UnsupportedRecord: there is no such operation.
    """
    op = t.op
    if op == XLOG_BTREE_INSERT_LEAF:
        if t.block_id == 0:
            return insert_leaf(t)
    elif op == XLOG_BTREE_INSERT_POST:
        if t.block_id == 0:
            return insert_posting(t)
    elif op == XLOG_BTREE_INSERT_UPPER or op == XLOG_BTREE_INSERT_META:
        return insert_upper(t)
    elif op == XLOG_BTREE_SPLIT_L or op == XLOG_BTREE_SPLIT_R:
        return split(t)
    elif op == XLOG_BTREE_DEDUP:
        if t.block_id == 0:
            return dedup(t)
    elif op == XLOG_BTREE_DELETE:
        # xl_btree_delete: conflict xid u32, ndeleted u16, nupdated u16, isCatalogRel u8 since 16.
        if t.block_id == 0:
            return delete_items(t, 4)
    elif op == XLOG_BTREE_VACUUM:
        # xl_btree_vacuum: ndeleted u16, nupdated u16.
        if t.block_id == 0:
            delete_items(t, 0)
            put16(t.page, btpo_cycleid, 0)
            return 1
    elif op == XLOG_BTREE_UNLINK_PAGE or op == XLOG_BTREE_UNLINK_PAGE_META:
        return unlink_page(t)
    elif op == XLOG_BTREE_NEWROOT:
        return new_root(t)
    elif op == XLOG_BTREE_MARK_PAGE_HALFDEAD:
        return mark_half_dead(t)
    elif op == XLOG_BTREE_META_CLEANUP:
        if t.block_id == 0:
            return restore_meta(t)
    elif op != XLOG_BTREE_REUSE_PAGE:
        raise UnsupportedRecord(f"unknown operation {op:#04x}")
    return t.no_block()


def restore_meta(t: Target) -> int:
    """Makes the metapage from the block data (_bt_restore_meta).

    xl_btree_metadata: version, root, level, fastroot, fastlevel, deleted pages: u32 each,
    allequalimage u8.
    """
    t.need_data(25)
    init_page(t, P_NONE, P_NONE, 0, BTP_META)
    put32(t.page, btm_magic, BTREE_MAGIC)
    move(t.page, btm_version, t.p, t.data_at, 24)
    put_f64(t.page, btm_last_cleanup_num_heap_tuples, -1.0)
    put8(t.page, btm_allequalimage, u8(t.p, t.data_at + 24))
    set_pd_lower(t.page, EndOfBTMetaPage)
    return 1


def clear_incomplete_split(t: Target) -> int:
    """Says that the parent now has the downlink of the right sibling."""
    # _bt_clear_incomplete_split
    expect_special(t.page, SizeOfBTPageOpaque)
    put16(t.page, btpo_flags, u16(t.page, btpo_flags) & ~BTP_INCOMPLETE_SPLIT)
    return 1


def insert_leaf(t: Target) -> int:
    # btree_xlog_insert
    # xl_btree_insert: offnum u16.
    t.need_main(2)
    t.need_data(1)
    add_item(t.page, t.p, t.data_at, t.data_length, u16(t.p, t.main_at), 0)
    return 1


def insert_upper(t: Target) -> int:
    # btree_xlog_insert
    # Blocks: 0 page, 1 child whose split this completes, 2 metapage (INSERT_META).
    if t.block_id == 0:
        return insert_leaf(t)
    if t.block_id == 1:
        return clear_incomplete_split(t)
    if t.block_id == 2 and t.op == XLOG_BTREE_INSERT_META:
        return restore_meta(t)
    return t.no_block()


def insert_posting(t: Target) -> int:
    # btree_xlog_insert
    # xl_btree_insert; block data: place in the posting list u16, the tuple as it was before.
    t.need_main(2)
    t.need_data(10)
    offset = u16(t.p, t.main_at)
    if offset < P_FIRSTKEY:
        raise RedoError(f"offset number {offset} has no posting list before it")
    new = t.data_at + 2
    add_item(t.page, t.p, new, t.data_length - 2, offset, 0)
    swap_posting(
        t.page,
        item_at(t.page, offset - 1),
        item_length(t.page, offset - 1),
        u16(t.p, t.data_at),
        t.p,
        new,
        item_at(t.page, offset),
    )
    return 1


def split(t: Target) -> int:
    # btree_xlog_split
    # xl_btree_split: level u32, firstrightoff u16, newitemoff u16, postingoff u16. Blocks: 0 left
    # (original) page, 1 right (new) page, 2 page to the right of it, 3 child whose split this
    # completes.
    t.need_main(10)
    level = u32(t.p, t.main_at)
    if t.block_id == 0:
        return split_left(t)
    if t.block_id == 1:
        right = P_NONE if t.block_number(2) < 0 else t.block_number(2)
        init_page(t, t.need_block(0), right, level, BTP_LEAF if level == 0 else 0)
        restore_items(t)
        return 1
    if t.block_id == 2:
        expect_special(t.page, SizeOfBTPageOpaque)
        put32(t.page, btpo_prev, t.need_block(1))
        return 1
    if t.block_id == 3 and level != 0:
        return clear_incomplete_split(t)
    return t.no_block()


def split_left(t: Target) -> int:
    """Keeps the left half: high key, then the items before firstrightoff, in order.

    The new tuple is in the block data where it goes to the left page (SPLIT_L) or where a posting
    list before it has to be changed; the high key follows.
    """
    expect_special(t.page, SizeOfBTPageOpaque)
    first_right = u16(t.p, t.main_at + 4)
    new_offset = u16(t.p, t.main_at + 6)
    position = u16(t.p, t.main_at + 8)
    on_left = t.op == XLOG_BTREE_SPLIT_L
    new = t.data_at
    new_size = 0
    if on_left or position != 0:
        new_size = aligned_length(t.p, new, t.data_length)
    key_size = aligned_length(t.p, new + new_size, t.data_length - new_size)
    if new_size + key_size != t.data_length:
        raise RedoError(f"block data of {t.data_length} bytes: {new_size + key_size} are tuples")
    replaced = new_offset - 1 if position != 0 else 0

    begin_scratch(t)
    append(t.scratch, t.p, new + new_size, key_size)
    new_at = 0
    posting = 0
    posting_length = 0
    offset = P_HIKEY if u32(t.page, btpo_next) == P_NONE else P_FIRSTKEY
    while offset < first_right:
        if offset == replaced:
            posting = copy_item(t, offset)
            posting_length = item_length(t.page, offset)
        else:
            if on_left and offset == new_offset:
                new_at = append(t.scratch, t.p, new, new_size)
            copy_item(t, offset)
        offset += 1
    if on_left and offset == new_offset:
        new_at = append(t.scratch, t.p, new, new_size)
    if on_left and new_at == 0:
        raise RedoError(f"new item at {new_offset} is not left of {first_right}")
    if position != 0:
        if posting == 0:
            raise RedoError(f"posting list at {replaced} is not left of {first_right}")
        # In SPLIT_R the new tuple is on the right page; here only the posting list changes.
        swap_posting(t.scratch, posting, posting_length, position, t.p, new, new_at)
    end_scratch(t)
    leaf = BTP_LEAF if u32(t.p, t.main_at) == 0 else 0
    put16(t.page, btpo_flags, BTP_INCOMPLETE_SPLIT | leaf)
    put32(t.page, btpo_next, t.need_block(1))
    put16(t.page, btpo_cycleid, 0)
    return 1


def dedup(t: Target) -> int:
    # btree_xlog_dedup
    # xl_btree_dedup: nintervals u16; block data: first offset number u16, number of items u16 each.
    t.need_main(2)
    expect_special(t.page, SizeOfBTPageOpaque)
    intervals = u16(t.p, t.main_at)
    t.need_data(intervals * 4)
    begin_scratch(t)
    offset = P_HIKEY
    if u32(t.page, btpo_next) != P_NONE:
        copy_item(t, P_HIKEY)
        offset = P_FIRSTKEY
    last = max_offset(t.page)
    k = 0
    while offset <= last:
        items = 1
        if k < intervals and u16(t.p, t.data_at + k * 4) == offset:
            items = u16(t.p, t.data_at + k * 4 + 2)
            if items < 2 or offset + items - 1 > last:
                raise RedoError(f"interval of {items} items from {offset}: the page has {last}")
            merge_items(t, offset, items)
            k += 1
        else:
            copy_item(t, offset)
        offset += items
    if k != intervals:
        raise RedoError(f"{k} of {intervals} intervals were found on the page")
    put16(t.scratch, btpo_flags, u16(t.scratch, btpo_flags) & ~BTP_HAS_GARBAGE)
    end_scratch(t)
    return 1


def delete_items(t: Target, at: int) -> int:
    """What DELETE and VACUUM do; their counts are at ``at`` of the main data.

    Block data: offset numbers to delete, offset numbers of posting lists to shrink, then for each
    of those how many TIDs it loses u16 and their places u16, ascending.
    """
    # btree_xlog_delete, btree_xlog_vacuum
    t.need_main(at + 4)
    expect_special(t.page, SizeOfBTPageOpaque)
    deleted = u16(t.p, t.main_at + at)
    updated = u16(t.p, t.main_at + at + 2)
    t.need_data(deleted * 2 + updated * 4)
    numbers = t.data_at + deleted * 2
    update = numbers + updated * 2
    end = t.data_at + t.data_length
    for _ in range(updated):
        if end - update < 2 or end - update < 2 + u16(t.p, update) * 2:
            raise RedoError(f"{updated} posting list updates do not fit in the block data")
        update_posting(t, u16(t.p, numbers), update + 2, u16(t.p, update))
        numbers += 2
        update += 2 + u16(t.p, update) * 2
    if deleted > 0:
        index_multi_delete(t.page, t.p, t.data_at, deleted)
    put16(t.page, btpo_flags, u16(t.page, btpo_flags) & ~BTP_HAS_GARBAGE)
    return 1


def half_dead_leaf(t: Target, left: int, right: int, top_parent: int) -> int:
    """Makes a half-dead leaf whose dummy high key names the top parent of its subtree."""
    init_page(t, left, right, 0, BTP_HALF_DEAD | BTP_LEAF)
    upper = BTPageOpaque - SizeOfIndexTupleData
    set_pd_lower(t.page, item_id_at(P_HIKEY + 1))
    set_pd_upper(t.page, upper)
    put32(t.page, item_id_at(P_HIKEY), line_pointer(upper, LP_NORMAL, SizeOfIndexTupleData))
    put_block(t.page, upper + t_tid, top_parent)
    put16(t.page, upper + t_info, INDEX_ALT_TID_MASK | SizeOfIndexTupleData)
    return 1


def mark_half_dead(t: Target) -> int:
    # btree_xlog_mark_page_halfdead
    # xl_btree_mark_page_halfdead: poffset u16, pad, leaf u32, left u32, right u32, top parent u32.
    # Blocks: 0 leaf, 1 the page that has the downlink.
    t.need_main(20)
    if t.block_id == 0:
        return half_dead_leaf(
            t, u32(t.p, t.main_at + 8), u32(t.p, t.main_at + 12), u32(t.p, t.main_at + 16)
        )
    if t.block_id != 1:
        return t.no_block()
    expect_special(t.page, SizeOfBTPageOpaque)
    # The downlink takes the child of the next one, which goes.
    offset = u16(t.p, t.main_at)
    next_at = item_at(t.page, offset + 1)
    at = item_at(t.page, offset)
    if item_length(t.page, offset) < SizeOfIndexTupleData or (
        item_length(t.page, offset + 1) < SizeOfIndexTupleData
    ):
        raise RedoError(f"downlinks at {offset} are shorter than 8 bytes")
    move(t.page, at, t.page, next_at, SizeOfBlockNumber)
    index_tuple_delete(t.page, offset + 1)
    return 1


def unlink_page(t: Target) -> int:
    # btree_xlog_unlink_page
    # xl_btree_unlink_page: left u32, right u32, level u32, pad, safexid u64, then of the leaf: left
    # u32, right u32, top parent u32. Blocks: 0 the page, 1 left, 2 right sibling, 3 the leaf of the
    # subtree where that is another page, 4 metapage (UNLINK_PAGE_META).
    t.need_main(36)
    at = t.main_at
    if t.block_id == 0:
        flags = BTP_DELETED | BTP_HAS_FULLXID
        if u32(t.p, at + 8) == 0:
            flags |= BTP_LEAF
        init_page(t, u32(t.p, at), u32(t.p, at + 4), u32(t.p, at + 8), flags)
        set_pd_lower(t.page, EndOfBTDeletedPage)
        put64(t.page, deleted_safexid, u64(t.p, at + 16))
        return 1
    if t.block_id == 3:
        return half_dead_leaf(t, u32(t.p, at + 24), u32(t.p, at + 28), u32(t.p, at + 32))
    if t.block_id == 4 and t.op == XLOG_BTREE_UNLINK_PAGE_META:
        return restore_meta(t)
    expect_special(t.page, SizeOfBTPageOpaque)
    if t.block_id == 1:
        put32(t.page, btpo_next, u32(t.p, at + 4))
        return 1
    if t.block_id == 2:
        put32(t.page, btpo_prev, u32(t.p, at))
        return 1
    return t.no_block()


def new_root(t: Target) -> int:
    # btree_xlog_newroot
    # xl_btree_newroot: block u32, level u32. Blocks: 0 root, 1 left child, 2 metapage.
    t.need_main(8)
    level = u32(t.p, t.main_at + 4)
    if t.block_id == 0:
        init_page(t, P_NONE, P_NONE, level, BTP_ROOT | BTP_LEAF if level == 0 else BTP_ROOT)
        if level > 0:
            restore_items(t)
        return 1
    if t.block_id == 1 and level > 0:
        return clear_incomplete_split(t)
    if t.block_id == 2:
        return restore_meta(t)
    return t.no_block()
