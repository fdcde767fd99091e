"""WAL from a pipe: no file name says where it begins, so its first page header must."""

from __future__ import annotations

import struct
from typing import IO, NamedTuple

from walstream.errors import PageHeaderError, WalError
from walstream.segments.files import read_some
from walstream.wal.layout import PAGE_MAGICS, XLP_LONG_HEADER
from walstream.wal.segment import is_valid_segment_size


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
    data = read_some(stream, 40, "standard input")
    if len(data) < 24:
        raise PageHeaderError(
            f"standard input: expected WAL from a page start on, got {len(data)} bytes"
        )
    magic, info, _, lsn = struct.unpack_from("<HHIQ", data, 0)
    if magic not in PAGE_MAGICS or lsn % 8192:
        raise PageHeaderError(
            "standard input: expected WAL from a page start on, got page magic "
            f"{magic:04X} and address {lsn:X}"
        )
    size = 0
    if info & XLP_LONG_HEADER and len(data) == 40:
        size = struct.unpack_from("<I", data, 32)[0]
        if not is_valid_segment_size(size):
            raise WalError(f"standard input: invalid WAL segment size {size}", lsn)
    return PipeHead(lsn, size, data)
