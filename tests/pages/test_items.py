"""Pages as people read them; damaged ones are shown, never followed."""

from __future__ import annotations

from struct import pack, pack_into

from hypothesis import given
from hypothesis import strategies as st

from walstream.pages.items import heap_tuple, page_header, page_items
from walstream.pages.text import hex_lines, page_lines


def heap_page() -> bytes:
    page = bytearray(8192)
    row = pack("<IIIHHHHHB", 700, 0, 0, 0, 3, 1, 2, 0x0902, 24) + b"\0" + b"hello"
    pack_into("<QHHHHHHI", page, 0, (0x16B3748 << 32) | 1, 0, 4, 32, 8144, 8192, 0x2004, 0)
    pack_into("<II", page, 24, 8144 | 1 << 15 | len(row) << 17, 2 | 2 << 15)
    page[8144 : 8144 + len(row)] = row
    return bytes(page)


def test_a_heap_page() -> None:
    page = heap_page()
    header = page_header(page)
    assert header.lsn == 0x1_016B3748
    assert header.flag_names == ["ALL_VISIBLE"]
    first, second = page_items(page)
    assert (first.state, second.redirect_to) == ("normal", 2)
    row = heap_tuple(first.data)
    assert row is not None
    assert (row.xmin, row.ctid, row.data) == (700, (3, 1), b"hello")
    assert row.flag_names == ["HASVARWIDTH", "XMIN_COMMITTED", "XMAX_INVALID"]
    lines = list(page_lines(page))
    assert lines[0].startswith("lsn 1/16B3748, ")
    assert lines[1] == "heap page"
    assert "|hello|" in lines[2]
    assert lines[3].split() == ["2", "redirect", "->", "2"]


def test_a_new_page_has_no_items() -> None:
    assert list(page_lines(bytes(8192))) == ["new page (never written)"]
    assert list(hex_lines(bytes(8192)))[1:] == ["*", "00002000"]


@given(st.binary(min_size=64, max_size=64), st.binary(min_size=16, max_size=16))
def test_any_bytes_can_be_shown(head: bytes, tail: bytes) -> None:
    page = head + bytes(8192 - len(head) - len(tail)) + tail
    assert list(page_lines(page))
    assert len(page_items(page)) <= 2042
