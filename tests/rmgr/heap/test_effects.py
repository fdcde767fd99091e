"""What heap records say of the visibility map and of pruned items, in both builds."""

from __future__ import annotations

import struct
from types import ModuleType

import pytest

from tests.support.pure import load
from tests.support.walgen import Block, record_body, record_bytes
from walstream.errors import RecordError
from walstream.rmgr.heap import effects
from walstream.wal import record
from walstream.wal.model import BufferTag

LOADED: dict[str, ModuleType] = {}
UNCOMPILED = load("walstream.rmgr.heap.effects", LOADED)
BUILDS = [(effects, record), (UNCOMPILED, LOADED.get("walstream.wal.record", record))]


@pytest.fixture(params=[effects, UNCOMPILED], ids=["installed", "uncompiled"])
def build(request: pytest.FixtureRequest) -> ModuleType:
    module: ModuleType = request.param
    return module


def flagged(at: int, flags: int, length: int) -> bytes:
    body = bytearray(length)
    body[at] = flags
    return bytes(body)


@pytest.mark.parametrize(
    ("rmgr", "info", "main_data", "new", "old"),
    [
        pytest.param(10, 0x00, flagged(2, 1, 3), 3, 0, id="insert"),
        pytest.param(10, 0x80, flagged(2, 1, 3), 3, 0, id="insert-init"),
        pytest.param(10, 0x00, flagged(2, 0xFE, 3), 0, 0, id="insert-unflagged"),
        pytest.param(10, 0x10, flagged(7, 1, 8), 0, 3, id="delete"),
        pytest.param(10, 0x20, flagged(7, 1, 14), 0, 3, id="update-old"),
        pytest.param(10, 0x20, flagged(7, 2, 14), 3, 0, id="update-new"),
        pytest.param(10, 0x40, flagged(7, 3, 14), 3, 3, id="hot-update"),
        pytest.param(10, 0x60, flagged(7, 1, 8), 0, 2, id="lock-only-frozen"),
        pytest.param(10, 0x70, flagged(7, 1, 8), 0, 0, id="inplace"),
        pytest.param(9, 0x50, flagged(0, 1, 4), 3, 0, id="multi-insert"),
        pytest.param(9, 0xD0, flagged(0, 1, 4), 3, 0, id="multi-insert-init"),
        pytest.param(9, 0x60, flagged(7, 1, 8), 0, 2, id="lock-updated"),
        pytest.param(9, 0x40, flagged(4, 3, 5), 0, 0, id="visible"),
        pytest.param(11, 0x00, flagged(2, 1, 3), 0, 0, id="btree"),
    ],
)
def test_cleared_bits(
    build: ModuleType, rmgr: int, info: int, main_data: bytes, new: int, old: int
) -> None:
    assert build.visibility_clears(rmgr, info, main_data) == (new, old)
    if new or old:
        assert build.visibility_clears(rmgr, info, main_data[:-1]) == (0, 0)
        assert build.visibility_clears(rmgr, info, b"") == (0, 0)


def heap(block: int) -> BufferTag:
    return BufferTag(1663, 5, 16384, 0, block)


def visibility_map(block: int) -> BufferTag:
    return BufferTag(1663, 5, 16384, 2, block)


@pytest.mark.parametrize(
    ("tags", "new", "old"),
    [
        ([], -1, -1),
        ([heap(3)], 0, 0),
        ([heap(3), heap(4)], 0, 1),
        # Late minor releases of 18 name the map's page after the heap's, which says nothing.
        ([heap(3), visibility_map(0)], 0, 0),
        ([heap(3), heap(40000), visibility_map(0), visibility_map(1)], 0, 1),
        ([visibility_map(0)], -1, -1),
    ],
)
@pytest.mark.parametrize("modules", BUILDS, ids=["installed", "uncompiled"])
def test_heap_blocks(
    modules: tuple[ModuleType, ModuleType], tags: list[BufferTag], new: int, old: int
) -> None:
    effects_of, record_of = modules
    blocks = [Block(i, tag) for i, tag in enumerate(tags)]
    raw = record_bytes(0, 10, 0x20, 700, record_body(18, blocks, bytes(14)))
    reader = record_of.RecordReader(18)
    assert reader.read_bytes(raw) == 0
    assert effects_of.new_heap_block(reader) == new
    assert effects_of.old_heap_block(reader) == old


PLAN = struct.pack("<IHHBxH", 700, 0x2000, 0x0B00, 0, 2)
PARTS = {
    0x10: struct.pack("<HH", 1, 0) + PLAN,
    0x20: struct.pack("<5H", 2, 1, 2, 3, 4),
    0x40: struct.pack("<2H", 1, 5),
    0x80: struct.pack("<3H", 2, 6, 7),
}
OFFSETS = struct.pack("<2H", 8, 9)


def items(data: bytes, at: int, count: int) -> tuple[int, ...]:
    return struct.unpack_from(f"<{count}H", data, at)


@pytest.mark.parametrize("flags", range(0, 0x100, 0x10))
def test_parts_of_a_prune(build: ModuleType, flags: int) -> None:
    """17 and later: any of the parts may be there, always in the same order."""
    data = b"".join(part for flag, part in PARTS.items() if flags & flag)
    tail = OFFSETS if flags & 0x10 else b""
    parts = build.PruneParts()
    parts.find_bytes(data + tail, flags | 0x0E)
    assert (parts.plans, parts.redirected) == (bool(flags & 0x10), 2 * bool(flags & 0x20))
    assert (parts.dead, parts.unused) == (bool(flags & 0x40), 2 * bool(flags & 0x80))
    if parts.plans:
        assert (data + tail)[parts.plans_at : parts.plans_at + 12] == PLAN
        assert items(data + tail, parts.offsets_at, 2) == (8, 9)
    if parts.redirected:
        assert items(data, parts.redirected_at, 4) == (1, 2, 3, 4)
    if parts.dead:
        assert items(data, parts.dead_at, 1) == (5,)
    if parts.unused:
        assert items(data, parts.unused_at, 2) == (6, 7)
    for length in range(len(data)):
        with pytest.raises(RecordError, match="too short"):
            parts.find_bytes(data[:length], flags)


def test_found_parts_are_those_of_the_last_record(build: ModuleType) -> None:
    parts = build.PruneParts()
    parts.find_bytes(PARTS[0x10] + PARTS[0x20] + PARTS[0x40] + PARTS[0x80] + OFFSETS, 0xF0)
    parts.find_bytes(b"", 0)
    assert (parts.plans, parts.redirected, parts.dead, parts.unused) == (0, 0, 0, 0)


def test_parts_that_the_main_data_count(build: ModuleType) -> None:
    """14 to 16: what is left behind the redirected and dead items is unused."""
    parts = build.PruneParts()
    data = struct.pack("<7H", 1, 2, 3, 4, 5, 6, 7)
    assert parts.find_counted(0, len(data), 2, 1) == 0
    assert items(data, parts.redirected_at, 4) == (1, 2, 3, 4)
    assert items(data, parts.dead_at, 1) == (5,)
    assert parts.unused == 2
    assert items(data, parts.unused_at, 2) == (6, 7)
    assert parts.find_counted(0, len(data), 3, 0) == 0
    assert parts.unused == 1
    assert parts.find_counted(0, len(data), 3, 2) == -1
