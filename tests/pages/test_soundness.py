"""What is told of pages that are not sound."""

from __future__ import annotations

from collections.abc import Callable
from struct import pack_into

import pytest
from hypothesis import given
from hypothesis import strategies as st

from walstream.pages.soundness import BtreeLinks, btree_links, page_faults, tree_faults
from walstream.redo.rules.checksum import with_checksum
from walstream.wal.model import BLCKSZ

HEAP = [b"\x02\0\0\0" + bytes(14) + b"\x02\0\0\x08\x18" + bytes(9)] * 3


def page(items: list[bytes], special: bytes = b"") -> bytearray:
    """A page with these tuples."""
    data = bytearray(BLCKSZ)
    at = BLCKSZ - len(special)
    data[at:] = special
    pack_into("<HHHH", data, 12, 24 + 4 * len(items), 0, at, 0x2004)
    for i, item in enumerate(items):
        at -= len(item) + 7 & ~7
        data[at : at + len(item)] = item
        pack_into("<I", data, 24 + 4 * i, at | 1 << 15 | len(item) << 17)
    pack_into("<H", data, 14, at)
    return data


def leaf(before: int, after: int, *, level: int = 0, flags: int = 1, items: int = 3) -> bytearray:
    special = bytearray(16)
    pack_into("<IIIHH", special, 0, before, after, level, flags, 0)
    rows = [pointer(0, i + 1, i) for i in range(items)]
    return page(rows, bytes(special))


def pointer(block: int, offset: int, key: int) -> bytes:
    data = bytearray(16)
    pack_into("<HHHHQ", data, 0, block >> 16, block & 0xFFFF, offset, 16, key)
    return bytes(data)


def put(at: int, *values: int) -> Callable[[bytearray], None]:
    def change(data: bytearray) -> None:
        data[at : at + len(values)] = bytes(values)

    return change


def line_pointer(number: int, offset: int, state: int, length: int) -> Callable[[bytearray], None]:
    value = offset | state << 15 | length << 17
    return put(20 + 4 * number, *value.to_bytes(4, "little"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (put(18, 3), "pd_pagesize_version: expected 2004, got 2003"),
        (put(10, 8), "pd_flags: 0x0008 has unknown bits"),
        (put(12, 0, 0), "do not fit"),
        (put(14, 0xFF, 0xFF), "do not fit"),
        (line_pointer(1, 8184, 1, 32), "bytes 8184 to 8216 are outside"),
        (line_pointer(1, 8161, 1, 31), "are outside"),
        (line_pointer(1, 0, 1, 0), "line pointer 1: has no tuple"),
        (line_pointer(2, 8160, 1, 32), "its tuple lies over that of"),
        (line_pointer(2, 9, 2, 0), "redirects to 9, which is no tuple"),
        (line_pointer(2, 8000, 0, 40), "is unused, and has 40 bytes"),
        (put(8160 + 22, 60), "t_hoff 60"),
        (line_pointer(1, 8160, 1, 20), "too short"),
    ],
)
def test_heap_pages(change: Callable[[bytearray], None], said: str) -> None:
    data = page(HEAP)
    assert page_faults(with_checksum(bytes(data), 7), 0, 7, checksums=True) == []
    change(data)
    assert said in "; ".join(page_faults(bytes(data), 0, 7, checksums=False))
    assert "checksum: expected" in page_faults(bytes(data), 0, 7, checksums=True)[0]


def test_new_pages_and_maps() -> None:
    assert page_faults(bytes(BLCKSZ), 0, 3, checksums=True) == []
    assert "not all zeros" in page_faults(b"\1" + bytes(BLCKSZ - 1), 0, 3, checksums=True)[0]
    assert page_faults(bytes(page([])), 2, 0, checksums=False) == []


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (leaf(0, 0, level=1), "level 1 of a leaf page"),
        (leaf(5, 0), "is a sibling of its own"),
        (leaf(0, 9, items=0), "has a right sibling, and no high key"),
        (page([pointer(0, 0, 1)], bytes(leaf(0, 0)[-16:])), "points to no row"),
        (page([pointer(0, 1, 1) + bytes(8)], bytes(leaf(0, 0)[-16:])), "its size is 16"),
        (leaf(0, 0, level=1, flags=0), "the first downlink has a key"),
    ],
)
def test_btree_pages(data: bytearray, said: str) -> None:
    assert said in "; ".join(page_faults(bytes(data), 0, 5, checksums=False))


def test_trees() -> None:
    def links(
        before: int, after: int, level: int = 0, flags: int = 1, *children: int
    ) -> BtreeLinks:
        return BtreeLinks(before, after, level, flags, children)

    sound = {
        0: links(0, 0, 1, 8, 3),
        1: links(0, 2),
        2: links(1, 4),
        3: links(0, 0, 1, 2, 1, 2, 4),
        4: links(2, 0),
        5: links(1, 2, 0, 4),
    }
    assert list(tree_faults(sound, 6)) == []
    assert list(tree_faults({1: sound[1]}, 6)) == []
    for block, wrong, told in (
        (2, links(4, 4), 1),
        (2, links(1, 4, 1, 0), 1),
        (4, links(2, 0, 0, 4), 2),
        (4, links(2, 9), 4),
        (3, links(0, 0, 1, 2, 1, 2, 7), 3),
        (3, links(0, 0, 2, 2, 1, 2, 4), 3),
        (3, links(0, 0, 1, 0, 1, 2, 4), 0),
    ):
        assert told in {each for each, _ in tree_faults({**sound, block: wrong}, 6)}, wrong


@given(st.lists(st.tuples(st.integers(0, BLCKSZ - 1), st.integers(0, 255)), max_size=40))
def test_any_bytes_are_looked_at(changes: list[tuple[int, int]]) -> None:
    for data in (page(HEAP), leaf(1, 2), leaf(1, 2, level=1, flags=2)):
        for at, value in changes:
            data[at] = value
        page_faults(bytes(data), 0, 0, checksums=False)
        btree_links(bytes(data))
