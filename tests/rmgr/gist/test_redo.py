"""The rules of GiST: what differs by version."""

from __future__ import annotations

from struct import pack, unpack_from
from types import ModuleType

import pytest

from tests.redo.rules.pages import items_of, page_lsn, page_of
from tests.redo.rules.requests import END_LSN, redo, tag
from tests.support.walgen import Block
from walstream.errors import RedoError, UnsupportedRecord
from walstream.wal.model import PageImage

GIST = 14
LEAF, DELETED, TUPLES_DELETED, FOLLOW_RIGHT, HAS_GARBAGE = 1, 2, 4, 8, 16


def index_tuple(number: int) -> bytes:
    return pack("<HHHHQ", 0, 7, number, 16, number)


def gist_page(count: int, flags: int) -> bytes:
    """A page with tuples numbered from 1."""
    special = pack("<QIHH", 0, 0xFFFFFFFF, flags, 0xFF81)
    return page_of(special, map(index_tuple, range(1, count + 1)))


def numbers_of(page: bytes) -> list[int]:
    return [unpack_from("<Q", item, 8)[0] for item in items_of(page)]


def flags_of(page: bytes) -> int:
    flags, page_id = unpack_from("<HH", page, 8188)
    assert page_id == 0xFF81
    return int(flags)


@pytest.mark.parametrize("version", [14, 15, 16, 17, 18])
def test_delete_removes_dead_tuples(build: ModuleType, version: int) -> None:
    """From 16 a catalog flag, with a pad byte, stands before the offset numbers."""
    main = pack("<IH", 700, 3) + (b"\1\0" if version >= 16 else b"") + pack("<HHH", 1, 4, 5)
    page = gist_page(6, LEAF | HAS_GARBAGE)
    new = redo(build, version, page, 3, GIST, 0x10, [Block(0, tag(3))], main)
    assert numbers_of(new) == [2, 3, 6]
    assert flags_of(new) == LEAF | TUPLES_DELETED


@pytest.mark.parametrize(("op", "block_id"), [(0x00, 1), (0x30, 0)])
@pytest.mark.parametrize("version", [14, 18])
def test_an_image_still_follows_right(
    build: ModuleType, version: int, op: int, block_id: int
) -> None:
    """The left half of a split has the flag in its image; redo clears it and stamps the NSN."""
    image = PageImage(gist_page(2, LEAF | FOLLOW_RIGHT), 0, 0, 0, True)
    blocks = [Block(block_id, tag(3), b"", image)]
    new = redo(build, version, None, 3, GIST, op, blocks, bytes(24))
    assert flags_of(new) == LEAF
    assert unpack_from("<II", new, 8176) == (END_LSN >> 32, END_LSN & 0xFFFFFFFF)
    assert page_lsn(new) == END_LSN


def test_an_image_of_another_block_is_left_alone(build: ModuleType) -> None:
    page = gist_page(2, LEAF | FOLLOW_RIGHT)
    blocks = [Block(0, tag(3), b"", PageImage(page, 0, 0, 0, True))]
    new = redo(build, 15, None, 3, GIST, 0x00, blocks, bytes(4))
    assert new[8:] == page[8:]


@pytest.mark.parametrize(
    ("block", "mark", "right", "flags"),
    [
        (3, 1, 4, LEAF | FOLLOW_RIGHT),
        (4, 1, 5, LEAF | FOLLOW_RIGHT),
        (5, 1, 77, LEAF),
        (3, 0, 4, LEAF),
    ],
)
def test_pages_of_a_split_are_linked(
    build: ModuleType, block: int, mark: int, right: int, flags: int
) -> None:
    """All but the last follow right; the last one gets the right link of the page that split."""
    main = pack("<IxxxxQBxHB", 77, 0x1_0000_0001, 1, 3, mark)
    tuples = pack("<I", 2) + index_tuple(1) + index_tuple(2)
    blocks = [
        Block(id, tag(number), tuples, will_init=True) for id, number in enumerate((3, 4, 5), 1)
    ]
    new = redo(build, 15, None, block, GIST, 0x30, blocks, main)
    assert numbers_of(new) == [1, 2]
    assert unpack_from("<III", new, 8176) == (1, 1, right)
    assert flags_of(new) == flags


def test_a_split_root_is_no_leaf_and_nothing_follows_right(build: ModuleType) -> None:
    main = pack("<IxxxxQBxHB", 0xFFFFFFFF, 5, 1, 2, 1)
    tuples = pack("<I", 1) + index_tuple(1)
    blocks = [Block(1, tag(0), tuples, will_init=True), Block(2, tag(9), tuples, will_init=True)]
    root = redo(build, 15, None, 0, GIST, 0x30, blocks, main)
    assert (unpack_from("<I", root, 8184)[0], flags_of(root)) == (0xFFFFFFFF, 0)
    left = redo(build, 15, None, 9, GIST, 0x30, blocks, main)
    assert (unpack_from("<I", left, 8184)[0], flags_of(left)) == (0xFFFFFFFF, LEAF)


def test_a_deleted_page_keeps_the_xid(build: ModuleType) -> None:
    main = pack("<QH", 0x5_0000_0321, 2)
    blocks = [Block(0, tag(3)), Block(1, tag(4))]
    new = redo(build, 15, gist_page(0, LEAF), 3, GIST, 0x60, blocks, main)
    assert (unpack_from("<H", new, 12)[0], unpack_from("<Q", new, 24)[0]) == (32, 0x5_0000_0321)
    assert flags_of(new) == LEAF | DELETED
    parent = redo(build, 15, gist_page(3, 0), 4, GIST, 0x60, blocks, main)
    assert numbers_of(parent) == [1, 3]
    with pytest.raises(RedoError, match="a page with tuples is deleted"):
        redo(build, 15, gist_page(1, LEAF), 3, GIST, 0x60, blocks, main)


@pytest.mark.parametrize("op", [0x20, 0x40, 0x50, 0x70, 0xF0])
def test_other_operations_are_unsupported(build: ModuleType, op: int) -> None:
    with pytest.raises(UnsupportedRecord, match="unknown Gist operation"):
        redo(build, 15, gist_page(1, 0), 3, GIST, op, [Block(0, tag(3), b"x")], b"")
