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
    from walstream.redo.rules.index_tuple import aligned_length
    from walstream.redo.rules.page import index_tuple_overwrite, item_at, item_length, page_init
    from walstream.wal.buffer import fill, move, put16, put32, u16


def init_page(t: Target, left: int, right: int, level: int, flags: int) -> int:
    """Makes an empty page with that special area (_bt_pageinit)."""
    page_init(t.page, 16)
    put32(t.page, 8176, left)
    put32(t.page, 8180, right)
    put32(t.page, 8184, level)
    put16(t.page, 8188, flags)
    return 0


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
        at += aligned_length(t.p, at, end - at)
        count += 1
    if 24 + count * 4 > 8176 - length:
        raise RedoError(f"{count} tuples of {length} bytes do not fit in a page")
    upper = 8176 - length
    move(t.page, upper, t.p, t.data_at, length)
    put16(t.page, 12, 24 + count * 4)
    put16(t.page, 14, upper)
    while upper < 8176:
        size = aligned_length(t.page, upper, 8176 - upper)
        count -= 1
        put32(t.page, 24 + count * 4, upper | 1 << 15 | size << 17)
        upper += size
    return 0


def begin_scratch(t: Target) -> int:
    """Makes ``t.scratch`` an empty page with the special area of ``t.page``."""
    page_init(t.scratch, 16)
    move(t.scratch, 8176, t.page, 8176, 16)
    return 0


def end_scratch(t: Target) -> int:
    """Makes ``t.page`` what was built in ``t.scratch`` (PageRestoreTempPage)."""
    move(t.page, 0, t.scratch, 0, 8192)
    return 0


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


def copy_item(t: Target, offset: int) -> int:
    """Appends the tuple of a line pointer of ``t.page`` to ``t.scratch``."""
    at = item_at(t.page, offset)
    return append(t.scratch, t.page, at, item_length(t.page, offset))


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


def tids_of(page: Bytes, at: int, length: int) -> int:
    """Returns how many heap TIDs a tuple has: 1, or those of its posting list."""
    if length < 8:
        raise RedoError(f"index tuple of {length} bytes")
    if u16(page, at + 6) & 0x2000 and u16(page, at + 4) & 0x2000:
        posting_at(page, at, length)
        return u16(page, at + 4) & 0xFFF
    return 1


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
