"""The leaves of GIN posting trees: segments of varbyte-encoded items, and their redo.

A segment is a first item (block high u16, low u16, offset u16), a length u16, and that many bytes
of varbyte-encoded differences, padded to an even length. An item counts as
``block << 11 | offset``. Mirrors ginRedoRecompress of ginxlog.c and ginpostinglist.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cython

from walstream.errors import RedoError

if TYPE_CHECKING:
    from walstream.redo.rules.target import Target
    from walstream.wal.buffer import Bytes, Writable
if not cython.compiled:
    from walstream.redo.rules.index_layout import ip_posid
    from walstream.rmgr.gin.layout import (
        GIN_COMPRESSED,
        GIN_DATA,
        GIN_ITEM_BITS,
        GIN_LEAF,
        GIN_SEGMENT_ADDITEMS,
        GIN_SEGMENT_DELETE,
        GIN_SEGMENT_INSERT,
        GIN_SEGMENT_REPLACE,
        GinDataPageData,
        GinPageOpaque,
        MaxHeapTuplesPerPageBits,
        SizeOfGinPostingList,
        gin_flags,
        gin_maxoff,
        posting_nbytes,
    )
    from walstream.wal.buffer import move, put8, put16, u8, u16
    from walstream.wal.bufpage import (
        SizeOfItemPointerData,
        pd_lower,
        pd_special,
        pd_upper,
        set_pd_lower,
    )


def expect_flags(page: Bytes, mask: int, wanted: int) -> int:
    """Raises unless the page is a GIN page whose flags under ``mask`` are ``wanted``."""
    if pd_special(page) != GinPageOpaque:
        raise RedoError(
            f"not a GIN page: expected pd_special {GinPageOpaque}, got {pd_special(page)}"
        )
    if (u16(page, gin_flags) & mask) != wanted:
        raise RedoError(
            f"wrong kind of GIN page: expected flags {wanted} under mask {mask}, "
            f"got {u16(page, gin_flags)}"
        )
    return 0


def segment_size(p: Bytes, at: int, end: int) -> int:
    """Returns the length of the segment at ``p[at]``, padding included; it lies before ``end``."""
    if end - at < SizeOfGinPostingList:
        raise RedoError(f"posting list segment cut short: {end - at} bytes are left")
    size = SizeOfGinPostingList + (u16(p, at + posting_nbytes) + 1 & 0x1FFFE)
    if size > end - at:
        raise RedoError(f"posting list segment of {size} bytes: {end - at} bytes are left")
    return size


def recompress(t: Target) -> int:
    """Replays the changes to the segments of a posting tree leaf (ginRedoRecompress).

    Block data: number of actions u16, then per action: segment number u8, kind u8 (1 delete,
    2 insert before, 3 replace, 4 add items), and the segment, or a count u16 and the items. Old
    segments are read from a copy, since what is written may overtake what is read.
    """
    expect_flags(t.page, GIN_DATA | GIN_LEAF, GIN_DATA | GIN_LEAF)
    t.need_data(2)
    limit = pd_upper(t.page)
    if limit > GinPageOpaque:
        raise RedoError(f"corrupted page pointers: upper = {limit}, special = {GinPageOpaque}")
    if not u16(t.page, gin_flags) & GIN_COMPRESSED:
        convert_old_leaf(t, limit)
    end = pd_lower(t.page)
    if end < GinDataPageData or end > limit:
        raise RedoError(f"corrupted page pointers: lower = {end}, upper = {limit}")
    move(t.scratch, GinDataPageData, t.page, GinDataPageData, end - GinDataPageData)
    read = write = GinDataPageData
    segment = 0
    cursor = t.data_at
    stop = cursor + t.data_length
    actions = u16(t.p, cursor)
    cursor += 2
    for i in range(actions):
        if stop - cursor < 2:
            raise RedoError(f"block data ends after {i} of {actions} segment actions")
        number = u8(t.p, cursor)
        action = u8(t.p, cursor + 1)
        cursor += 2
        payload_at = cursor
        payload_size = count = 0
        if action == GIN_SEGMENT_INSERT or action == GIN_SEGMENT_REPLACE:
            payload_size = segment_size(t.p, cursor, stop)
            cursor += payload_size
        elif action == GIN_SEGMENT_ADDITEMS:
            if stop - cursor < 2:
                raise RedoError(f"block data ends in segment action {i}")
            count = u16(t.p, cursor)
            payload_at += 2
            if stop - payload_at < SizeOfItemPointerData * cython.cast(cython.Py_ssize_t, count):
                raise RedoError(f"block data ends in the {count} items of segment action {i}")
            cursor += 2 + SizeOfItemPointerData * count
        elif action != GIN_SEGMENT_DELETE:
            raise RedoError(f"unexpected GIN leaf action: {action}")

        if number < segment:
            raise RedoError(f"segment actions out of order: segment {number} after {segment}")
        while segment < number:
            size = segment_size(t.scratch, read, end)
            if size > limit - write:
                raise RedoError(f"no room for segment {segment}")
            if write != read:
                move(t.page, write, t.scratch, read, size)
            write += size
            read += size
            segment += 1

        if action == GIN_SEGMENT_INSERT or action == GIN_SEGMENT_REPLACE:
            if payload_size > limit - write:
                raise RedoError(f"no room for segment {number}")
            move(t.page, write, t.p, payload_at, payload_size)
            write += payload_size
        elif action == GIN_SEGMENT_ADDITEMS:
            segment_size(t.scratch, read, end)
            write = merge_items(t.page, write, limit, t.scratch, read, t.p, payload_at, count)
        if action != GIN_SEGMENT_INSERT:
            read += segment_size(t.scratch, read, end)
            segment += 1
    if cursor != stop:
        raise RedoError(f"{stop - cursor} bytes of block data follow {actions} segment actions")
    if read < end:
        if end - read > limit - write:
            raise RedoError("no room for the segments that stay")
        if write != read:
            move(t.page, write, t.scratch, read, end - read)
        write += end - read
    set_pd_lower(t.page, write)
    return 1


def convert_old_leaf(t: Target, limit: int) -> int:
    """Compresses a leaf of before 9.4, where ``maxoff`` plain items follow the right bound."""
    count = u16(t.page, gin_maxoff)
    if GinDataPageData + SizeOfItemPointerData * count > GinPageOpaque:
        raise RedoError(f"too many items on an uncompressed leaf: {count}")
    set_pd_lower(t.page, GinDataPageData)
    if count > 0:
        move(t.scratch, GinDataPageData, t.page, GinDataPageData, SizeOfItemPointerData * count)
        set_pd_lower(
            t.page,
            merge_items(
                t.page, GinDataPageData, limit, t.scratch, -1, t.scratch, GinDataPageData, count
            ),
        )
    put16(t.page, gin_flags, u16(t.page, gin_flags) | GIN_COMPRESSED)
    put16(t.page, gin_maxoff, 0)
    return 0


def item_value(p: Bytes, at: int) -> int:
    """Returns the item of 6 bytes at ``p[at]`` as the 43-bit number that is encoded."""
    offset = u16(p, at + ip_posid)
    if offset >> MaxHeapTuplesPerPageBits:
        raise RedoError(f"offset number {offset} in a posting list: expected at most 2047")
    value: int = cython.cast(cython.ulonglong, u16(p, at)) << 16
    return (value | u16(p, at + 2)) << MaxHeapTuplesPerPageBits | offset


def merge_items(
    page: Writable,
    write: int,
    limit: int,
    old: Bytes,
    old_at: int,
    new: Bytes,
    new_at: int,
    count: int,
) -> int:
    """Writes a segment with the items of an old segment and ``count`` plain ones; returns its end.

    The segment goes to ``page[write:limit]``. ``old[old_at]`` is a segment that was checked to lie
    in its buffer, or -1; ``new[new_at]`` are items of 6 bytes. Both ascend; an item in both is kept
    once. Mirrors ginPostingListDecode, ginMergeItemPointers and ginCompressPostingList in one pass.
    """
    if limit - write < SizeOfGinPostingList:
        raise RedoError("no room for a posting list segment")
    out = write + SizeOfGinPostingList
    i = 0
    first = True
    have_old = old_at >= 0
    older = newer = previous = 0
    at = end = 0
    if have_old:
        older = item_value(old, old_at)
        at = old_at + SizeOfGinPostingList
        end = at + u16(old, old_at + posting_nbytes)
    while have_old or i < count:
        if i < count:
            newer = item_value(new, new_at + SizeOfItemPointerData * i)
        if have_old and (i == count or older <= newer):
            value = older
            if i < count and older == newer:
                i += 1
            if at < end:
                delta = 0
                shift = 0
                while True:
                    if at >= end or shift >= GIN_ITEM_BITS:
                        raise RedoError("malformed posting list segment on the page")
                    c = u8(old, at)
                    at += 1
                    delta |= (c & 0x7F) << shift
                    shift += 7
                    if c < 0x80:
                        break
                older += delta
                if older >> GIN_ITEM_BITS:
                    raise RedoError("malformed posting list segment on the page: block too high")
            else:
                have_old = False
        else:
            value = newer
            i += 1
        if first:
            first = False
            put16(page, write, value >> 27)
            put16(page, write + 2, (value >> 11) & 0xFFFF)
            put16(page, write + 4, value & 0x7FF)
        else:
            if value <= previous:
                raise RedoError("items of a posting list are out of order")
            delta = value - previous
            while delta > 0x7F:
                if out >= limit:
                    raise RedoError("no room for a posting list segment")
                put8(page, out, 0x80 | delta & 0x7F)
                out += 1
                delta >>= 7
            if out >= limit:
                raise RedoError("no room for a posting list segment")
            put8(page, out, delta)
            out += 1
        previous = value
    length = out - write - SizeOfGinPostingList
    put16(page, write + posting_nbytes, length)
    if length & 1:
        if out >= limit:
            raise RedoError("no room for a posting list segment")
        put8(page, out, 0)
        out += 1
    return out
