"""The header of a data page, its line pointers and its tuples' addresses (bufpage.h, itemid.h).

A page has 8192 bytes: the header, the line pointers, 4 bytes each from ``SizeOfPageHeaderData`` on,
the hole from pd_lower to pd_upper, tuples, and from pd_special on what an index keeps there. Offset
numbers count line pointers from 1. The functions read and write one field each and check nothing.
``bufpage.pxd`` has the same for compiled kernels; functions of its own keep the uncompiled build
from paying for two calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from walstream.wal.buffer import put16, put32, u32

if TYPE_CHECKING:
    from walstream.wal.buffer import Bytes, Writable

BLCKSZ = 8192

# PageHeaderData: where the fields lie.
pd_lsn_at = 0
pd_checksum_at = 8
pd_flags_at = 10
pd_lower_at = 12
pd_upper_at = 14
pd_special_at = 16
pd_pagesize_version_at = 18
pd_prune_xid_at = 20
SizeOfPageHeaderData = 24
PG_PAGE_LAYOUT_VERSION = 4

PD_HAS_FREE_LINES = 0x0001
PD_PAGE_FULL = 0x0002
PD_ALL_VISIBLE = 0x0004

# ItemIdData: offset in bits 0 to 14, flags in 15 and 16, length in 17 to 31.
SizeOfItemIdData = 4
LP_UNUSED = 0
LP_NORMAL = 1
LP_REDIRECT = 2
LP_DEAD = 3

# Flags of PageAddItemExtended.
PAI_OVERWRITE = 0x01
PAI_IS_HEAP = 0x02

# ItemPointerData: block (high u16, low u16), offset number u16.
SizeOfItemPointerData = 6
FirstOffsetNumber = 1
InvalidOffsetNumber = 0

# transam.h
InvalidTransactionId = 0
FrozenTransactionId = 2
FirstNormalTransactionId = 3

# Not in the enum of the .pxd: above 31 bits, and functions

InvalidBlockNumber = 0xFFFFFFFF
PG_UINT32_MAX = 0xFFFFFFFF


def pd_flags(page: Bytes) -> int:
    return page[10] | page[11] << 8


def pd_lower(page: Bytes) -> int:
    return page[12] | page[13] << 8


def pd_upper(page: Bytes) -> int:
    return page[14] | page[15] << 8


def pd_special(page: Bytes) -> int:
    return page[16] | page[17] << 8


def pd_prune_xid(page: Bytes) -> int:
    return u32(page, pd_prune_xid_at)


def pd_lsn(page: Bytes) -> int:
    """Returns the end LSN of the last record that changed the page (PageGetLSN)."""
    return u32(page, 0) << 32 | u32(page, 4)


def set_pd_flags(page: Writable, value: int) -> None:
    put16(page, pd_flags_at, value)


def set_pd_lower(page: Writable, value: int) -> None:
    put16(page, pd_lower_at, value)


def set_pd_upper(page: Writable, value: int) -> None:
    put16(page, pd_upper_at, value)


def set_pd_special(page: Writable, value: int) -> None:
    put16(page, pd_special_at, value)


def set_pd_prune_xid(page: Writable, value: int) -> None:
    put32(page, pd_prune_xid_at, value)


def set_pd_lsn(page: Writable, lsn: int) -> None:
    """Writes pd_lsn, the high half first (PageSetLSN)."""
    put32(page, 0, lsn >> 32)
    put32(page, 4, lsn & 0xFFFFFFFF)


def item_id_at(offset: int) -> int:
    """Returns where the line pointer of an offset number lies on the page (PageGetItemId)."""
    return 20 + 4 * offset


def lp_off(lp: int) -> int:
    return lp & 0x7FFF


def lp_flags(lp: int) -> int:
    return lp >> 15 & 3


def lp_len(lp: int) -> int:
    return lp >> 17


def lp_in_use(lp: int) -> bool:
    """Returns ItemIdIsUsed or ItemIdHasStorage: what keeps a line pointer from being taken."""
    return lp >> 15 != 0


def line_pointer(off: int, flags: int, length: int) -> int:
    """Returns an ItemIdData; bits that do not fit are cut off, as C does."""
    return off & 0x7FFF | (flags & 3) << 15 | (length & 0x7FFF) << 17


def maxalign(length: int) -> int:
    """Returns the next multiple of 8 (MAXALIGN)."""
    return length + 7 & ~7


def put_block(p: Writable, at: int, block: int) -> None:
    """Writes a BlockIdData, the high half first."""
    put16(p, at, block >> 16)
    put16(p, at + 2, block & 0xFFFF)


def block_at(p: Bytes, at: int) -> int:
    """Returns a BlockIdData (BlockIdGetBlockNumber)."""
    return (p[at] | p[at + 1] << 8) << 16 | p[at + 2] | p[at + 3] << 8
