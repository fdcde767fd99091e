"""The rules of GIN: posting tree leaves against lists."""

from __future__ import annotations

from itertools import pairwise
from struct import pack, pack_into, unpack_from
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.redo.builds import INSTALLED, UNCOMPILED
from tests.redo.rules.pages import empty_page
from tests.redo.rules.requests import redo, tag
from tests.support.walgen import Block
from walstream.errors import RedoError, UnsupportedRecord

GIN = 13
Item = tuple[int, int]


def plain(items: list[Item]) -> bytes:
    return b"".join(pack("<HHH", block >> 16, block & 0xFFFF, offset) for block, offset in items)


def segment(items: list[Item]) -> bytes:
    """Encodes items as ginCompressPostingList does."""
    numbers = [block << 11 | offset for block, offset in items]
    data = bytearray()
    for before, number in pairwise(numbers):
        delta = number - before
        while delta > 0x7F:
            data.append(0x80 | delta & 0x7F)
            delta >>= 7
        data.append(delta)
    return plain(items[:1]) + pack("<H", len(data)) + data + bytes(len(data) & 1)


def data_leaf(content: bytes, *, flags: int = 0x83, maxoff: int = 0) -> bytes:
    """A posting tree leaf with these segments; flag 0x80 says that they are compressed."""
    page = empty_page(pack("<IHH", 0xFFFFFFFF, maxoff, flags))
    page[32 : 32 + len(content)] = content
    pack_into("<H", page, 12, 32 + len(content) if flags & 0x80 else 32)
    return bytes(page)


def recompress(build: ModuleType, page: bytes, count: int, actions: bytes) -> bytes:
    """Applies a VACUUM_DATA_LEAF_PAGE record with these segment actions."""
    block = Block(0, tag(3), pack("<H", count) + actions)
    return redo(build, 15, page, 3, GIN, 0x90, [block], b"")


def segments_of(page: bytes) -> bytes:
    return page[32 : unpack_from("<H", page, 12)[0]]


ITEMS = st.lists(
    st.tuples(st.integers(0, 2**32 - 2) | st.integers(0, 300), st.integers(1, 2047)),
    min_size=1,
    max_size=40,
    unique=True,
).map(sorted)


@settings(max_examples=80, deadline=None)
@given(st.lists(ITEMS, min_size=1, max_size=5), st.data())
def test_segment_actions_against_lists(segments: list[list[Item]], data: st.DataObject) -> None:
    """Delete, insert, replace and add items; an item that is there already is kept once."""
    wanted = []
    actions = bytearray()
    count = 0
    for number, items in enumerate(segments):
        kind = data.draw(st.sampled_from((0, 1, 2, 3, 4)))
        if kind == 0:
            wanted.append(items)
            continue
        new = data.draw(ITEMS) if kind >= 2 else []
        count += 1
        actions += bytes((number, kind))
        if kind == 4:
            actions += pack("<H", len(new)) + plain(new)
            wanted.append(sorted({*items, *new}))
        elif kind >= 2:
            actions += segment(new)
            wanted.append(new)
        if kind == 2:
            wanted.append(items)
    page = data_leaf(b"".join(map(segment, segments)))
    for build in (INSTALLED, UNCOMPILED):
        new_page = recompress(build, page, count, bytes(actions))
        assert segments_of(new_page) == b"".join(map(segment, wanted))


def test_a_leaf_of_before_9_4_is_compressed_first(build: ModuleType) -> None:
    items = [(block, offset) for block in (3, 70000) for offset in range(1, 200)]
    page = data_leaf(plain(items), flags=0x03, maxoff=len(items))
    new = recompress(build, page, 1, bytes((0, 4, 1, 0)) + plain([(4, 5)]))
    assert segments_of(new) == segment(sorted([*items, (4, 5)]))
    assert unpack_from("<HH", new, 8188) == (0, 0x83)


def test_segments_that_cannot_be_are_refused(build: ModuleType) -> None:
    full = b"".join(segment([(number, 1)]) for number in range(1019))
    with pytest.raises(RedoError, match="no room"):
        recompress(build, data_leaf(full), 1, bytes((0, 2)) + segment([(2000, 1)]))
    one = data_leaf(segment([(1, 1)]))
    many = [(number * 9, 1) for number in range(10000)]
    with pytest.raises(RedoError, match="no room"):
        recompress(build, one, 1, bytes((0, 4)) + pack("<H", len(many)) + plain(many))
    with pytest.raises(RedoError, match="cut short"):
        recompress(build, one, 1, bytes((7, 1)))
    with pytest.raises(RedoError, match="out of order"):
        recompress(build, one, 1, bytes((0, 4, 2, 0)) + plain([(5, 1), (4, 1)]))
    with pytest.raises(RedoError, match="unexpected GIN leaf action: 9"):
        recompress(build, one, 1, bytes((0, 9)))
    with pytest.raises(RedoError, match="wrong kind of GIN page"):
        recompress(build, data_leaf(b"", flags=0x02), 0, b"")


@pytest.mark.parametrize("op", [0x30, 0x40])
def test_pages_that_travel_as_images_need_them(build: ModuleType, op: int) -> None:
    with pytest.raises(RedoError, match="full-page image"):
        redo(build, 15, data_leaf(b""), 3, GIN, op, [Block(0, tag(3), b"")], bytes(26))


@pytest.mark.parametrize("op", [0x00, 0xA0, 0xF0])
def test_other_operations_are_unsupported(build: ModuleType, op: int) -> None:
    with pytest.raises(UnsupportedRecord, match="unknown Gin operation"):
        redo(build, 15, data_leaf(b""), 3, GIN, op, [Block(0, tag(3), b"x")], b"")
