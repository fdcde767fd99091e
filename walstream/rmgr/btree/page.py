"""B-tree pages and posting lists, for the rules in ``btree.py`` (nbtpage.c, nbtdedup.c).

Special area (16 bytes at 8176): left sibling u32, right sibling u32, level u32, flags u16, vacuum
cycle id u16. Index tuple: block (high u16, low u16), offset u16, info u16 whose low 13 bits are the
size; bit 0x2000 of info says that block and offset mean something else. With bit 0x2000 of offset
also set the tuple is a posting list: block is where its array of 6-byte heap TIDs starts, the low
12 bits of offset how many there are.
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
        INDEX_FLAGS_MASK,
        INDEX_SIZE_MASK,
        SizeOfIndexTupleData,
        ip_posid,
        t_info,
        t_tid,
    )
    from walstream.redo.rules.index_tuple import aligned_length
    from walstream.redo.rules.page import index_tuple_overwrite, item_at, item_length, page_init
    from walstream.rmgr.btree.layout import (
        BT_IS_POSTING,
        BT_OFFSET_MASK,
        INDEX_ALT_TID_MASK,
        BTMaxItemSize,
        BTPageOpaque,
        SizeOfBTPageOpaque,
        btpo_flags,
        btpo_level,
        btpo_next,
        btpo_prev,
    )
    from walstream.wal.buffer import fill, move, put16, put32, u16
    from walstream.wal.bufpage import (
        BLCKSZ,
        LP_NORMAL,
        SizeOfItemIdData,
        SizeOfItemPointerData,
        SizeOfPageHeaderData,
        block_at,
        item_id_at,
        line_pointer,
        maxalign,
        pd_lower,
        pd_upper,
        put_block,
        set_pd_lower,
        set_pd_upper,
    )


def init_page(t: Target, left: int, right: int, level: int, flags: int) -> int:
    """Makes an empty page with that special area (_bt_pageinit)."""
    page_init(t.page, SizeOfBTPageOpaque)
    put32(t.page, btpo_prev, left)
    put32(t.page, btpo_next, right)
    put32(t.page, btpo_level, level)
    put16(t.page, btpo_flags, flags)
    return 0


def restore_items(t: Target) -> int:
    """Fills an empty page with the block data: its tuples, last one first (_bt_restore_page).

    Added one after the other they would fill the page from its end downwards in just the order
    that the data has.
    """
    length = t.data_length
    if length > BTPageOpaque - SizeOfPageHeaderData or length & 7:
        raise RedoError(
            f"tuples of a page: expected a multiple of 8 up to 8152, got {length} bytes"
        )
    at = t.data_at
    end = at + length
    count = 0
    while at < end:
        at += aligned_length(t.p, at, end - at)
        count += 1
    if SizeOfPageHeaderData + SizeOfItemIdData * count > BTPageOpaque - length:
        raise RedoError(f"{count} tuples of {length} bytes do not fit in a page")
    upper = BTPageOpaque - length
    move(t.page, upper, t.p, t.data_at, length)
    set_pd_lower(t.page, item_id_at(count + 1))
    set_pd_upper(t.page, upper)
    while upper < BTPageOpaque:
        size = aligned_length(t.page, upper, BTPageOpaque - upper)
        count -= 1
        put32(t.page, item_id_at(count + 1), line_pointer(upper, LP_NORMAL, size))
        upper += size
    return 0


def begin_scratch(t: Target) -> int:
    """Makes ``t.scratch`` an empty page with the special area of ``t.page``."""
    page_init(t.scratch, SizeOfBTPageOpaque)
    move(t.scratch, BTPageOpaque, t.page, BTPageOpaque, SizeOfBTPageOpaque)
    return 0


def end_scratch(t: Target) -> int:
    """Makes ``t.page`` what was built in ``t.scratch`` (PageRestoreTempPage)."""
    move(t.page, 0, t.scratch, 0, BLCKSZ)
    return 0


def append(page: Writable, source: Bytes, at: int, length: int) -> int:
    """Adds a tuple behind the last one; returns where it lies. The page is one that we built."""
    lower = pd_lower(page)
    upper = pd_upper(page)
    aligned = maxalign(length)
    if lower + SizeOfItemIdData + aligned > upper:
        raise RedoError(f"no room for an item of {length} bytes: lower = {lower}, upper = {upper}")
    upper -= aligned
    put32(page, lower, line_pointer(upper, LP_NORMAL, length))
    set_pd_lower(page, lower + SizeOfItemIdData)
    set_pd_upper(page, upper)
    move(page, upper, source, at, length)
    return upper


def copy_item(t: Target, offset: int) -> int:
    """Appends the tuple of a line pointer of ``t.page`` to ``t.scratch``."""
    at = item_at(t.page, offset)
    return append(t.scratch, t.page, at, item_length(t.page, offset))


def posting_at(page: Bytes, at: int, length: int) -> int:
    """Returns where the heap TIDs of the posting list tuple at ``at`` start.

    Its line pointer gives it ``length`` bytes; all TIDs lie inside them.
    """
    if (
        length < SizeOfIndexTupleData
        or not u16(page, at + t_info) & INDEX_ALT_TID_MASK
        or not u16(page, at + ip_posid) & BT_IS_POSTING
    ):
        raise RedoError("index tuple is not a posting list")
    start = block_at(page, at)
    count = u16(page, at + ip_posid) & BT_OFFSET_MASK
    if (
        start < SizeOfIndexTupleData
        or start & 7
        or start > length
        or count * SizeOfItemPointerData > length - start
    ):
        raise RedoError(f"posting list of {count} at {start} in a tuple of {length} bytes")
    return at + start


def tids_of(page: Bytes, at: int, length: int) -> int:
    """Returns how many heap TIDs a tuple has: 1, or those of its posting list."""
    if length < SizeOfIndexTupleData:
        raise RedoError(f"index tuple of {length} bytes")
    if u16(page, at + t_info) & INDEX_ALT_TID_MASK and u16(page, at + ip_posid) & BT_IS_POSTING:
        posting_at(page, at, length)
        return u16(page, at + ip_posid) & BT_OFFSET_MASK
    return 1


def swap_posting(
    page: Writable, posting: int, length: int, position: int, p: Bytes, new: int, target: int
) -> int:
    """Puts the heap TID of the tuple at ``p[new]`` into a posting list (_bt_swap_posting).

    The posting list tuple at ``page[posting]`` has ``length`` bytes; ``position`` counts its TIDs
    from 0. Its last TID falls out and becomes that of the tuple at ``page[target]``; 0: of none.
    """
    first = posting_at(page, posting, length)
    count = u16(page, posting + ip_posid) & BT_OFFSET_MASK
    if position < 1 or position >= count:
        raise RedoError(f"posting list of {count} cannot be split at {position}")
    slot = first + position * SizeOfItemPointerData
    last = first + (count - 1) * SizeOfItemPointerData
    if target != 0:
        move(page, target, page, last, SizeOfItemPointerData)
    move(page, slot + SizeOfItemPointerData, page, slot, last - slot)
    move(page, slot, p, new, SizeOfItemPointerData)
    return 0


def merge_items(t: Target, offset: int, items: int) -> int:
    """Appends one posting list tuple for ``items`` tuples of ``t.page`` to ``t.scratch``.

    The key is that of the first one (_bt_dedup_start_pending, _bt_form_posting).
    """
    count = 0
    for i in range(offset, offset + items):
        count += tids_of(t.page, item_at(t.page, i), item_length(t.page, i))
    base = item_at(t.page, offset)
    key = u16(t.page, base + t_info) & INDEX_SIZE_MASK
    if u16(t.page, base + t_info) & INDEX_ALT_TID_MASK:
        key = posting_at(t.page, base, item_length(t.page, offset)) - base
    if key < SizeOfIndexTupleData or key & 7 or key > item_length(t.page, offset):
        raise RedoError(f"key of {key} bytes in a tuple of {item_length(t.page, offset)}")
    size = maxalign(key + count * SizeOfItemPointerData)
    if size > BTMaxItemSize:
        raise RedoError(f"posting list tuple of {size} bytes, expected at most {BTMaxItemSize}")
    lower = pd_lower(t.scratch)
    upper = pd_upper(t.scratch) - size
    if lower + SizeOfItemIdData > upper:
        raise RedoError(f"no room for an item of {size} bytes: lower = {lower}")
    put32(t.scratch, lower, line_pointer(upper, LP_NORMAL, size))
    set_pd_lower(t.scratch, lower + SizeOfItemIdData)
    set_pd_upper(t.scratch, upper)
    move(t.scratch, upper, t.page, base, key)
    put_block(t.scratch, upper + t_tid, key)
    put16(t.scratch, upper + ip_posid, count | BT_IS_POSTING)
    put16(
        t.scratch,
        upper + t_info,
        u16(t.page, base + t_info) & INDEX_FLAGS_MASK | INDEX_ALT_TID_MASK | size,
    )
    at = upper + key
    for i in range(offset, offset + items):
        source = item_at(t.page, i)
        count = tids_of(t.page, source, item_length(t.page, i))
        if u16(t.page, source + t_info) & INDEX_ALT_TID_MASK:
            source = posting_at(t.page, source, item_length(t.page, i))
        move(t.scratch, at, t.page, source, count * SizeOfItemPointerData)
        at += count * SizeOfItemPointerData
    return 0


def update_posting(t: Target, offset: int, places: int, lost: int) -> int:
    """Removes ``lost`` TIDs from a posting list (_bt_update_posting)."""
    at = item_at(t.page, offset)
    source = posting_at(t.page, at, item_length(t.page, offset))
    count = u16(t.page, at + ip_posid) & BT_OFFSET_MASK
    key = source - at
    left = count - lost
    if left < 1:
        raise RedoError(f"posting list of {count} cannot lose {lost}")
    size = key
    if left > 1:
        size = maxalign(key + left * SizeOfItemPointerData)
    # Not above the old size, so inside a page.
    fill(t.scratch, 0, size, 0)
    move(t.scratch, 0, t.page, at, key)
    put16(t.scratch, t_info, u16(t.page, at + t_info) & INDEX_FLAGS_MASK | size)
    target = key
    if left > 1:
        put_block(t.scratch, t_tid, key)
        put16(t.scratch, ip_posid, left | BT_IS_POSTING)
    else:
        put16(t.scratch, t_info, u16(t.scratch, t_info) & ~INDEX_ALT_TID_MASK)
        target = 0
    gone = 0
    for i in range(count):
        if gone < lost and u16(t.p, places + gone * 2) == i:
            gone += 1
        elif i - gone < left:
            move(
                t.scratch, target, t.page, source + i * SizeOfItemPointerData, SizeOfItemPointerData
            )
            target += SizeOfItemPointerData
    if gone != lost:
        raise RedoError(f"places in a posting list of {count}: {gone} of {lost} were found")
    index_tuple_overwrite(t.page, offset, t.scratch, 0, size)
    return 0
