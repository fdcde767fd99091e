"""What stands on a page: header, line pointers and heap tuples (``kinds/`` has the rest).

Reads pages that may be damaged: an item outside the page is shown as such, never followed.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from walstream.wal.model import BLCKSZ

_HEADER = Struct("<QHHHHHHI")
_HEAP = Struct("<IIIHHHHHB")
PAGE_HEADER = 24

LP_NAMES = ("unused", "normal", "redirect", "dead")

INFOMASK = (
    (0x0001, "HASNULL"),
    (0x0002, "HASVARWIDTH"),
    (0x0004, "HASEXTERNAL"),
    (0x0008, "HASOID_OLD"),
    (0x0010, "XMAX_KEYSHR_LOCK"),
    (0x0020, "COMBOCID"),
    (0x0040, "XMAX_EXCL_LOCK"),
    (0x0080, "XMAX_LOCK_ONLY"),
    (0x0100, "XMIN_COMMITTED"),
    (0x0200, "XMIN_INVALID"),
    (0x0400, "XMAX_COMMITTED"),
    (0x0800, "XMAX_INVALID"),
    (0x1000, "XMAX_IS_MULTI"),
    (0x2000, "UPDATED"),
    (0x4000, "MOVED_OFF"),
    (0x8000, "MOVED_IN"),
)
INFOMASK2 = ((0x2000, "KEYS_UPDATED"), (0x4000, "HOT_UPDATED"), (0x8000, "HEAP_ONLY"))
PAGE_FLAGS = ((1, "HAS_FREE_LINES"), (2, "PAGE_FULL"), (4, "ALL_VISIBLE"))

XMIN_FROZEN = 0x0300


class PageHeader(NamedTuple):
    """PageHeaderData. ``lsn`` is the end LSN of the last record that stamped the page."""

    lsn: int
    checksum: int
    flags: int
    lower: int
    upper: int
    special: int
    pagesize_version: int
    prune_xid: int

    @property
    def is_new(self) -> bool:
        """Whether nothing was ever written to the page (PageIsNew)."""
        return self.upper == 0

    @property
    def flag_names(self) -> list[str]:
        return [name for bit, name in PAGE_FLAGS if self.flags & bit]


class HeapTuple(NamedTuple):
    """HeapTupleHeaderData and what follows it."""

    xmin: int
    xmax: int
    cid: int
    ctid: tuple[int, int]
    infomask2: int
    infomask: int
    hoff: int
    data: bytes

    @property
    def flag_names(self) -> list[str]:
        names = [name for bit, name in INFOMASK if self.infomask & bit]
        if self.infomask & XMIN_FROZEN == XMIN_FROZEN:
            names = [n for n in names if n not in ("XMIN_COMMITTED", "XMIN_INVALID")]
            names.append("XMIN_FROZEN")
        return names + [name for bit, name in INFOMASK2 if self.infomask2 & bit]


class Item(NamedTuple):
    """One line pointer; ``offset_number`` counts from 1. ``data`` is empty without storage."""

    offset_number: int
    state: str
    offset: int
    length: int
    data: bytes

    @property
    def redirect_to(self) -> int | None:
        """The offset number that a redirecting line pointer leads to."""
        return self.offset if self.state == "redirect" else None


def page_header(page: bytes) -> PageHeader:
    """Returns the header of a page of 8192 bytes."""
    low_lsn, checksum, flags, lower, upper, special, size, prune_xid = _HEADER.unpack_from(page)
    # pd_lsn is two words, the high one first.
    lsn = (low_lsn & 0xFFFFFFFF) << 32 | low_lsn >> 32
    return PageHeader(lsn, checksum, flags, lower, upper, special, size, prune_xid)


def page_items(page: bytes) -> list[Item]:
    """Returns the line pointers of a page in order; none for a page without items."""
    header = page_header(page)
    if header.is_new or not PAGE_HEADER <= header.lower <= BLCKSZ:
        return []
    items = []
    for number, at in enumerate(range(PAGE_HEADER, header.lower - 3, 4), start=1):
        pointer = int.from_bytes(page[at : at + 4], "little")
        offset, state, length = pointer & 0x7FFF, pointer >> 15 & 3, pointer >> 17
        inside = length > 0 and offset + length <= BLCKSZ and state != 2
        data = page[offset : offset + length] if inside else b""
        items.append(Item(number, LP_NAMES[state], offset, length, data))
    return items


def heap_tuple(data: bytes) -> HeapTuple | None:
    """Returns a heap tuple, or None where the item is too short for one."""
    if len(data) < _HEAP.size:
        return None
    xmin, xmax, cid, high, low, offset, infomask2, infomask, hoff = _HEAP.unpack_from(data)
    return HeapTuple(
        xmin, xmax, cid, (high << 16 | low, offset), infomask2, infomask, hoff, data[hoff:]
    )
