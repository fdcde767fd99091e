"""The page header at a segment's start (XLogLongPageHeaderData of xlog_internal.h). Pure.

::

    u16 xlp_magic, u16 xlp_info, u32 xlp_tli, u64 xlp_pageaddr, u32 xlp_rem_len, 4 bytes padding,
    u64 xlp_sysid, u32 xlp_seg_size, u32 xlp_xlog_blcksz

The first 24 bytes begin every page (XLogPageHeaderData), the rest only the first of a segment.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from walstream.wal.layout import (
    XLOG_BLCKSZ,
    XLP_LONG_HEADER,
    SizeOfXLogLongPHD,
    SizeOfXLogShortPHD,
)
from walstream.wal.versions import MAGIC_OF_VERSION, PAGE_MAGICS

SHORT = Struct("<HHIQI4x")
LONG = Struct("<HHIQI4xQII")


class PageHeader(NamedTuple):
    """The header of any page. ``rem_len`` is what is left of a record from the page before."""

    magic: int
    info: int
    timeline: int
    page_lsn: int
    rem_len: int

    def encode(self) -> bytes:
        """Returns the 24 bytes of the header."""
        return SHORT.pack(*self)


class LongHeader(NamedTuple):
    """The header of a segment's first page. Sizes in bytes."""

    version: int
    timeline: int
    page_lsn: int
    rem_len: int
    system_id: int
    segment_size: int
    block_size: int = XLOG_BLCKSZ

    def encode(self, info: int = 0) -> bytes:
        """Returns the 40 bytes of the header; ``info`` are flags beside XLP_LONG_HEADER."""
        version, *rest = self
        return LONG.pack(MAGIC_OF_VERSION[version], info | XLP_LONG_HEADER, *rest)


def read_page_header(data: bytes | memoryview, at: int = 0) -> PageHeader | None:
    """Returns what stands where a page's header should, None where there are not as many bytes."""
    if len(data) - at < SizeOfXLogShortPHD:
        return None
    return PageHeader(*SHORT.unpack_from(data, at))


def read_long_header(data: bytes) -> LongHeader | None:
    """Returns the long page header at the start of a segment, None where there is none."""
    if len(data) < SizeOfXLogLongPHD:
        return None
    magic, info, *rest = LONG.unpack_from(data)
    if magic not in PAGE_MAGICS or not info & XLP_LONG_HEADER:
        return None
    return LongHeader(PAGE_MAGICS[magic], *rest)


def stated_segment_size(data: bytes) -> int:
    """Returns the segment size that a segment's first page says, right or wrong.

    Whatever else the page says: that is for whoever reads it to check. 0 where it is too short.
    """
    return int(LONG.unpack_from(data)[6]) if len(data) >= SizeOfXLogLongPHD else 0
