"""Page editing by itself, where no record of the vectors reaches it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.pure import load
from walstream.errors import RedoError

PAGE: Any = load("walstream.redo.rules.page", {})


def fresh(special: int = 16) -> bytearray:
    page = bytearray(b"\xaa" * 8192)
    PAGE.page_init(page, special)
    return page


def filled(sizes: list[int], special: int = 16) -> bytearray:
    page = fresh(special)
    for number, size in enumerate(sizes):
        PAGE.add_item(page, bytes([number % 251]) * size, 0, size, 0, 0)
    return page


def items(page: bytearray) -> list[bytes]:
    found = []
    for number in range(1, PAGE.max_offset(page) + 1):
        line = PAGE.item_id(page, number)
        at = line & 0x7FFF
        found.append(bytes(page[at : at + (line >> 17)]))
    return found


def test_init() -> None:
    page = fresh(12)
    assert page[12:20] == b"\x18\0\xf0\x1f\xf0\x1f\x04\x20"
    assert not any(page[20:])


def test_an_item_takes_the_first_unused_line_pointer_where_the_hint_says_so() -> None:
    page = filled([8, 8, 8])
    PAGE.index_delete_no_compact(page, 2)
    assert PAGE.add_item(bytearray(page), b"x", 0, 1, 0, 0) == 4
    page[10] |= 1
    assert PAGE.add_item(page, b"x", 0, 1, 0, 0) == 2
    assert items(page)[1] == b"x"
    # No unused one is left: the hint was wrong and goes.
    assert PAGE.add_item(page, b"y", 0, 1, 0, 0) == 4
    assert not page[10] & 1


def test_an_item_between_others_moves_their_line_pointers() -> None:
    page = filled([8, 16])
    assert PAGE.add_item(page, b"new item", 0, 8, 2, 0) == 2
    assert items(page) == [bytes(8), b"new item", b"\1" * 16]


@pytest.mark.parametrize(
    ("size", "offset", "flags", "message"),
    [
        (8, 2, 1, "will not overwrite a used line pointer: 2"),
        (8, 5, 0, "specified item offset is too large: 5, page has 3"),
        (8130, 0, 0, "no room for an item of 8130 bytes"),
        (9000, 0, 0, "no room for an item of 9000 bytes"),
    ],
)
def test_refused_items(size: int, offset: int, flags: int, message: str) -> None:
    with pytest.raises(RedoError, match=message):
        PAGE.add_item(filled([8, 8, 8]), bytes(size), 0, size, offset, flags)


def test_a_heap_page_has_at_most_291_items() -> None:
    page = filled([0] * 291, 0)
    with pytest.raises(RedoError, match="more than 291"):
        PAGE.add_item(page, b"", 0, 0, 292, 3)


SIZES = st.lists(st.integers(1, 100), min_size=1, max_size=60)


@settings(max_examples=60)
@given(SIZES, st.data())
def test_deleting_many_leaves_the_others(sizes: list[int], data: st.DataObject) -> None:
    page = filled(sizes)
    before = items(page)
    gone = sorted(data.draw(st.sets(st.integers(1, len(sizes)))))
    numbers = b"".join(number.to_bytes(2, "little") for number in gone)
    singly = bytearray(page)
    PAGE.index_multi_delete(page, numbers, 0, len(gone))
    for number in reversed(gone):
        PAGE.index_tuple_delete(singly, number)
    kept = [item for number, item in enumerate(before, 1) if number not in gone]
    assert items(page) == items(singly) == kept
    assert page[:24] == singly[:24]
    PAGE.check_aligned(page)


@settings(max_examples=60)
@given(SIZES, st.data())
def test_overwriting_keeps_the_others(sizes: list[int], data: st.DataObject) -> None:
    page = filled(sizes)
    number = data.draw(st.integers(1, len(sizes)))
    new = b"\xfe" * data.draw(st.integers(1, 200))
    expected = items(page)
    expected[number - 1] = new
    PAGE.index_tuple_overwrite(page, number, new, 0, len(new))
    assert items(page) == expected


@settings(max_examples=60)
@given(SIZES, st.data())
def test_repair_closes_all_gaps(sizes: list[int], data: st.DataObject) -> None:
    page = filled(sizes, 0)
    kept = items(page)
    for number in data.draw(st.sets(st.integers(1, len(sizes)))):
        PAGE.set_item_id(page, number, 0, 0, 0)
        kept[number - 1] = b""
    PAGE.repair_fragmentation(page, True)
    while kept and not kept[-1]:
        kept.pop()
    assert items(page) == kept
    used = sum((len(item) + 7) & ~7 for item in kept)
    assert int.from_bytes(page[14:16], "little") == 8192 - used
    assert bool(page[10] & 1) == (b"" in kept)


def test_truncation_keeps_the_first_line_pointer() -> None:
    page = filled([8, 8, 8], 0)
    for number in (1, 2, 3):
        PAGE.set_item_id(page, number, 0, 0, 0)
    PAGE.truncate_line_pointers(page)
    assert PAGE.max_offset(page) == 1
    assert page[10] & 1


def test_a_page_with_wrong_pointers_is_refused() -> None:
    for at, value in ((12, 20), (12, 8000), (14, 8190), (16, 9000)):
        page = filled([600, 600])
        page[at : at + 2] = value.to_bytes(2, "little")
        for edit in ("index_tuple_delete", "repair_fragmentation", "index_delete_no_compact"):
            with pytest.raises(RedoError, match="corrupted page pointers"):
                getattr(PAGE, edit)(page, 1)
