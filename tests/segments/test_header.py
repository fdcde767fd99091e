"""The page header at a segment's start."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from walstream.errors import PageHeaderError
from walstream.segments.header import (
    LONG,
    read_long_header,
    read_page_header,
    stated_segment_size,
)
from walstream.segments.pipe import read_pipe_head
from walstream.wal.versions import PAGE_MAGICS

U32 = st.integers(0, 0xFFFFFFFF)
U64 = st.integers(0, (1 << 64) - 1)


@given(st.sampled_from(sorted(PAGE_MAGICS)), U32, U64, U32, U64, U32, U32)
def test_round_trip(
    magic: int, timeline: int, lsn: int, left: int, system: int, size: int, block: int
) -> None:
    data = LONG.pack(magic, 2, timeline, lsn, left, system, size, block)
    header = read_long_header(data + b"more")
    assert header is not None
    assert header == (PAGE_MAGICS[magic], timeline, lsn, left, system, size, block)
    assert header.encode() == data
    assert header.encode(5) == LONG.pack(magic, 7, *header[1:])
    page = read_page_header(data)
    assert page is not None
    assert page == (magic, 2, timeline, lsn, left)
    assert page.encode() == data[:20] + bytes(4)
    assert stated_segment_size(data) == size
    assert read_long_header(data[:-1]) is None
    assert stated_segment_size(data[:-1]) == 0
    # Without the flag, or with a magic of no version, it is none; it still says a size.
    for wrong in (
        LONG.pack(magic, 0, timeline, lsn, left, system, size, block),
        b"\0\0" + data[2:],
    ):
        assert read_long_header(wrong) is None
        assert stated_segment_size(wrong) == size


@given(st.binary(max_size=60))
def test_any_bytes(data: bytes) -> None:
    header = read_page_header(data)
    assert (header is None) == (len(data) < 24)
    try:
        head = read_pipe_head(io.BytesIO(data))
    except PageHeaderError:
        return
    assert head.data == data[:40]


def test_a_pipe_that_begins_within_a_segment_does_not_say_its_size() -> None:
    magic = min(PAGE_MAGICS)
    short = LONG.pack(magic, 0, 1, 0x2000, 0, 0, 7, 0)
    assert read_pipe_head(io.BytesIO(short))[:2] == (0x2000, 0)
    with pytest.raises(PageHeaderError, match="invalid WAL segment size 7"):
        read_pipe_head(io.BytesIO(LONG.pack(magic, 2, 1, 0x2000, 0, 0, 7, 0)))
