"""WAL from a pipe: no file name says where it begins, so its first page header must."""

from __future__ import annotations

from typing import IO, NamedTuple

from walstream.errors import PageHeaderError
from walstream.segments.files import read_some
from walstream.segments.header import read_page_header, stated_segment_size
from walstream.wal.layout import XLOG_BLCKSZ, XLP_LONG_HEADER, SizeOfXLogLongPHD
from walstream.wal.segment import is_valid_segment_size
from walstream.wal.versions import PAGE_MAGICS


class PipeHead(NamedTuple):
    """What the first page header of a stream of WAL says; sizes are 0 where it does not say."""

    lsn: int
    segment_size: int
    data: bytes


def read_pipe_head(stream: IO[bytes]) -> PipeHead:
    """Reads the first page header from a pipe.

    Raises:
        PageHeaderError: the bytes do not begin with a WAL page.
    """
    data = read_some(stream, SizeOfXLogLongPHD, "standard input")
    header = read_page_header(data)
    if header is None:
        raise PageHeaderError(
            f"standard input: expected WAL from a page start on, got {len(data)} bytes"
        )
    if header.magic not in PAGE_MAGICS or header.page_lsn % XLOG_BLCKSZ:
        raise PageHeaderError(
            "standard input: expected WAL from a page start on, got page magic "
            f"{header.magic:04X} and address {header.page_lsn:X}"
        )
    size = stated_segment_size(data) if header.info & XLP_LONG_HEADER else 0
    if size and not is_valid_segment_size(size):
        raise PageHeaderError(f"standard input: invalid WAL segment size {size}", header.page_lsn)
    return PipeHead(header.page_lsn, size, data)
