"""How B-tree records change one page (nbtxlog.c, nbtdedup.c).

Versions: only DELETE differs, isCatalogRel follows its counts since 16; redo does not look at it.

Special area (16 bytes at 8176): left sibling u32, right sibling u32, level u32, flags u16, vacuum
cycle id u16. Index tuple: block (high u16, low u16), offset u16, info u16 whose low 13 bits are the
size; bit 0x2000 of info says that block and offset mean something else. With bit 0x2000 of offset
also set the tuple is a posting list: block is where its array of 6-byte heap TIDs starts, the low
12 bits of offset how many there are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cython

from walstream.errors import RedoError, UnsupportedRecord

if TYPE_CHECKING:
    from walstream.wal.buffer import Bytes, Writable
if not cython.compiled:
    from walstream.redo.rules.page import (
        add_item,
        index_multi_delete,
        index_tuple_delete,
        index_tuple_overwrite,
        item_at,
        item_length,
        max_offset,
        page_init,
    )
    from walstream.redo.rules.target import Target
    from walstream.wal.buffer import fill, move, put8, put16, put32, put64, u8, u16, u32, u64

# Bits of the flags in the special area (nbtree.h).
LEAF = 0x01
ROOT = 0x02
DELETED = 0x04
META = 0x08
HALF_DEAD = 0x10
HAS_GARBAGE = 0x40
INCOMPLETE_SPLIT = 0x80
HAS_FULLXID = 0x100

# Typed in the .pxd: a literal this large would be a Python object in compiled code.
MINUS_ONE = 0xBFF0000000000000


def btree_redo(t: Target) -> int:
    """Applies one B-tree record to ``t.page``; returns 1: the page gets the record's end LSN.

    Raises:
        RedoError: the record or the page is not what the operation needs.
        UnsupportedRecord: there is no such operation.
    """
    op = t.op
    if op == 0x00:
        if t.block_id == 0:
            return insert_leaf(t)
    elif op == 0x50:
        if t.block_id == 0:
            return insert_posting(t)
    elif op == 0x10 or op == 0x20:
        return insert_upper(t)
    elif op == 0x30 or op == 0x40:
        return split(t)
    elif op == 0x60:
        if t.block_id == 0:
            return dedup(t)
    elif op == 0x70:
        # xl_btree_delete: conflict xid u32, ndeleted u16, nupdated u16, isCatalogRel u8 since 16.
        if t.block_id == 0:
            return delete_items(t, 4)
    elif op == 0xC0:
        # xl_btree_vacuum: ndeleted u16, nupdated u16.
        if t.block_id == 0:
            delete_items(t, 0)
            put16(t.page, 8190, 0)
            return 1
    elif op == 0x80 or op == 0x90:
        return unlink_page(t)
    elif op == 0xA0:
        return new_root(t)
    elif op == 0xB0:
        return mark_half_dead(t)
    elif op == 0xE0:
        if t.block_id == 0:
            return restore_meta(t)
    elif op != 0xD0:
        raise UnsupportedRecord(f"unknown operation {op:#04x}")
    return no_block(t)


def no_block(t: Target) -> int:
    raise RedoError(f"operation does not change block {t.block_id}")


def check_page(t: Target) -> int:
    """Refuses a page that is not one of a B-tree: their special area is the last 16 bytes."""
    if u16(t.page, 16) != 8176:
        raise RedoError(f"page of a B-tree: expected pd_special 8176, got {u16(t.page, 16)}")
    return 0


def init_page(t: Target, left: int, right: int, level: int, flags: int) -> int:
    """Makes an empty page with that special area (_bt_pageinit)."""
    page_init(t.page, 16)
    put32(t.page, 8176, left)
    put32(t.page, 8180, right)
    put32(t.page, 8184, level)
    put16(t.page, 8188, flags)
    return 0


def tuple_size(p: Bytes, at: int, available: int) -> int:
    """Returns the 8-aligned size of the tuple at ``at``, of which ``available`` bytes exist."""
    if available < 8:
        raise RedoError(f"index tuple: expected at least 8 bytes, got {available}")
    size = ((u16(p, at + 6) & 0x1FFF) + 7) & 0xFFF8
    if size < 8 or size > available:
        raise RedoError(f"index tuple of {u16(p, at + 6) & 0x1FFF} bytes, {available} are there")
    return size


def posting_at(page: Bytes, at: int, length: int) -> int:
    """Returns where the heap TIDs of the posting list tuple at ``at`` start.

    Its line pointer gives it ``length`` bytes; all TIDs lie inside them.
    """
    if length < 8 or not u16(page, at + 6) & 0x2000 or not u16(page, at + 4) & 0x2000:
        raise RedoError("index tuple is not a posting list")
    start = u16(page, at) << 16 | u16(page, at + 2)
    if start < 8 or start & 7 or start > length or (u16(page, at + 4) & 0xFFF) * 6 > length - start:
        raise RedoError(
            f"posting list of {u16(page, at + 4) & 0xFFF} at {start} in a tuple of {length} bytes"
        )
    return at + start


def restore_items(t: Target) -> int:
    """Fills an empty page with the block data: its tuples, last one first (_bt_restore_page).

    Added one after the other they would fill the page from its end downwards in just the order
    that the data has.
    """
    length = t.data_length
    if length > 8152 or length & 7:
        raise RedoError(
            f"tuples of a page: expected a multiple of 8 up to 8152, got {length} bytes"
        )
    at = t.data_at
    end = at + length
    count = 0
    while at < end:
        at += tuple_size(t.p, at, end - at)
        count += 1
    if 24 + count * 4 > 8176 - length:
        raise RedoError(f"{count} tuples of {length} bytes do not fit in a page")
    upper = 8176 - length
    move(t.page, upper, t.p, t.data_at, length)
    put16(t.page, 12, 24 + count * 4)
    put16(t.page, 14, upper)
    while upper < 8176:
        size = tuple_size(t.page, upper, 8176 - upper)
        count -= 1
        put32(t.page, 24 + count * 4, upper | 1 << 15 | size << 17)
        upper += size
    return 0


def restore_meta(t: Target) -> int:
    """Makes the metapage from the block data (_bt_restore_meta).

    xl_btree_metadata: version, root, level, fastroot, fastlevel, deleted pages: u32 each,
    allequalimage u8.
    """
    t.need_data(25)
    init_page(t, 0, 0, 0, META)
    put32(t.page, 24, 0x053162)
    move(t.page, 28, t.p, t.data_at, 24)
    put64(t.page, 56, MINUS_ONE)  # btm_last_cleanup_num_heap_tuples, a double
    put8(t.page, 64, u8(t.p, t.data_at + 24))
    put16(t.page, 12, 72)
    return 1


def clear_incomplete_split(t: Target) -> int:
    """Says that the parent now has the downlink of the right sibling."""
    check_page(t)
    put16(t.page, 8188, u16(t.page, 8188) & (0xFFFF ^ INCOMPLETE_SPLIT))
    return 1


def insert_leaf(t: Target) -> int:
    # xl_btree_insert: offnum u16.
    t.need_main(2)
    t.need_data(1)
    add_item(t.page, t.p, t.data_at, t.data_length, u16(t.p, t.main_at), 0)
    return 1


def insert_upper(t: Target) -> int:
    # Blocks: 0 page, 1 child whose split this completes, 2 metapage (INSERT_META).
    if t.block_id == 0:
        return insert_leaf(t)
    if t.block_id == 1:
        return clear_incomplete_split(t)
    if t.block_id == 2 and t.op == 0x20:
        return restore_meta(t)
    return no_block(t)


def swap_posting(
    page: Writable, posting: int, length: int, position: int, p: Bytes, new: int, target: int
) -> int:
    """Puts the heap TID of the tuple at ``p[new]`` into a posting list (_bt_swap_posting).

    The posting list tuple at ``page[posting]`` has ``length`` bytes; ``position`` counts its TIDs
    from 0. Its last TID falls out and becomes that of the tuple at ``page[target]``; 0: of none.
    """
    first = posting_at(page, posting, length)
    count = u16(page, posting + 4) & 0xFFF
    if position < 1 or position >= count:
        raise RedoError(f"posting list of {count} cannot be split at {position}")
    slot = first + position * 6
    last = first + (count - 1) * 6
    if target != 0:
        move(page, target, page, last, 6)
    move(page, slot + 6, page, slot, last - slot)
    move(page, slot, p, new, 6)
    return 0


def insert_posting(t: Target) -> int:
    # xl_btree_insert; block data: place in the posting list u16, the tuple as it was before.
    t.need_main(2)
    t.need_data(10)
    offset = u16(t.p, t.main_at)
    if offset < 2:
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


def append(page: Writable, source: Bytes, at: int, length: int) -> int:
    """Adds a tuple behind the last one; returns where it lies. The page is one that we built."""
    lower = u16(page, 12)
    upper = u16(page, 14)
    aligned = (length + 7) & 0xFFFF8
    if lower + 4 + aligned > upper:
        raise RedoError(f"no room for an item of {length} bytes: lower = {lower}, upper = {upper}")
    upper -= aligned
    put32(page, lower, upper | 1 << 15 | length << 17)
    put16(page, 12, lower + 4)
    put16(page, 14, upper)
    move(page, upper, source, at, length)
    return upper


def begin_scratch(t: Target) -> int:
    """Makes ``t.scratch`` an empty page with the special area of ``t.page``."""
    page_init(t.scratch, 16)
    move(t.scratch, 8176, t.page, 8176, 16)
    return 0


def end_scratch(t: Target) -> int:
    """Makes ``t.page`` what was built in ``t.scratch`` (PageRestoreTempPage)."""
    move(t.page, 0, t.scratch, 0, 8192)
    return 0


def copy_item(t: Target, offset: int) -> int:
    """Appends the tuple of a line pointer of ``t.page`` to ``t.scratch``."""
    at = item_at(t.page, offset)
    return append(t.scratch, t.page, at, item_length(t.page, offset))


def split(t: Target) -> int:
    # xl_btree_split: level u32, firstrightoff u16, newitemoff u16, postingoff u16. Blocks: 0 left
    # (original) page, 1 right (new) page, 2 page to the right of it, 3 child whose split this
    # completes.
    t.need_main(10)
    level = u32(t.p, t.main_at)
    if t.block_id == 0:
        return split_left(t)
    if t.block_id == 1:
        right = 0 if t.block_number(2) < 0 else other_block(t, 2)
        init_page(t, other_block(t, 0), right, level, LEAF if level == 0 else 0)
        restore_items(t)
        return 1
    if t.block_id == 2:
        check_page(t)
        put32(t.page, 8176, other_block(t, 1))
        return 1
    if t.block_id == 3 and level != 0:
        return clear_incomplete_split(t)
    return no_block(t)


def other_block(t: Target, block_id: int) -> int:
    """Returns the block number of another reference of the record, which must be there."""
    number = t.block_number(block_id)
    if number < 0:
        raise RedoError(f"record has no block {block_id}")
    return number


def split_left(t: Target) -> int:
    """Keeps the left half: high key, then the items before firstrightoff, in order.

    The new tuple is in the block data where it goes to the left page (SPLIT_L) or where a posting
    list before it has to be changed; the high key follows.
    """
    check_page(t)
    first_right = u16(t.p, t.main_at + 4)
    new_offset = u16(t.p, t.main_at + 6)
    position = u16(t.p, t.main_at + 8)
    on_left = t.op == 0x30
    new = t.data_at
    new_size = 0
    if on_left or position != 0:
        new_size = tuple_size(t.p, new, t.data_length)
    key_size = tuple_size(t.p, new + new_size, t.data_length - new_size)
    if new_size + key_size != t.data_length:
        raise RedoError(f"block data of {t.data_length} bytes: {new_size + key_size} are tuples")
    replaced = new_offset - 1 if position != 0 else 0

    begin_scratch(t)
    append(t.scratch, t.p, new + new_size, key_size)
    new_at = 0
    posting = 0
    posting_length = 0
    offset = 1 if u32(t.page, 8180) == 0 else 2
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
    put16(t.page, 8188, INCOMPLETE_SPLIT | LEAF if u32(t.p, t.main_at) == 0 else INCOMPLETE_SPLIT)
    put32(t.page, 8180, other_block(t, 1))
    put16(t.page, 8190, 0)
    return 1


def tids_of(page: Bytes, at: int, length: int) -> int:
    """Returns how many heap TIDs a tuple has: 1, or those of its posting list."""
    if length < 8:
        raise RedoError(f"index tuple of {length} bytes")
    if u16(page, at + 6) & 0x2000 and u16(page, at + 4) & 0x2000:
        posting_at(page, at, length)
        return u16(page, at + 4) & 0xFFF
    return 1


def dedup(t: Target) -> int:
    # xl_btree_dedup: nintervals u16; block data: first offset number u16, number of items u16 each.
    t.need_main(2)
    check_page(t)
    intervals = u16(t.p, t.main_at)
    t.need_data(intervals * 4)
    begin_scratch(t)
    offset = 1
    if u32(t.page, 8180) != 0:
        copy_item(t, 1)
        offset = 2
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
    put16(t.scratch, 8188, u16(t.scratch, 8188) & (0xFFFF ^ HAS_GARBAGE))
    end_scratch(t)
    return 1


def merge_items(t: Target, offset: int, items: int) -> int:
    """Appends one posting list tuple for ``items`` tuples of ``t.page`` to ``t.scratch``.

    The key is that of the first one (_bt_dedup_start_pending, _bt_form_posting).
    """
    count = 0
    for i in range(offset, offset + items):
        count += tids_of(t.page, item_at(t.page, i), item_length(t.page, i))
    base = item_at(t.page, offset)
    key = u16(t.page, base + 6) & 0x1FFF
    if u16(t.page, base + 6) & 0x2000:
        key = posting_at(t.page, base, item_length(t.page, offset)) - base
    if key < 8 or key & 7 or key > item_length(t.page, offset):
        raise RedoError(f"key of {key} bytes in a tuple of {item_length(t.page, offset)}")
    size = (key + count * 6 + 7) & 0xFFFF8
    # BTMaxItemSize
    if size > 2704:
        raise RedoError(f"posting list tuple of {size} bytes, expected at most 2704")
    lower = u16(t.scratch, 12)
    upper = u16(t.scratch, 14) - size
    if lower + 4 > upper:
        raise RedoError(f"no room for an item of {size} bytes: lower = {lower}")
    put32(t.scratch, lower, upper | 1 << 15 | size << 17)
    put16(t.scratch, 12, lower + 4)
    put16(t.scratch, 14, upper)
    move(t.scratch, upper, t.page, base, key)
    put16(t.scratch, upper, 0)
    put16(t.scratch, upper + 2, key)
    put16(t.scratch, upper + 4, count | 0x2000)
    put16(t.scratch, upper + 6, u16(t.page, base + 6) & 0xE000 | 0x2000 | size)
    at = upper + key
    for i in range(offset, offset + items):
        source = item_at(t.page, i)
        count = tids_of(t.page, source, item_length(t.page, i))
        if u16(t.page, source + 6) & 0x2000:
            source = posting_at(t.page, source, item_length(t.page, i))
        move(t.scratch, at, t.page, source, count * 6)
        at += count * 6
    return 0


def delete_items(t: Target, at: int) -> int:
    """What DELETE and VACUUM do; their counts are at ``at`` of the main data.

    Block data: offset numbers to delete, offset numbers of posting lists to shrink, then for each
    of those how many TIDs it loses u16 and their places u16, ascending.
    """
    t.need_main(at + 4)
    check_page(t)
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
    put16(t.page, 8188, u16(t.page, 8188) & (0xFFFF ^ HAS_GARBAGE))
    return 1


def update_posting(t: Target, offset: int, places: int, lost: int) -> int:
    """Removes ``lost`` TIDs from a posting list (_bt_update_posting)."""
    at = item_at(t.page, offset)
    source = posting_at(t.page, at, item_length(t.page, offset))
    count = u16(t.page, at + 4) & 0xFFF
    key = source - at
    left = count - lost
    if left < 1:
        raise RedoError(f"posting list of {count} cannot lose {lost}")
    size = key
    if left > 1:
        size = (key + left * 6 + 7) & 0xFFFF8
    # Not above the old size, so inside a page.
    fill(t.scratch, 0, size, 0)
    move(t.scratch, 0, t.page, at, key)
    put16(t.scratch, 6, u16(t.page, at + 6) & 0xE000 | size)
    target = key
    if left > 1:
        put16(t.scratch, 0, 0)
        put16(t.scratch, 2, key)
        put16(t.scratch, 4, left | 0x2000)
    else:
        put16(t.scratch, 6, u16(t.scratch, 6) & 0xDFFF)
        target = 0
    gone = 0
    for i in range(count):
        if gone < lost and u16(t.p, places + gone * 2) == i:
            gone += 1
        elif i - gone < left:
            move(t.scratch, target, t.page, source + i * 6, 6)
            target += 6
    if gone != lost:
        raise RedoError(f"places in a posting list of {count}: {gone} of {lost} were found")
    index_tuple_overwrite(t.page, offset, t.scratch, 0, size)
    return 0


def half_dead_leaf(t: Target, left: int, right: int, top_parent: int) -> int:
    """Makes a half-dead leaf whose dummy high key names the top parent of its subtree."""
    init_page(t, left, right, 0, HALF_DEAD | LEAF)
    put16(t.page, 12, 28)
    put16(t.page, 14, 8168)
    put32(t.page, 24, 8168 | 1 << 15 | 8 << 17)
    put16(t.page, 8168, top_parent >> 16)
    put16(t.page, 8170, top_parent & 0xFFFF)
    put16(t.page, 8174, 0x2008)
    return 1


def mark_half_dead(t: Target) -> int:
    # xl_btree_mark_page_halfdead: poffset u16, pad, leaf u32, left u32, right u32, top parent u32.
    # Blocks: 0 leaf, 1 the page that has the downlink.
    t.need_main(20)
    if t.block_id == 0:
        return half_dead_leaf(
            t, u32(t.p, t.main_at + 8), u32(t.p, t.main_at + 12), u32(t.p, t.main_at + 16)
        )
    if t.block_id != 1:
        return no_block(t)
    check_page(t)
    # The downlink takes the child of the next one, which goes.
    offset = u16(t.p, t.main_at)
    next_at = item_at(t.page, offset + 1)
    at = item_at(t.page, offset)
    if item_length(t.page, offset) < 8 or item_length(t.page, offset + 1) < 8:
        raise RedoError(f"downlinks at {offset} are shorter than 8 bytes")
    move(t.page, at, t.page, next_at, 4)
    index_tuple_delete(t.page, offset + 1)
    return 1


def unlink_page(t: Target) -> int:
    # xl_btree_unlink_page: left u32, right u32, level u32, pad, safexid u64, then of the leaf: left
    # u32, right u32, top parent u32. Blocks: 0 the page, 1 left, 2 right sibling, 3 the leaf of the
    # subtree where that is another page, 4 metapage (UNLINK_PAGE_META).
    t.need_main(36)
    at = t.main_at
    if t.block_id == 0:
        flags = DELETED | HAS_FULLXID
        if u32(t.p, at + 8) == 0:
            flags |= LEAF
        init_page(t, u32(t.p, at), u32(t.p, at + 4), u32(t.p, at + 8), flags)
        put16(t.page, 12, 32)
        put64(t.page, 24, u64(t.p, at + 16))
        return 1
    if t.block_id == 3:
        return half_dead_leaf(t, u32(t.p, at + 24), u32(t.p, at + 28), u32(t.p, at + 32))
    if t.block_id == 4 and t.op == 0x90:
        return restore_meta(t)
    check_page(t)
    if t.block_id == 1:
        put32(t.page, 8180, u32(t.p, at + 4))
        return 1
    if t.block_id == 2:
        put32(t.page, 8176, u32(t.p, at))
        return 1
    return no_block(t)


def new_root(t: Target) -> int:
    # xl_btree_newroot: block u32, level u32. Blocks: 0 root, 1 left child, 2 metapage.
    t.need_main(8)
    level = u32(t.p, t.main_at + 4)
    if t.block_id == 0:
        init_page(t, 0, 0, level, ROOT | LEAF if level == 0 else ROOT)
        if level > 0:
            restore_items(t)
        return 1
    if t.block_id == 1 and level > 0:
        return clear_incomplete_split(t)
    if t.block_id == 2:
        return restore_meta(t)
    return no_block(t)
