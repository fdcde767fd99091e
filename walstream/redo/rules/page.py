"""The layout of one 8 KB page, byte for byte as PostgreSQL's bufpage.c leaves it.

Where the fields of a page and of a line pointer lie is in ``wal/bufpage.py``.

A page may be hostile: every function here stays inside its 8192 bytes whatever they hold, and
raises ``RedoError`` where bufpage.c would refuse. A source of bytes (``source``, ``numbers``) must
have been checked by the caller. What lies between pd_lower and pd_upper is not part of the promise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cython

from walstream.errors import RedoError

if TYPE_CHECKING:
    from walstream.wal.buffer import Bytes, Writable
if not cython.compiled:
    from walstream.rmgr.heap.layout import MaxHeapTuplesPerPage
    from walstream.wal.buffer import fill, move, put16, put32, u16, u32
    from walstream.wal.bufpage import (
        BLCKSZ,
        LP_NORMAL,
        LP_UNUSED,
        PAI_IS_HEAP,
        PAI_OVERWRITE,
        PD_HAS_FREE_LINES,
        PG_PAGE_LAYOUT_VERSION,
        SizeOfItemIdData,
        SizeOfPageHeaderData,
        item_id_at,
        line_pointer,
        lp_flags,
        lp_in_use,
        lp_len,
        lp_off,
        maxalign,
        pd_flags,
        pd_lower,
        pd_pagesize_version_at,
        pd_special,
        pd_upper,
        set_pd_flags,
        set_pd_lower,
        set_pd_special,
        set_pd_upper,
    )


class Workspace:
    """Arrays that the functions of this module work in; nothing survives a call."""

    def __init__(self) -> None:
        if not cython.compiled:
            self.copy = bytearray(BLCKSZ)
            self.index = [0] * 2048
            self.offset = [0] * 2048
            self.length = [0] * 2048
            self.kept = [0] * 2048


WORK = Workspace()


def check_pointers(page: Bytes) -> int:
    """Raises unless 24 <= pd_lower <= pd_upper <= pd_special <= 8192."""
    if (
        pd_lower(page) < SizeOfPageHeaderData
        or pd_lower(page) > pd_upper(page)
        or pd_upper(page) > pd_special(page)
        or pd_special(page) > BLCKSZ
    ):
        raise RedoError(
            f"corrupted page pointers: lower = {pd_lower(page)}, upper = {pd_upper(page)}, "
            f"special = {pd_special(page)}"
        )
    return 0


def check_aligned(page: Bytes) -> int:
    """Raises as ``check_pointers``, and where pd_special is not a multiple of 8."""
    check_pointers(page)
    if pd_special(page) & 7:
        raise RedoError(f"corrupted page pointers: special = {pd_special(page)} is not aligned")
    return 0


def expect_special(page: Bytes, size: int) -> int:
    """Raises unless the special area has ``size`` bytes: no page of this kind of index otherwise.

    The rules of indexes then know where its fields are.
    """
    if pd_special(page) != BLCKSZ - size:
        raise RedoError(
            f"special area: expected pd_special {BLCKSZ - size}, got {pd_special(page)}"
        )
    return 0


def max_offset(page: Bytes) -> int:
    """Returns the number of line pointers, at most what a page can hold."""
    lower = pd_lower(page)
    if lower <= SizeOfPageHeaderData:
        return 0
    if lower > BLCKSZ:
        lower = BLCKSZ
    return (lower - SizeOfPageHeaderData) // SizeOfItemIdData


def item_id(page: Bytes, offset: int) -> int:
    """Returns the line pointer ``offset``, which the caller knows to be 1 .. max_offset."""
    at = item_id_at(offset)
    return u32(page, at)


def set_item_id(page: Writable, offset: int, at: int, flags: int, length: int) -> int:
    """Writes the line pointer ``offset``, which the caller knows to be inside the page."""
    put32(page, item_id_at(offset), line_pointer(at, flags, length))
    return 0


def item_at(page: Bytes, offset: int) -> int:
    """Returns where the tuple of a line pointer starts; all its bytes lie inside the page.

    Raises:
        RedoError: no such line pointer, it has no storage, or it points outside the page.
    """
    if offset < 1 or offset > cython.cast(cython.uint, max_offset(page)):
        raise RedoError(f"invalid offset number {offset}: page has {max_offset(page)}")
    lp = item_id(page, offset)
    at = lp_off(lp)
    length = lp_len(lp)
    if length == 0 or at < SizeOfPageHeaderData or at + length > BLCKSZ:
        raise RedoError(
            f"invalid line pointer {offset}: flags {lp_flags(lp)}, offset {at}, length {length}"
        )
    return at


def item_length(page: Bytes, offset: int) -> int:
    """Returns the length in a line pointer that the caller knows to exist."""
    return lp_len(item_id(page, offset))


def page_init(page: Writable, special_size: int) -> int:
    """Zeroes the page and writes an empty header (PageInit). ``special_size`` is below 8168."""
    special_size = maxalign(special_size)
    fill(page, 0, BLCKSZ, 0)
    set_pd_lower(page, SizeOfPageHeaderData)
    set_pd_upper(page, BLCKSZ - special_size)
    set_pd_special(page, BLCKSZ - special_size)
    put16(page, pd_pagesize_version_at, BLCKSZ | PG_PAGE_LAYOUT_VERSION)
    return 0


def add_item(
    page: Writable, source: Bytes, source_at: int, size: int, offset: int, flags: int
) -> int:
    """Stores ``source[source_at:source_at + size]`` as a tuple; returns its offset number.

    ``offset`` 0 takes the first unused line pointer, or a new one. Otherwise it is where to put the
    tuple: with flag 1 (PAI_OVERWRITE) into an unused line pointer or one past the last, without it
    later line pointers move up. Flag 2 (PAI_IS_HEAP) keeps to the line pointers of a heap page.
    Mirrors PageAddItemExtended.

    Raises:
        RedoError: the tuple does not fit or the offset number is not allowed.
    """
    check_pointers(page)
    limit = max_offset(page) + 1
    shuffle = False
    if offset != 0:
        if offset < limit:
            if flags & PAI_OVERWRITE:
                if lp_in_use(item_id(page, offset)):
                    raise RedoError(f"will not overwrite a used line pointer: {offset}")
            else:
                shuffle = True
    elif pd_flags(page) & PD_HAS_FREE_LINES:
        offset = 1
        while offset < limit and lp_in_use(item_id(page, offset)):
            offset += 1
        if offset >= limit:
            # The hint is wrong, so reset it.
            set_pd_flags(page, pd_flags(page) & ~PD_HAS_FREE_LINES)
    else:
        offset = limit
    if offset > limit:
        raise RedoError(f"specified item offset is too large: {offset}, page has {limit - 1}")
    if flags & PAI_IS_HEAP and offset > MaxHeapTuplesPerPage:
        raise RedoError(
            f"cannot put more than {MaxHeapTuplesPerPage} items in a heap page: {offset}"
        )
    lower = pd_lower(page)
    if offset == limit or shuffle:
        lower += SizeOfItemIdData
    upper = pd_upper(page)
    aligned = maxalign(size)
    if size > BLCKSZ or lower + aligned > upper:
        raise RedoError(f"no room for an item of {size} bytes: lower = {lower}, upper = {upper}")
    upper -= aligned
    at = item_id_at(offset)
    if shuffle:
        move(page, at + SizeOfItemIdData, page, at, SizeOfItemIdData * (limit - offset))
    put32(page, at, line_pointer(upper, LP_NORMAL, size))
    move(page, upper, source, source_at, size)
    set_pd_lower(page, lower)
    set_pd_upper(page, upper)
    return offset


def compactify(page: Writable, count: int, presorted: bool) -> int:
    """Moves the tuples that WORK lists to the end of the page, the first one last.

    ``WORK.index`` is the offset number, ``offset`` and ``length`` (aligned) where the tuple is now.
    The caller has checked that all lie in [24, pd_special] and fit together. ``presorted``: the
    tuples already lie in that order. Mirrors compactify_tuples.
    """
    special = pd_special(page)
    upper = special
    i = 0
    if presorted:
        # Tuples at their place stay; neighbours that move by the same distance move at once.
        while i < count and WORK.offset[i] + WORK.length[i] == upper:
            upper -= WORK.length[i]
            i += 1
        while i < count:
            group_end = WORK.offset[i] + WORK.length[i]
            start = group_end
            at = upper
            while i < count and WORK.offset[i] + WORK.length[i] == start:
                start -= WORK.length[i]
                at -= WORK.length[i]
                set_lp_offset(page, WORK.index[i], at)
                i += 1
            move(page, at, page, start, group_end - start)
            upper = at
    else:
        at = pd_upper(page)
        move(WORK.copy, at, page, at, special - at)
        while i < count:
            length = WORK.length[i]
            upper -= length
            move(page, upper, WORK.copy, WORK.offset[i], length)
            set_lp_offset(page, WORK.index[i], upper)
            i += 1
    set_pd_upper(page, upper)
    return 0


def set_lp_offset(page: Writable, offset: int, at: int) -> int:
    lp = item_id(page, offset)
    put32(page, item_id_at(offset), line_pointer(at, lp_flags(lp), lp_len(lp)))
    return 0


def set_free_lines(page: Writable, free: bool) -> int:
    """Writes PD_HAS_FREE_LINES."""
    set_pd_flags(page, pd_flags(page) & ~PD_HAS_FREE_LINES | (PD_HAS_FREE_LINES if free else 0))
    return 0


def repair_fragmentation(page: Writable, truncate: bool) -> int:
    """Closes the gaps between the tuples of a heap page (PageRepairFragmentation).

    ``truncate``: also drop unused line pointers at the end of the array.
    """
    check_aligned(page)
    lower = pd_lower(page)
    upper = pd_upper(page)
    special = pd_special(page)
    count = max_offset(page)
    used = unused = total = final_used = 0
    last = special
    presorted = True
    for i in range(1, count + 1):
        lp = item_id(page, i)
        if lp_flags(lp):
            if lp_len(lp):
                at = lp_off(lp)
                length = maxalign(lp_len(lp))
                if last > at:
                    last = at
                else:
                    presorted = False
                if at < upper or at + length > special:
                    raise RedoError(f"corrupted line pointer {i}: offset {at}, length {lp_len(lp)}")
                WORK.index[used] = i
                WORK.offset[used] = at
                WORK.length[used] = length
                total += length
                used += 1
            final_used = i
        else:
            put32(page, item_id_at(i), 0)
            unused += 1
    if used == 0:
        set_pd_upper(page, special)
    else:
        if total > special - lower:
            raise RedoError(
                f"corrupted item lengths: total {total}, available space {special - lower}"
            )
        compactify(page, used, presorted)
    if truncate and final_used != count:
        unused -= count - final_used
        set_pd_lower(page, lower - SizeOfItemIdData * (count - final_used))
    set_free_lines(page, unused != 0)
    return 0


def truncate_line_pointers(page: Writable) -> int:
    """Drops unused line pointers at the end, never the first (PageTruncateLinePointerArray)."""
    check_pointers(page)
    lower = pd_lower(page)
    unused_end = 0
    done = False
    hint = False
    i = max_offset(page)
    while i >= 1:
        if not done and i > 1:
            if lp_flags(item_id(page, i)):
                done = True
            else:
                unused_end += 1
        elif lp_flags(item_id(page, i)) == LP_UNUSED:
            hint = True
            break
        i -= 1
    set_pd_lower(page, lower - SizeOfItemIdData * unused_end)
    set_free_lines(page, hint)
    return 0


def index_item(page: Bytes, offset: int) -> int:
    """Returns a line pointer of an index page; its tuple lies between pd_upper and pd_special.

    Raises:
        RedoError: no such line pointer, or it or the page header is corrupted.
    """
    check_pointers(page)
    count = max_offset(page)
    if offset < 1 or offset > cython.cast(cython.uint, count):
        raise RedoError(f"invalid index offset number {offset}: page has {count}")
    lp = item_id(page, offset)
    at = lp_off(lp)
    length = maxalign(lp_len(lp))
    if at < pd_upper(page) or at + length > pd_special(page) or at & 7:
        raise RedoError(f"corrupted line pointer {offset}: offset = {at}, size = {lp_len(lp)}")
    return lp


def shift_tuples(page: Writable, at: int, by: int) -> int:
    """Moves the tuples before ``at`` by so many bytes, and pd_upper; not their line pointers."""
    upper = cython.cast(cython.int, pd_upper(page))
    move(page, upper + by, page, upper, at - upper)
    set_pd_upper(page, upper + by)
    return 0


def shift_lines(page: Writable, count: int, at: int, by: int) -> int:
    """Adds to the offsets of the first ``count`` line pointers whose tuples start up to ``at``."""
    for i in range(1, count + 1):
        lp = item_id(page, i)
        start = cython.cast(cython.int, lp_off(lp))
        if lp_len(lp) and start <= at:
            put32(page, item_id_at(i), line_pointer(start + by, lp_flags(lp), lp_len(lp)))
    return 0


def index_tuple_delete(page: Writable, offset: int) -> int:
    """Removes a tuple and its line pointer (PageIndexTupleDelete)."""
    lp = index_item(page, offset)
    at = lp_off(lp)
    length = maxalign(lp_len(lp))
    count = max_offset(page)
    move(
        page, item_id_at(offset), page, item_id_at(offset + 1), SizeOfItemIdData * (count - offset)
    )
    shift_tuples(page, at, length)
    set_pd_lower(page, pd_lower(page) - SizeOfItemIdData)
    # Unlike the other two, line pointers without a tuple are moved along.
    for i in range(1, count):
        lp = item_id(page, i)
        if lp_off(lp) <= at:
            put32(page, item_id_at(i), line_pointer(lp_off(lp) + length, lp_flags(lp), lp_len(lp)))
    return 0


def index_multi_delete(page: Writable, numbers: Bytes, numbers_at: int, count: int) -> int:
    """Removes ``count`` tuples and their line pointers (PageIndexMultiDelete).

    ``numbers[numbers_at:]`` are the offset numbers, u16 each, ascending.
    """
    if count <= 2:
        i = count - 1
        while i >= 0:
            index_tuple_delete(page, u16(numbers, numbers_at + 2 * i))
            i -= 1
        return 0
    check_aligned(page)
    lower = pd_lower(page)
    upper = pd_upper(page)
    special = pd_special(page)
    lines = max_offset(page)
    used = total = taken = 0
    last = special
    presorted = True
    for i in range(1, lines + 1):
        lp = item_id(page, i)
        at = lp_off(lp)
        length = maxalign(lp_len(lp))
        if at < upper or at + length > special or at & 7:
            raise RedoError(f"corrupted line pointer {i}: offset = {at}, length = {lp_len(lp)}")
        if taken < count and cython.cast(cython.int, u16(numbers, numbers_at + 2 * taken)) == i:
            taken += 1
        else:
            if last > at:
                last = at
            else:
                presorted = False
            WORK.index[used] = used + 1
            WORK.offset[used] = at
            WORK.length[used] = length
            WORK.kept[used] = lp
            total += length
            used += 1
    if taken != count:
        raise RedoError(f"incorrect index offsets supplied: {count}, found {taken}")
    if total > special - lower:
        raise RedoError(f"corrupted item lengths: total {total}, available space {special - lower}")
    for i in range(used):
        put32(page, item_id_at(i + 1), WORK.kept[i])
    set_pd_lower(page, SizeOfPageHeaderData + SizeOfItemIdData * used)
    if used:
        compactify(page, used, presorted)
    else:
        set_pd_upper(page, special)
    return 0


def index_delete_no_compact(page: Writable, offset: int) -> int:
    """Removes a tuple; its line pointer becomes unused, or goes if it is the last.

    Mirrors PageIndexTupleDeleteNoCompact.
    """
    lp = index_item(page, offset)
    at = lp_off(lp)
    length = maxalign(lp_len(lp))
    count = max_offset(page)
    if offset < cython.cast(cython.uint, count):
        put32(page, item_id_at(offset), 0)
    else:
        set_pd_lower(page, pd_lower(page) - SizeOfItemIdData)
        count -= 1
    shift_tuples(page, at, length)
    return shift_lines(page, count, at, length)


def index_tuple_overwrite(
    page: Writable, offset: int, source: Bytes, source_at: int, size: int
) -> int:
    """Replaces a tuple by one of any length; its number stays (PageIndexTupleOverwrite)."""
    lp = index_item(page, offset)
    at = lp_off(lp)
    old = maxalign(lp_len(lp))
    lower = pd_lower(page)
    upper = pd_upper(page)
    if size > BLCKSZ:
        raise RedoError(f"no room for an item of {size} bytes")
    new = maxalign(size)
    if new > old + (upper - lower):
        raise RedoError(f"no room for an item of {size} bytes: lower = {lower}, upper = {upper}")
    difference = old - new
    if difference != 0:
        shift_tuples(page, at, difference)
        shift_lines(page, max_offset(page), at, difference)
    set_item_id(page, offset, at + difference, LP_NORMAL, size)
    move(page, at + difference, source, source_at, size)
    return 0
