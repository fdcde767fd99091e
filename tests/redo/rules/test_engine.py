"""What the engine does around the rules: order, skipping, bases, errors."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.redo.vectors import RedoCase, redo_cases
from walstream.errors import RecordError, RedoError, RedoProtocolError, UnsupportedRecord
from walstream.redo.rules.engine import Engine
from walstream.wal.model import BufferTag

HEAP = BufferTag(1663, 5, 16384, 0, 3)
MAP = BufferTag(1663, 5, 16384, 2, 0)
Block = tuple[int, BufferTag, int, bytes]


def record(rmgr: int, info: int, main: bytes, *blocks: Block, xid: int = 700) -> bytes:
    """Returns a record; a block is id, tag, flags and data."""
    headers = b""
    data = b""
    for block_id, tag, flags, block_data in blocks:
        flags |= tag.fork | (0x20 if block_data else 0)
        headers += bytes((block_id, flags)) + len(block_data).to_bytes(2, "little")
        for number in (*tag[:3], tag.block):
            headers += number.to_bytes(4, "little")
        data += block_data
    body = headers + bytes((255, len(main))) + data + main
    head = (24 + len(body)).to_bytes(4, "little") + xid.to_bytes(4, "little") + bytes(8)
    return head + bytes((info, rmgr)) + bytes(6) + body


def insert(offset: int, flags: int = 0, init: bool = False, body: bytes = b"\0" * 9) -> bytes:
    main = offset.to_bytes(2, "little") + bytes((flags,))
    block = (0, HEAP, 0x40 if init else 0, b"\x01\0\0\x08\x18" + body)
    return record(10, 0x80 if init else 0, main, block)


def lsn_of(page: bytes) -> int:
    return int.from_bytes(page[:4], "little") << 32 | int.from_bytes(page[4:8], "little")


def rebuilt(*steps: Callable[[Engine], None], tag: BufferTag = HEAP, version: int = 15) -> bytes:
    engine = Engine(version, False)
    engine.begin(tag)
    for step in steps:
        step(engine)
    return engine.get_page()


def apply(end_lsn: int, data: bytes) -> Callable[[Engine], None]:
    return lambda engine: engine.apply(end_lsn, data)


def push(page: bytes) -> Callable[[Engine], None]:
    return lambda engine: engine.push_page(page)


def test_two_inserts() -> None:
    page = rebuilt(apply(0x100, insert(1, init=True)), apply(0x1_0000_0200, insert(2)))
    assert lsn_of(page) == 0x1_0000_0200
    assert page[12:14] == (24 + 8).to_bytes(2, "little")
    assert page[8192 - 32 : 8192 - 28] == (700).to_bytes(4, "little")


def test_a_record_at_or_below_the_pages_lsn_is_skipped() -> None:
    once = rebuilt(apply(0x100, insert(1, init=True)), apply(0x200, insert(2)))
    assert rebuilt(push(once), apply(0x200, insert(2)), apply(0x100, insert(2))) == once


def test_a_base_page_comes_back_when_there_is_no_record() -> None:
    page = rebuilt(apply(0x100, insert(1, init=True)))
    assert rebuilt(push(page)) == page


def test_a_record_that_initialises_forgets_the_base() -> None:
    page = rebuilt(apply(0x300, insert(1, init=True)))
    assert rebuilt(push(page), apply(0x300, insert(1, init=True))) == page


def test_wrong_key_is_an_error() -> None:
    engine = Engine(15, False)
    engine.begin(HEAP._replace(block=4))
    with pytest.raises(RedoError, match="does not refer to this block") as caught:
        engine.apply(0x100, insert(1, init=True))
    assert str(caught.value) == (
        "Heap INSERT+INIT ending at 0/100: the record does not refer to this block "
        "(block 4 of 1663/5/16384 main)"
    )


def test_no_base_is_an_error() -> None:
    with pytest.raises(RedoError, match="does not initialise it"):
        rebuilt(apply(0x100, insert(2)))
    with pytest.raises(RedoError, match="all zeros"):
        rebuilt(push(bytes(8192)), apply(0x100, insert(2)))
    with pytest.raises(RedoError, match="neither a base page nor a record"):
        rebuilt()


def test_a_base_that_is_no_page_is_refused() -> None:
    with pytest.raises(RedoError, match="invalid page header"):
        rebuilt(push(b"\xff" * 8192))


def test_after_an_error_the_next_request_works() -> None:
    engine = Engine(15, False)
    engine.begin(HEAP)
    with pytest.raises(RedoError):
        engine.apply(0x100, insert(2))
    with pytest.raises(RedoProtocolError, match="without BeginRedoForBlock"):
        engine.apply(0x100, insert(1, init=True))
    engine.begin(HEAP)
    engine.apply(0x100, insert(1, init=True))
    assert lsn_of(engine.get_page()) == 0x100


@pytest.mark.parametrize(
    ("rmgr", "info", "name"),
    [
        (133, 0x20, "custom133 op 0x20"),
        (10, 0x30, "Heap TRUNCATE"),
        (9, 0x70, "Heap2 NEW_CID"),
        (15, 0x10, "Sequence op 0x10"),
        (20, 0x10, "Generic op 0x10"),
        (0, 0x10, "XLOG op 0x10"),
        (1, 0x00, "Transaction op 0x00"),
    ],
)
def test_an_operation_without_a_rule_is_named(rmgr: int, info: int, name: str) -> None:
    unknown = record(rmgr, info, b"\0" * 20, (0, HEAP, 0, b"x"))
    base = rebuilt(apply(0x100, insert(1, init=True)))
    with pytest.raises(UnsupportedRecord, match=f"^{name} ending at 0/200: "):
        rebuilt(push(base), apply(0x200, unknown))


def test_a_malformed_record_is_named_by_its_end() -> None:
    engine = Engine(15, False)
    engine.begin(HEAP)
    with pytest.raises(RecordError, match=r"^record ending at 0/200: ") as caught:
        engine.apply(0x200, insert(1)[:-1])
    assert caught.value.lsn == 0x200


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"X\0\0\0\4", "unknown message type 0x58"),
        (b"B\0\0\0\4", "message length: expected 21, got 4"),
        (b"P\0\0\0\x15", "PushPage length: expected 8213, got 21"),
        (b"H\0\0\0\5", "ping length: expected 4, got 5"),
        (b"A\0\0\0\4", "ApplyRecord length: expected at least 36, got 4"),
        (b"G\0\0\0\x15" + bytes(17), "message 0x47 without BeginRedoForBlock"),
        (b"B\0\0\0\x15" + bytes(17) + b"G\0\0\0\x15" + bytes(16) + b"\1", "names another block"),
    ],
)
def test_protocol_errors(data: bytes, message: str) -> None:
    engine = Engine(15, False)
    with pytest.raises(RedoProtocolError, match=message):
        engine.process(data, len(data))


def test_ping_and_many_requests_at_once() -> None:
    cases = [case for case in redo_cases() if case.rmgr == 10][:5]
    stream = b"H\0\0\0\4".join(case.request for case in cases)
    engine = Engine(15, False)
    assert engine.process(bytearray(stream) + bytes(3), len(stream) + 3) == len(stream)
    pages = b"".join(page for case in cases for page in (_without(case), bytes(8192)))[:-8192]
    replies = bytearray(engine.replies)
    for at in range(0, len(replies), 8192):
        replies[at + 8 : at + 10] = b"\0\0"
    assert replies == pages


def _without(case: RedoCase) -> bytes:
    return case.page[:8] + b"\0\0" + case.page[10:]


def empty_map(bits: int) -> bytes:
    """Returns a map page whose first eight blocks have ``bits`` twice over each byte."""
    header = bytes(12) + b"\x18\0\0\x20\0\x20\x04\x20" + bytes(4)
    return header + bytes((bits, bits)) + bytes(8192 - 26)


def test_insert_clears_map_bits_without_naming_the_map() -> None:
    page = rebuilt(push(empty_map(0xFF)), apply(0x100, insert(2, flags=1)), tag=MAP)
    assert page[24:26] == b"\x3f\xff"
    assert lsn_of(page) == 0


def test_a_record_that_clears_nothing_here_is_an_error() -> None:
    with pytest.raises(RedoError, match="clears no bits"):
        rebuilt(push(empty_map(0xFF)), apply(0x100, insert(2)), tag=MAP)
    with pytest.raises(RedoError, match="clears no bits"):
        far = MAP._replace(block=1)
        rebuilt(push(empty_map(0xFF)), apply(0x100, insert(2, flags=1)), tag=far)


def test_update_clears_both_blocks_on_one_map_page() -> None:
    main = bytes(7) + b"\x03" + bytes(4) + b"\1\0"
    other = HEAP._replace(block=6)
    update = record(10, 0x20, main, (0, HEAP, 0, bytes(6)), (1, other, 0, b""))
    page = rebuilt(push(empty_map(0xFF)), apply(0x100, update), tag=MAP)
    assert page[24:26] == b"\x3f\xcf"


def test_lock_clears_only_the_frozen_bit() -> None:
    lock = record(10, 0x60, bytes(7) + b"\x01", (0, HEAP, 0, b""))
    page = rebuilt(push(empty_map(0xFF)), apply(0x100, lock), tag=MAP)
    assert page[24:26] == b"\x7f\xff"


def test_a_named_map_page_is_stamped() -> None:
    """From 18.5 on heap records name the map page that they change."""
    main = b"\2\0\1"
    named = record(10, 0, main, (0, HEAP, 0, b"\1\0\0\x08\x18" + bytes(9)), (1, MAP, 0, b""))
    page = rebuilt(push(empty_map(0xFF)), apply(0x100, named), tag=MAP, version=18)
    assert page[24:26] == b"\x3f\xff"
    assert lsn_of(page) == 0x100
    again = rebuilt(push(page), apply(0x200, named), tag=MAP, version=18)
    assert lsn_of(again) == 0x100


def test_a_delete_clears_its_heap_block_beside_a_named_map_page() -> None:
    delete = record(10, 0x10, bytes(7) + b"\1", (0, HEAP, 0, b""), (1, MAP, 0, b""))
    page = rebuilt(push(empty_map(0xFF)), apply(0x100, delete), tag=MAP, version=18)
    assert page[24:26] == b"\x3f\xff"


def test_an_update_whose_body_is_cut_clears_nothing() -> None:
    update = record(10, 0x20, bytes(7) + b"\x03" + bytes(5), (0, HEAP, 0, bytes(6)))
    with pytest.raises(RedoError, match="main data too short: 13 bytes"):
        rebuilt(push(empty_map(0xFF)), apply(0x100, update), tag=MAP)


def truncation(blocks: int, flags: int = 7) -> bytes:
    numbers = (blocks, *HEAP[:3], flags)
    return record(2, 0x21, b"".join(number.to_bytes(4, "little") for number in numbers))


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [(1, b"\x03\0"), (3, b"\x3f\0"), (4, b"\xff\0"), (5, b"\xff\x03"), (8, b"\xff\xff")],
)
def test_truncation_clears_the_tail(blocks: int, expected: bytes) -> None:
    page = rebuilt(push(empty_map(0xFF)), apply(0x100, truncation(blocks)), tag=MAP)
    assert page[24:26] == expected
    assert lsn_of(page) == 0


def test_truncation_of_another_block_is_an_error() -> None:
    with pytest.raises(RedoError, match="does not touch this block"):
        rebuilt(push(empty_map(0xFF)), apply(0x100, truncation(32672)), tag=MAP)


@pytest.mark.parametrize("stamp_hints", [False, True])
def test_visible_stamps_the_heap_page_where_hints_are_logged(stamp_hints: bool) -> None:
    heap = rebuilt(apply(0x100, insert(1, init=True)))
    visible = record(9, 0x40, bytes(4) + b"\x03", (0, MAP, 0, b""), (1, HEAP, 0, b""))
    engine = Engine(15, stamp_hints)
    engine.begin(HEAP)
    engine.push_page(heap)
    engine.apply(0x200, visible)
    page = engine.get_page()
    assert page[10] & 4
    assert lsn_of(page) == (0x200 if stamp_hints else 0x100)
    engine.begin(MAP)
    engine.apply(0x200, visible)
    page = engine.get_page()
    assert page[24] == 0xC0
    assert lsn_of(page) == 0x200


@pytest.mark.parametrize(("version", "lines"), [(14, 2), (15, 1), (16, 1)])
def test_pruning_truncates_line_pointers_from_15_on(version: int, lines: int) -> None:
    base = rebuilt(apply(0x100, insert(1, init=True)), apply(0x200, insert(2)))
    main = bytes(8) + (b"\0" if version >= 16 else b"")
    prune = record(9, 0x10, main, (0, HEAP, 0, b"\2\0"))
    page = rebuilt(push(base), apply(0x300, prune), version=version)
    assert int.from_bytes(page[12:14], "little") == 24 + 4 * lines


def test_a_new_page_image_keeps_lsn_zero() -> None:
    image = bytes((0, 0x10)) + b"\0\0" + b"\0\x20\0\0\x02"
    image += b"".join(n.to_bytes(4, "little") for n in (*HEAP[:3], HEAP.block)) + bytes(8192)
    head = (24 + len(image)).to_bytes(4, "little") + bytes(12) + b"\xb0\0" + bytes(6)
    assert rebuilt(apply(0x100, head + image)) == bytes(8192)


def test_versions() -> None:
    with pytest.raises(ValueError, match="PostgreSQL version"):
        Engine(13, False)


def test_steps_are_refused_while_replies_wait() -> None:
    engine = Engine(15, False)
    engine.begin(HEAP)
    engine.replies = bytearray(512 << 10)
    with pytest.raises(ValueError, match="replies: expected below 512 KB"):
        engine.apply(0x100, insert(1, init=True))
