"""A record that goes on from the segment before: how far it reaches, by page headers alone (pure).

Where the segment in which it starts is not at hand its CRC cannot be proven here. PostgreSQL has
that segment, or it does not need the record; it checks the CRC itself.
"""

from __future__ import annotations

from walstream.segments.header import read_page_header
from walstream.wal.layout import (
    XLOG_BLCKSZ,
    XLP_FIRST_IS_CONTRECORD,
    SizeOfXLogLongPHD,
    SizeOfXLogShortPHD,
)


def continuation_length(data: bytes, lsn: int, segment_size: int) -> int:
    """Returns how many bytes from a segment's start belong to a record that began before it.

    Page headers included; 0 where none goes on, or a page of it is not there or not as the one
    before it says. ``segment_size`` where it fills the segment.

    Args:
        data: the segment, or what there is of it.
        lsn: where it begins.
        segment_size: in bytes.
    """
    left = 0
    first: tuple[int, int] | None = None
    at = 0
    while at < segment_size:
        if at + SizeOfXLogLongPHD > len(data):
            return 0
        page = read_page_header(data, at)
        assert page is not None
        if first is None:
            first, left = (page.magic, page.timeline), page.rem_len
        if not page.info & XLP_FIRST_IS_CONTRECORD or page.page_lsn != lsn + at:
            return 0
        if page.rem_len != left or not left or (page.magic, page.timeline) != first:
            return 0
        header = SizeOfXLogShortPHD if at else SizeOfXLogLongPHD
        if left <= XLOG_BLCKSZ - header:
            end = at + header + left
            return end if end <= len(data) else 0
        left -= XLOG_BLCKSZ - header
        at += XLOG_BLCKSZ
    return segment_size
