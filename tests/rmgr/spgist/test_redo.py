"""The rules of SP-GiST: what differs by version."""

from __future__ import annotations

from struct import pack, unpack_from
from types import ModuleType

import pytest

from tests.redo.rules.pages import items_of, page_of
from tests.redo.rules.requests import redo, tag
from tests.support.walgen import Block
from walstream.errors import RedoError, UnsupportedRecord

SPGIST = 16
LIVE, REDIRECT, DEAD, PLACEHOLDER = range(4)
NOWHERE = (0xFFFF, 0xFFFF, 0)


def short(
    state: int, *, next_offset: int = 0, to: tuple[int, int, int] = NOWHERE, xid: int = 0
) -> bytes:
    """A tuple of 16 bytes: a leaf tuple, or what stands in the place of one."""
    return pack("<IHHHHI", state | 16 << 2, next_offset, *to, xid)


def inner(*nodes: tuple[int, int, int]) -> bytes:
    """An inner tuple without prefix and with these downlinks."""
    return pack("<IHxx", len(nodes) << 3, 8 + 16 * len(nodes)) + b"".join(
        pack("<HHHHQ", *node, 16, 0) for node in nodes
    )


def spgist_page(*tuples: bytes, flags: int = 4, redirects: int = 0, placeholders: int = 0) -> bytes:
    return page_of(pack("<HHHH", flags, redirects, placeholders, 0xFF82), tuples)


def counts_of(page: bytes) -> tuple[int, int]:
    redirects, placeholders = unpack_from("<HH", page, 8186)
    return int(redirects), int(placeholders)


@pytest.mark.parametrize("version", [14, 15, 16, 17, 18])
def test_redirects_become_placeholders(build: ModuleType, version: int) -> None:
    """From 16 a catalog flag, with a pad byte, stands before the offset numbers."""
    moved = short(REDIRECT, to=(0, 9, 4), xid=700)
    live = short(LIVE, to=(0, 1, 1))
    page = spgist_page(live, moved, live, moved, short(PLACEHOLDER), redirects=2, placeholders=1)
    main = pack("<HHI", 2, 4, 700) + (b"\0\0" if version >= 16 else b"") + pack("<HH", 2, 4)
    new = redo(build, version, page, 3, SPGIST, 0x80, [Block(0, tag(3))], main)
    assert items_of(new) == [live, short(PLACEHOLDER, xid=700), live]
    assert counts_of(new) == (0, 1)


def test_a_chain_is_replaced_by_a_redirect(build: ModuleType) -> None:
    """The first offset number listed, not the lowest, becomes the redirect."""
    live = short(LIVE, to=(0, 1, 1))
    page = spgist_page(*[live] * 5)
    main = pack("<HBBBxHHxxIBxxx", 3, 0, 0, 0, 1, 0, 731, 0) + pack("<HHH", 4, 1, 3)
    main += pack("<HHHH", 1, 2, 3, 7) + live * 4
    blocks = [Block(0, tag(3)), Block(1, tag(0x20005)), Block(2, tag(9))]
    new = redo(build, 15, page, 3, SPGIST, 0x20, blocks, main)
    gone, redirect = short(PLACEHOLDER), short(REDIRECT, to=(2, 5, 7), xid=731)
    assert items_of(new) == [gone, live, gone, redirect, live]
    assert counts_of(new) == (1, 2)
    parent = spgist_page(inner((0, 3, 4), NOWHERE), flags=0)
    linked = redo(build, 15, parent, 9, SPGIST, 0x20, blocks, main)
    assert items_of(linked) == [inner((2, 5, 7), NOWHERE)]


def test_a_leaf_tuple_takes_the_place_of_a_placeholder(build: ModuleType) -> None:
    head = short(LIVE, next_offset=0x8000, to=(0, 1, 1))
    page = spgist_page(head, short(PLACEHOLDER), placeholders=1)
    new_tuple = short(LIVE, to=(0, 2, 2))
    main = pack("<BBHHHH", 0, 0, 2, 1, 0, 0) + new_tuple
    new = redo(build, 15, page, 3, SPGIST, 0x10, [Block(0, tag(3))], main)
    assert items_of(new) == [short(LIVE, next_offset=0x8002, to=(0, 1, 1)), new_tuple]
    assert counts_of(new) == (0, 0)
    taken = spgist_page(head, head)
    with pytest.raises(RedoError, match="tuple 2 to be replaced is not a placeholder"):
        redo(build, 15, taken, 3, SPGIST, 0x10, [Block(0, tag(3))], main)


def test_downlinks_that_cannot_be_are_refused(build: ModuleType) -> None:
    def add_leaf(parent: bytes, offset: int, node: int) -> None:
        main = pack("<BBHHHH", 0, 0, 2, 0, offset, node) + short(LIVE)
        blocks = [Block(0, tag(3)), Block(1, tag(9))]
        redo(build, 15, spgist_page(parent, flags=0), 9, SPGIST, 0x10, blocks, main)

    two = inner(NOWHERE, NOWHERE)
    add_leaf(two, 1, 1)
    with pytest.raises(RedoError, match="no node 2 in inner tuple 1: it has 2"):
        add_leaf(two, 1, 2)
    with pytest.raises(RedoError, match="ends in node 1 of 2"):
        add_leaf(two[:-16], 1, 1)
    with pytest.raises(RedoError, match="invalid offset number 2"):
        add_leaf(two, 2, 0)


@pytest.mark.parametrize("numbers", [(1, 1), (0, 1), (1, 6)])
def test_offset_numbers_that_cannot_be_are_refused(
    build: ModuleType, numbers: tuple[int, int]
) -> None:
    page = spgist_page(*[short(LIVE)] * 5)
    main = pack("<HHHHIBxxx", 2, 0, 0, 0, 0, 0) + pack("<HH", *numbers)
    with pytest.raises(RedoError, match=r"listed twice|invalid offset number"):
        redo(build, 15, page, 3, SPGIST, 0x60, [Block(0, tag(3))], main)


@pytest.mark.parametrize("op", [0x00, 0x90, 0xF0])
def test_other_operations_are_unsupported(build: ModuleType, op: int) -> None:
    with pytest.raises(UnsupportedRecord, match="unknown SPGist operation"):
        redo(build, 15, spgist_page(), 3, SPGIST, op, [Block(0, tag(3), b"x")], b"")
