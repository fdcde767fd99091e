"""The rules of B-trees: hand-made records."""

from __future__ import annotations

from struct import pack, unpack_from
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.redo.rules.pages import empty_page, items_of, page_lsn, page_of
from tests.redo.rules.requests import END_LSN, redo, tag
from tests.support.walgen import Block
from walstream.errors import RedoError, UnsupportedRecord

BTREE = 11


def tid(block: int, offset: int) -> bytes:
    return pack("<HHH", block >> 16, block & 0xFFFF, offset)


def plain(heap_tid: bytes, key: bytes) -> bytes:
    """A leaf tuple; ``key`` is a multiple of 8 bytes."""
    return heap_tid + pack("<H", 8 + len(key)) + key


def posting(heap_tids: list[bytes], key: bytes) -> bytes:
    size = 8 + len(key) + (len(heap_tids) * 6 + 7) // 8 * 8
    start = 8 + len(key)
    head = tid(start, 0x2000 | len(heap_tids)) + pack("<H", 0x2000 | size)
    return (head + key + b"".join(heap_tids)).ljust(size, b"\0")


def leaf(items: list[bytes], *, right: int = 0, flags: int = 0x01, cycle: int = 0) -> bytes:
    """A leaf page that got these tuples one after the other."""
    return page_of(pack("<IIIHH", 0, right, 0, flags, cycle), items)


KEY = b"k" * 8
TIDS = [tid(7, number) for number in (1, 3, 5, 7, 9)]


@pytest.mark.parametrize("version", [14, 18])
def test_a_new_tuple_takes_its_place_inside_a_posting_list(build: ModuleType, version: int) -> None:
    page = leaf([posting(TIDS, KEY), plain(tid(8, 1), b"z" * 8)])
    data = pack("<H", 2) + plain(tid(7, 4), KEY)
    block = Block(0, tag(3), data)
    new = redo(build, version, page, 3, BTREE, 0x50, [block], pack("<H", 2))
    swapped = [TIDS[0], TIDS[1], tid(7, 4), TIDS[2], TIDS[3]]
    assert items_of(new) == [posting(swapped, KEY), plain(TIDS[4], KEY), plain(tid(8, 1), b"z" * 8)]
    assert page_lsn(new) == END_LSN


@pytest.mark.parametrize("place", [0, 5])
def test_a_posting_list_is_split_inside_only(build: ModuleType, place: int) -> None:
    page = leaf([posting(TIDS, KEY)])
    block = Block(0, tag(3), pack("<H", place) + plain(tid(7, 4), KEY))
    with pytest.raises(RedoError, match=f"cannot be split at {place}"):
        redo(build, 15, page, 3, BTREE, 0x50, [block], pack("<H", 2))


@pytest.mark.parametrize(("op", "first_right"), [(0x30, 4), (0x30, 3), (0x40, 3)])
def test_a_page_splits_while_a_posting_list_does(
    build: ModuleType, op: int, first_right: int
) -> None:
    """The new tuple goes left (SPLIT_L) or is first right (SPLIT_R); the list changes."""
    first = plain(tid(1, 1), b"a" * 8)
    last = plain(tid(9, 9), b"y" * 8)
    page = leaf([first, posting(TIDS, KEY), last], flags=0x41, cycle=9)
    high_key = plain(tid(0, 1), b"x" * 8)
    data = plain(tid(7, 2), KEY) + high_key
    blocks = [Block(0, tag(3), data), Block(1, tag(4), b"", will_init=True)]
    new = redo(build, 16, page, 3, BTREE, op, blocks, pack("<IHHH", 0, first_right, 3, 1))
    swapped = [TIDS[0], tid(7, 2), TIDS[1], TIDS[2], TIDS[3]]
    wanted = [high_key, first, posting(swapped, KEY)]
    if op == 0x30:
        wanted.append(plain(TIDS[4], KEY))
    if first_right == 4:
        wanted.append(last)
    assert items_of(new) == wanted
    assert unpack_from("<IIIHH", new, 8176) == (0, 4, 0, 0x81, 0)


@pytest.mark.parametrize("version", [14, 15, 16, 17, 18])
def test_posting_lists_lose_heap_tids(build: ModuleType, version: int) -> None:
    """One becomes a plain tuple, one shorter. DELETE of 16 and later has one byte more."""
    page = leaf([posting(TIDS, KEY), posting(TIDS[:2], KEY), plain(tid(9, 9), KEY)], flags=0x41)
    block = Block(0, tag(3), pack("<HHH", 3, 1, 2) + pack("<HHHH", 3, 0, 2, 4) + pack("<HH", 1, 0))
    main = pack("<IHH", 700, 1, 2) + (b"\1" if version >= 16 else b"")
    new = redo(build, version, page, 3, BTREE, 0x70, [block], main)
    assert items_of(new) == [posting([TIDS[1], TIDS[3]], KEY), plain(TIDS[1], KEY)]
    assert unpack_from("<H", new, 8188)[0] == 0x01


def test_vacuum_clears_the_cycle_id_and_delete_does_not(build: ModuleType) -> None:
    page = leaf([plain(tid(1, 1), KEY), plain(tid(1, 2), KEY)], cycle=77)
    block = Block(0, tag(3), pack("<H", 2))
    deleted = redo(build, 15, page, 3, BTREE, 0x70, [block], pack("<IHH", 700, 1, 0))
    vacuumed = redo(build, 15, page, 3, BTREE, 0xC0, [block], pack("<HH", 1, 0))
    assert items_of(deleted) == items_of(vacuumed) == [plain(tid(1, 1), KEY)]
    assert unpack_from("<H", deleted, 8190)[0] == 77
    assert unpack_from("<H", vacuumed, 8190)[0] == 0


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=25),
    groups=st.lists(st.integers(1, 4), min_size=25, max_size=25),
    right=st.sampled_from((0, 12)),
)
def test_intervals_become_posting_lists(
    build: ModuleType, sizes: list[int], groups: list[int], right: int
) -> None:
    """Against lists: tuples of one key, plain or posting, merged where an interval says so."""
    numbers = iter(range(1, 10_000))
    lists = [[tid(5, next(numbers)) for _ in range(size)] for size in sizes]
    tuples = [plain(tids[0], KEY) if len(tids) == 1 else posting(tids, KEY) for tids in lists]
    key = [plain(tid(0, 1), b"h" * 8)] if right else []
    page = leaf(key + tuples, right=right, flags=0x41)
    wanted = list(key)
    intervals = b""
    at = 0
    for group in groups:
        part = lists[at : at + group]
        if not part:
            break
        if len(part) > 1:
            intervals += pack("<HH", len(key) + at + 1, len(part))
            wanted.append(posting([heap_tid for tids in part for heap_tid in tids], KEY))
        else:
            wanted.append(tuples[at])
        at += group
    main = pack("<H", len(intervals) // 4)
    new = redo(build, 15, page, 3, BTREE, 0x60, [Block(0, tag(3), intervals)], main)
    assert items_of(new) == wanted + tuples[at:]
    assert unpack_from("<IIIHH", new, 8176) == (0, right, 0, 0x01, 0)


def test_the_downlink_of_a_half_dead_leaf_moves_on(build: ModuleType) -> None:
    parent = leaf([plain(tid(40 + i, 1), bytes([i]) * 8) for i in range(4)], flags=0)
    main = pack("<HxxIIII", 2, 41, 40, 42, 0xFFFFFFFF)
    blocks = [Block(0, tag(41), will_init=True), Block(1, tag(3))]
    new = redo(build, 15, parent, 3, BTREE, 0xB0, blocks, main)
    assert items_of(new) == [
        plain(tid(40, 1), bytes([0]) * 8),
        plain(tid(42, 1), bytes([1]) * 8),
        plain(tid(43, 1), bytes([3]) * 8),
    ]
    dead = redo(build, 15, None, 41, BTREE, 0xB0, blocks, main)
    assert unpack_from("<IIIHH", dead, 8176) == (40, 42, 0, 0x11, 0)
    assert items_of(dead) == [tid(0xFFFFFFFF, 0) + pack("<H", 0x2008)]


def test_tuples_that_overrun_their_data_are_refused(build: ModuleType) -> None:
    """_bt_restore_page would copy bytes from behind the record."""
    tuples = plain(tid(1, 1), KEY) + tid(1, 2) + pack("<H", 0x1FF0)
    blocks = [Block(0, tag(3), b"x" * 8), Block(1, tag(4), tuples, will_init=True)]
    with pytest.raises(RedoError, match="invalid length 8176 of an index tuple: 8 bytes are left"):
        redo(build, 15, None, 4, BTREE, 0x40, blocks, pack("<IHHH", 0, 2, 2, 0))


def test_what_has_no_rule_is_unsupported(build: ModuleType) -> None:
    page = leaf([])
    with pytest.raises(UnsupportedRecord, match="unknown operation 0xf0"):
        redo(build, 15, page, 3, BTREE, 0xF0, [Block(0, tag(3))], b"")
    with pytest.raises(RedoError, match="does not change block 0"):
        redo(build, 15, page, 3, BTREE, 0xD0, [Block(0, tag(3))], bytes(28))


def test_a_page_of_something_else_is_refused(build: ModuleType) -> None:
    heap = bytes(empty_page(b""))
    with pytest.raises(RedoError, match="pd_special 8176, got 8192"):
        redo(build, 15, heap, 3, BTREE, 0xC0, [Block(0, tag(3))], pack("<HH", 0, 0))
