"""The layout of one 8 KB page, byte for byte as PostgreSQL's bufpage.c leaves it.

Header: pd_lsn (high u32, low u32) at 0, pd_checksum u16 at 8, pd_flags u16 at 10, pd_lower u16 at
12, pd_upper u16 at 14, pd_special u16 at 16, size and layout version u16 at 18, pd_prune_xid u32 at
20, then the line pointers, 4 bytes each: offset in bits 0-14, flags in bits 15-16 (0 unused,
1 normal, 2 redirect, 3 dead), length in bits 17-31. Offset numbers count from 1.

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
    from walstream.wal.buffer import fill, move, put16, put32, u16, u32

# Typed in the .pxd: a literal this large would be a Python object in compiled code.
LOW32 = 0xFFFFFFFF


class Workspace:
    """Arrays that the functions of this module work in; nothing survives a call."""

    def __init__(self) -> None:
        if not cython.compiled:
            self.copy = bytearray(8192)
            self.index = [0] * 2048
            self.offset = [0] * 2048
            self.length = [0] * 2048
            self.kept = [0] * 2048


WORK = Workspace()


def check_pointers(page: Bytes) -> int:
    """Raises unless 24 <= pd_lower <= pd_upper <= pd_special <= 8192."""
    if (
        u16(page, 12) < 24
        or u16(page, 12) > u16(page, 14)
        or u16(page, 14) > u16(page, 16)
        or u16(page, 16) > 8192
    ):
        raise RedoError(
            f"corrupted page pointers: lower = {u16(page, 12)}, upper = {u16(page, 14)}, "
            f"special = {u16(page, 16)}"
        )
    return 0


def check_aligned(page: Bytes) -> int:
    """Raises as ``check_pointers``, and where pd_special is not a multiple of 8."""
    check_pointers(page)
    if u16(page, 16) & 7:
        raise RedoError(f"corrupted page pointers: special = {u16(page, 16)} is not aligned")
    return 0


def expect_special(page: Bytes, size: int) -> int:
    """Raises unless the special area has ``size`` bytes: no page of this kind of index otherwise.

    The rules of indexes then know where its fields are.
    """
    if u16(page, 16) != 8192 - size:
        raise RedoError(f"special area: expected pd_special {8192 - size}, got {u16(page, 16)}")
    return 0


def max_offset(page: Bytes) -> int:
    """Returns the number of line pointers, at most what a page can hold."""
    lower = u16(page, 12)
    if lower <= 24:
        return 0
    if lower > 8192:
        lower = 8192
    return (lower - 24) >> 2


def item_id(page: Bytes, offset: int) -> int:
    """Returns the line pointer ``offset``, which the caller knows to be 1 .. max_offset."""
    at = 20 + 4 * offset
    return u32(page, at)


def set_item_id(page: Writable, offset: int, at: int, flags: int, length: int) -> int:
    """Writes the line pointer ``offset``, which the caller knows to be inside the page."""
    put32(page, 20 + 4 * offset, (at & 0x7FFF) | (flags & 3) << 15 | (length & 0x7FFF) << 17)
    return 0


def item_at(page: Bytes, offset: int) -> int:
    """Returns where the tuple of a line pointer starts; all its bytes lie inside the page.

    Raises:
        RedoError: no such line pointer, it has no storage, or it points outside the page.
    """
    if offset < 1 or offset > cython.cast(cython.uint, max_offset(page)):
        raise RedoError(f"invalid offset number {offset}: page has {max_offset(page)}")
    lp = item_id(page, offset)
    at = lp & 0x7FFF
    length = lp >> 17
    if length == 0 or at < 24 or at + length > 8192:
        raise RedoError(
            f"invalid line pointer {offset}: flags {(lp >> 15) & 3}, offset {at}, length {length}"
        )
    return at


def item_length(page: Bytes, offset: int) -> int:
    """Returns the length in a line pointer that the caller knows to exist."""
    return item_id(page, offset) >> 17


def page_lsn(page: Bytes) -> int:
    """Returns pd_lsn."""
    high = u32(page, 0)
    return high << 32 | u32(page, 4)


def set_page_lsn(page: Writable, lsn: int) -> int:
    """Writes pd_lsn."""
    put32(page, 0, lsn >> 32)
    put32(page, 4, lsn & LOW32)
    return 0


def page_init(page: Writable, special_size: int) -> int:
    """Zeroes the page and writes an empty header (PageInit). ``special_size`` is below 8168."""
    special_size = (special_size + 7) & ~7
    fill(page, 0, 8192, 0)
    put16(page, 12, 24)
    put16(page, 14, 8192 - special_size)
    put16(page, 16, 8192 - special_size)
    put16(page, 18, 0x2004)
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
            if flags & 1:
                if item_id(page, offset) >> 15:
                    raise RedoError(f"will not overwrite a used line pointer: {offset}")
            else:
                shuffle = True
    elif u16(page, 10) & 1:
        offset = 1
        while offset < limit and item_id(page, offset) >> 15:
            offset += 1
        if offset >= limit:
            # The hint is wrong, so reset it.
            put16(page, 10, u16(page, 10) & 0xFFFE)
    else:
        offset = limit
    if offset > limit:
        raise RedoError(f"specified item offset is too large: {offset}, page has {limit - 1}")
    if flags & 2 and offset > 291:
        raise RedoError(f"cannot put more than 291 items in a heap page: {offset}")
    lower = u16(page, 12)
    if offset == limit or shuffle:
        lower += 4
    upper = u16(page, 14)
    aligned = (size + 7) & ~7
    if size > 8192 or lower + aligned > upper:
        raise RedoError(f"no room for an item of {size} bytes: lower = {lower}, upper = {upper}")
    upper -= aligned
    at = 20 + 4 * offset
    if shuffle:
        move(page, at + 4, page, at, 4 * (limit - offset))
    put32(page, at, upper | 1 << 15 | size << 17)
    move(page, upper, source, source_at, size)
    put16(page, 12, lower)
    put16(page, 14, upper)
    return offset


def compactify(page: Writable, count: int, presorted: bool) -> int:
    """Moves the tuples that WORK lists to the end of the page, the first one last.

    ``WORK.index`` is the offset number, ``offset`` and ``length`` (aligned) where the tuple is now.
    The caller has checked that all lie in [24, pd_special] and fit together. ``presorted``: the
    tuples already lie in that order. Mirrors compactify_tuples.
    """
    special = u16(page, 16)
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
        at = u16(page, 14)
        move(WORK.copy, at, page, at, special - at)
        while i < count:
            length = WORK.length[i]
            upper -= length
            move(page, upper, WORK.copy, WORK.offset[i], length)
            set_lp_offset(page, WORK.index[i], upper)
            i += 1
    put16(page, 14, upper)
    return 0


def set_lp_offset(page: Writable, offset: int, at: int) -> int:
    put32(page, 20 + 4 * offset, u32(page, 20 + 4 * offset) >> 15 << 15 | at)
    return 0


def set_free_lines(page: Writable, free: bool) -> int:
    """Writes PD_HAS_FREE_LINES."""
    put16(page, 10, u16(page, 10) & 0xFFFE | (1 if free else 0))
    return 0


def repair_fragmentation(page: Writable, truncate: bool) -> int:
    """Closes the gaps between the tuples of a heap page (PageRepairFragmentation).

    ``truncate``: also drop unused line pointers at the end of the array.
    """
    check_aligned(page)
    lower = u16(page, 12)
    upper = u16(page, 14)
    special = u16(page, 16)
    count = max_offset(page)
    used = unused = total = final_used = 0
    last = special
    presorted = True
    for i in range(1, count + 1):
        lp = item_id(page, i)
        if lp & 0x18000:
            if lp >> 17:
                at = lp & 0x7FFF
                length = ((lp >> 17) + 7) & ~7
                if last > at:
                    last = at
                else:
                    presorted = False
                if at < upper or at + length > special:
                    raise RedoError(f"corrupted line pointer {i}: offset {at}, length {lp >> 17}")
                WORK.index[used] = i
                WORK.offset[used] = at
                WORK.length[used] = length
                total += length
                used += 1
            final_used = i
        else:
            put32(page, 20 + 4 * i, 0)
            unused += 1
    if used == 0:
        put16(page, 14, special)
    else:
        if total > special - lower:
            raise RedoError(
                f"corrupted item lengths: total {total}, available space {special - lower}"
            )
        compactify(page, used, presorted)
    if truncate and final_used != count:
        unused -= count - final_used
        put16(page, 12, lower - 4 * (count - final_used))
    set_free_lines(page, unused != 0)
    return 0


def truncate_line_pointers(page: Writable) -> int:
    """Drops unused line pointers at the end, never the first (PageTruncateLinePointerArray)."""
    check_pointers(page)
    lower = u16(page, 12)
    unused_end = 0
    done = False
    hint = False
    i = max_offset(page)
    while i >= 1:
        if not done and i > 1:
            if item_id(page, i) & 0x18000:
                done = True
            else:
                unused_end += 1
        elif not item_id(page, i) & 0x18000:
            hint = True
            break
        i -= 1
    put16(page, 12, lower - 4 * unused_end)
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
    at = lp & 0x7FFF
    length = ((lp >> 17) + 7) & ~7
    if at < u16(page, 14) or at + length > u16(page, 16) or at & 7:
        raise RedoError(f"corrupted line pointer {offset}: offset = {at}, size = {lp >> 17}")
    return lp


def shift_tuples(page: Writable, at: int, by: int) -> int:
    """Moves the tuples before ``at`` by so many bytes, and pd_upper; not their line pointers."""
    upper = cython.cast(cython.int, u16(page, 14))
    move(page, upper + by, page, upper, at - upper)
    put16(page, 14, upper + by)
    return 0


def shift_lines(page: Writable, count: int, at: int, by: int) -> int:
    """Adds to the offsets of the first ``count`` line pointers whose tuples start up to ``at``."""
    for i in range(1, count + 1):
        lp = item_id(page, i)
        start = cython.cast(cython.int, lp & 0x7FFF)
        if lp >> 17 and start <= at:
            put32(page, 20 + 4 * i, lp >> 15 << 15 | (start + by) & 0x7FFF)
    return 0


def index_tuple_delete(page: Writable, offset: int) -> int:
    """Removes a tuple and its line pointer (PageIndexTupleDelete)."""
    lp = index_item(page, offset)
    at = lp & 0x7FFF
    length = ((lp >> 17) + 7) & ~7
    count = max_offset(page)
    move(page, 20 + 4 * offset, page, 24 + 4 * offset, 4 * (count - offset))
    shift_tuples(page, at, length)
    put16(page, 12, u16(page, 12) - 4)
    # Unlike the other two, line pointers without a tuple are moved along.
    for i in range(1, count):
        lp = item_id(page, i)
        if lp & 0x7FFF <= at:
            put32(page, 20 + 4 * i, lp >> 15 << 15 | ((lp & 0x7FFF) + length) & 0x7FFF)
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
    lower = u16(page, 12)
    upper = u16(page, 14)
    special = u16(page, 16)
    lines = max_offset(page)
    used = total = taken = 0
    last = special
    presorted = True
    for i in range(1, lines + 1):
        lp = item_id(page, i)
        at = lp & 0x7FFF
        length = ((lp >> 17) + 7) & ~7
        if at < upper or at + length > special or at & 7:
            raise RedoError(f"corrupted line pointer {i}: offset = {at}, length = {lp >> 17}")
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
        put32(page, 24 + 4 * i, WORK.kept[i])
    put16(page, 12, 24 + 4 * used)
    if used:
        compactify(page, used, presorted)
    else:
        put16(page, 14, special)
    return 0


def index_delete_no_compact(page: Writable, offset: int) -> int:
    """Removes a tuple; its line pointer becomes unused, or goes if it is the last.

    Mirrors PageIndexTupleDeleteNoCompact.
    """
    lp = index_item(page, offset)
    at = lp & 0x7FFF
    length = ((lp >> 17) + 7) & ~7
    count = max_offset(page)
    if offset < cython.cast(cython.uint, count):
        put32(page, 20 + 4 * offset, 0)
    else:
        put16(page, 12, u16(page, 12) - 4)
        count -= 1
    shift_tuples(page, at, length)
    return shift_lines(page, count, at, length)


def index_tuple_overwrite(
    page: Writable, offset: int, source: Bytes, source_at: int, size: int
) -> int:
    """Replaces a tuple by one of any length; its number stays (PageIndexTupleOverwrite)."""
    lp = index_item(page, offset)
    at = lp & 0x7FFF
    old = ((lp >> 17) + 7) & ~7
    lower = u16(page, 12)
    upper = u16(page, 14)
    if size > 8192:
        raise RedoError(f"no room for an item of {size} bytes")
    new = (size + 7) & ~7
    if new > old + (upper - lower):
        raise RedoError(f"no room for an item of {size} bytes: lower = {lower}, upper = {upper}")
    difference = old - new
    if difference != 0:
        shift_tuples(page, at, difference)
        shift_lines(page, max_offset(page), at, difference)
    set_item_id(page, offset, at + difference, 1, size)
    move(page, at + difference, source, source_at, size)
    return 0
