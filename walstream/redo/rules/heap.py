"""Redo of the Heap resource manager (heap_redo of heapam.c).

A tuple on its page: xmin u32 0, xmax u32 4, command id u32 8, ctid 12 (block high u16, low u16,
offset u16), infomask2 u16 18, infomask u16 20, hoff u8 22, then null bitmap, padding, data.
A tuple in WAL leaves out what the record implies: infomask2 u16, infomask u16, hoff u8, then
everything from byte 23 on. The bodies are the same in 14 to 18.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cython

from walstream.errors import RedoError, UnsupportedRecord

if TYPE_CHECKING:
    from walstream.wal.buffer import Bytes, Writable
if not cython.compiled:
    from walstream.redo.rules.page import check_pointers, item_id, max_offset, page_init
    from walstream.redo.rules.target import Target
    from walstream.wal.buffer import move, put8, put16, put32, u8, u16, u32


def heap_redo(t: Target) -> int:
    op = t.op & 0x70
    if op == 0x00:
        return insert_redo(t)
    if op == 0x20 or op == 0x40:
        return update_redo(t)
    if op == 0x10:
        return delete_redo(t)
    if op == 0x60:
        return lock_redo(t)
    if op == 0x70:
        return inplace_redo(t)
    if op == 0x50:
        return confirm_redo(t)
    raise UnsupportedRecord("the operation has no redo rule")


def heap_at(page: Bytes, offset: int) -> int:
    """Returns where a normal tuple starts; its 23 header bytes and its length are on the page."""
    if offset < 1 or offset > cython.cast(cython.uint, max_offset(page)):
        raise RedoError(f"invalid line pointer {offset}: page has {max_offset(page)}")
    lp = item_id(page, offset)
    at = lp & 0x7FFF
    if (lp >> 15) & 3 != 1 or lp >> 17 < 23 or at < 24 or at + (lp >> 17) > 8192:
        raise RedoError(
            f"invalid line pointer {offset}: flags {(lp >> 15) & 3}, offset {at}, length {lp >> 17}"
        )
    return at


def put_ctid(page: Writable, at: int, block: int, offset: int) -> int:
    put16(page, at + 12, block >> 16)
    put16(page, at + 14, block & 0xFFFF)
    put16(page, at + 16, offset)
    return 0


def set_prunable(page: Writable, xid: int) -> int:
    """Lowers pd_prune_xid to ``xid`` (PageSetPrunable)."""
    old = u32(page, 20)
    # TransactionIdPrecedes: ids below 3 are older than all others, those compare modulo 2^32.
    if (
        old == 0
        or ((xid < 3 or old < 3) and xid < old)
        or (xid >= 3 and old >= 3 and ((xid - old) >> 31) & 1)
    ):
        put32(page, 20, xid)
    return 0


def set_lock_bits(page: Writable, at: int, infobits: int) -> int:
    """Replaces what a tuple says of its xmax (fix_infomask_from_infobits)."""
    # HEAP_XMAX_BITS, HEAP_MOVED and HEAP_KEYS_UPDATED go
    infomask = u16(page, at + 20) & 0x232F
    infomask2 = u16(page, at + 18) & 0xDFFF
    if infobits & 0x01:
        infomask |= 0x1000  # HEAP_XMAX_IS_MULTI
    if infobits & 0x02:
        infomask |= 0x0080  # HEAP_XMAX_LOCK_ONLY
    if infobits & 0x04:
        infomask |= 0x0040  # HEAP_XMAX_EXCL_LOCK
    if infobits & 0x08:
        infomask |= 0x0010  # HEAP_XMAX_KEYSHR_LOCK
    if infobits & 0x10:
        infomask2 |= 0x2000  # HEAP_KEYS_UPDATED
    put16(page, at + 20, infomask)
    put16(page, at + 18, infomask2)
    return 0


def new_tuple(page: Writable, offset: int, size: int) -> int:
    """Makes room for a tuple at an unused line pointer; returns where its bytes go.

    As ``page.add_item`` with both of its flags, but the caller writes the bytes in place.
    """
    check_pointers(page)
    limit = max_offset(page) + 1
    if offset < 1 or offset > limit:
        raise RedoError(f"invalid max offset number: record says {offset}, page has {limit - 1}")
    if offset > 291:
        raise RedoError(f"cannot put more than 291 items in a heap page: {offset}")
    lower = u16(page, 12)
    if offset == limit:
        lower += 4
    elif item_id(page, offset) >> 15:
        raise RedoError(f"will not overwrite a used line pointer: {offset}")
    upper = u16(page, 14)
    aligned = (size + 7) & ~7
    if size > 8160 or lower + aligned > upper:
        raise RedoError(f"no room for a tuple of {size} bytes: lower = {lower}, upper = {upper}")
    upper -= aligned
    put32(page, 20 + 4 * offset, upper | 0x8000 | size << 17)
    put16(page, 12, lower)
    put16(page, 14, upper)
    return upper


def put_header(
    page: Writable,
    to: int,
    xmin: int,
    xmax: int,
    block: int,
    offset: int,
    infomask2: int,
    infomask: int,
    hoff: int,
) -> int:
    put32(page, to, xmin)
    put32(page, to + 4, xmax)
    put32(page, to + 8, 0)
    put_ctid(page, to, block, offset)
    put16(page, to + 18, infomask2)
    # HeapTupleHeaderSetCmin takes HEAP_COMBOCID away.
    put16(page, to + 20, infomask & 0xFFDF)
    put8(page, to + 22, hoff)
    return 0


def only_block(t: Target) -> int:
    if t.block_id != 0:
        raise RedoError(f"block reference: expected 0, got {t.block_id}")
    return 0


def insert_redo(t: Target) -> int:
    """Main data: offset u16, flags u8. Block data: the tuple."""
    only_block(t)
    t.need_main(3)
    t.need_data(6)
    if t.op & 0x80:
        page_init(t.page, 0)
    offset = u16(t.p, t.main_at)
    flags = u8(t.p, t.main_at + 2)
    at = t.data_at
    body = t.data_length - 5
    to = new_tuple(t.page, offset, 23 + body)
    put_header(
        t.page, to, t.xid, 0, t.block, offset, u16(t.p, at), u16(t.p, at + 2), u8(t.p, at + 4)
    )
    move(t.page, to + 23, t.p, at + 5, body)
    if flags & 0x01:
        put16(t.page, 10, u16(t.page, 10) & 0xFFFB)
    if flags & 0x20:
        put16(t.page, 10, u16(t.page, 10) | 0x0004)
    return 1


def delete_redo(t: Target) -> int:
    """Main data: xmax u32, offset u16, infobits u8, flags u8."""
    only_block(t)
    t.need_main(8)
    m = t.main_at
    offset = u16(t.p, m + 4)
    flags = u8(t.p, m + 7)
    at = heap_at(t.page, offset)
    set_lock_bits(t.page, at, u8(t.p, m + 6))
    put16(t.page, at + 18, u16(t.page, at + 18) & 0xBFFF)
    put16(t.page, at + 20, u16(t.page, at + 20) & 0xFFDF)
    if flags & 0x08:  # super-deletion: of a speculative tuple
        put32(t.page, at, 0)
    else:
        put32(t.page, at + 4, u32(t.p, m))
    put32(t.page, at + 8, 0)
    set_prunable(t.page, t.xid)
    if flags & 0x01:
        put16(t.page, 10, u16(t.page, 10) & 0xFFFB)
    if flags & 0x10:  # moved to another partition
        put16(t.page, at + 12, 0xFFFF)
        put16(t.page, at + 14, 0xFFFF)
        put16(t.page, at + 16, 0xFFFD)
    else:
        put_ctid(t.page, at, t.block, offset)
    return 1


def update_redo(t: Target) -> int:
    """Main data: old xmax u32, offset u16, infobits u8, flags u8, new xmax u32, new offset u16.

    Reference 0 is the new tuple's page, 1 the old one's; without 1 they are the same page, and the
    old tuple is changed before the new one is added.
    """
    t.need_main(14)
    r = t.reader
    i = r.find_block(1)
    if t.block_id == 1:
        new_block = r.block_number[0]
        if r.block_id[0] != 0:
            raise RedoError("record has no block reference 0")
        return update_old(t, new_block)
    only_block(t)
    if i < 0:
        update_old(t, t.block)
        return update_new(t, True)
    if t.op & 0x80:
        page_init(t.page, 0)
    return update_new(t, False)


def update_old(t: Target, new_block: int) -> int:
    m = t.main_at
    at = heap_at(t.page, u16(t.p, m + 4))
    set_lock_bits(t.page, at, u8(t.p, m + 6))
    if t.op & 0x70 == 0x40:
        put16(t.page, at + 18, u16(t.page, at + 18) | 0x4000)
    else:
        put16(t.page, at + 18, u16(t.page, at + 18) & 0xBFFF)
    put16(t.page, at + 20, u16(t.page, at + 20) & 0xFFDF)
    put32(t.page, at + 4, u32(t.p, m))
    put32(t.page, at + 8, 0)
    put_ctid(t.page, at, new_block, u16(t.p, m + 12))
    set_prunable(t.page, t.xid)
    if u8(t.p, m + 7) & 0x01:
        put16(t.page, 10, u16(t.page, 10) & 0xFFFB)
    return 1


def update_new(t: Target, same_page: bool) -> int:
    """Block data: prefix length u16 and suffix length u16 where flagged, then the tuple.

    Prefix and suffix of the tuple's data are those of the old tuple, which lies on the same page.
    """
    m = t.main_at
    flags = u8(t.p, m + 7)
    offset = u16(t.p, m + 12)
    at = t.data_at
    end = at + t.data_length
    prefix = suffix = 0
    t.need_data(5 + (2 if flags & 0x20 else 0) + (2 if flags & 0x40 else 0))
    if flags & 0x20:
        prefix = u16(t.p, at)
        at += 2
    if flags & 0x40:
        suffix = u16(t.p, at)
        at += 2
    infomask2 = u16(t.p, at)
    infomask = u16(t.p, at + 2)
    hoff = u8(t.p, at + 4)
    at += 5
    body = end - at
    old = old_length = old_hoff = 0
    if prefix + suffix != 0:
        if not same_page:
            raise RedoError("update takes bytes of a tuple on another page")
        old = heap_at(t.page, u16(t.p, m + 4))
        old_length = item_id(t.page, u16(t.p, m + 4)) >> 17
        old_hoff = u8(t.page, old + 22)
        if (
            old_hoff + prefix > old_length
            or suffix > old_length
            or (prefix != 0 and (hoff < 23 or hoff - 23 > body))
        ):
            raise RedoError(
                f"prefix {prefix} or suffix {suffix} is longer than the old tuple of {old_length}"
            )
        old_hoff += old
    to = new_tuple(t.page, offset, 23 + prefix + body + suffix)
    put_header(t.page, to, t.xid, u32(t.p, m + 8), t.block, offset, infomask2, infomask, hoff)
    to += 23
    if prefix != 0:
        # null bitmap and padding come from the record, before the prefix
        head = hoff - 23
        move(t.page, to, t.p, at, head)
        to += head
        move(t.page, to, t.page, old_hoff, prefix)
        to += prefix
        at += head
        body -= head
    move(t.page, to, t.p, at, body)
    if suffix != 0:
        move(t.page, to + body, t.page, old + old_length - suffix, suffix)
    if flags & 0x02:
        put16(t.page, 10, u16(t.page, 10) & 0xFFFB)
    return 1


def confirm_redo(t: Target) -> int:
    """Main data: offset u16. A speculative tuple gets its real ctid."""
    only_block(t)
    t.need_main(2)
    offset = u16(t.p, t.main_at)
    at = heap_at(t.page, offset)
    put_ctid(t.page, at, t.block, offset)
    return 1


def lock_redo(t: Target) -> int:
    """Main data: xmax u32, offset u16, infobits u8, flags u8."""
    only_block(t)
    t.need_main(8)
    m = t.main_at
    offset = u16(t.p, m + 4)
    at = heap_at(t.page, offset)
    set_lock_bits(t.page, at, u8(t.p, m + 6))
    infomask = u16(t.page, at + 20)
    if infomask & 0x0080 or infomask & 0x1050 == 0x0040:  # HEAP_XMAX_IS_LOCKED_ONLY
        put16(t.page, at + 18, u16(t.page, at + 18) & 0xBFFF)
        put_ctid(t.page, at, t.block, offset)
    put16(t.page, at + 20, infomask & 0xFFDF)
    put32(t.page, at + 4, u32(t.p, m))
    put32(t.page, at + 8, 0)
    return 1


def inplace_redo(t: Target) -> int:
    """Main data: offset u16 (18 adds invalidation messages). Block data: the tuple's new data."""
    only_block(t)
    t.need_main(2)
    offset = u16(t.p, t.main_at)
    at = heap_at(t.page, offset)
    length = item_id(t.page, offset) >> 17
    hoff = u8(t.page, at + 22)
    if hoff > length or length - hoff != t.data_length:
        raise RedoError(
            f"wrong tuple length: tuple has {length} bytes, header {hoff}, record {t.data_length}"
        )
    move(t.page, at + hoff, t.p, t.data_at, t.data_length)
    return 1
