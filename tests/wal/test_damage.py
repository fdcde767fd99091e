"""Hand-made damage, one kind each, with the exact reason: the cases of 039_end_of_wal.

As there, each kind is tried with the record's header on one page and, where that can differ,
with the header split over two pages: then the checks of the second page come first.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from tests.support.walgen import (
    CONTRECORD,
    OVERWRITE,
    PAGE,
    SEGMENT,
    WalWriter,
    record_body,
    record_bytes,
)
from tests.wal.builds import IDS, PURE, STREAMS
from tests.wal.reading import decode
from walstream.wal.reason import Reason
from walstream.wal.versions import MAGIC_OF_VERSION

both = pytest.mark.parametrize("stream", STREAMS, ids=IDS)
split = pytest.mark.parametrize("left", [8, 16, 24, 400], ids=lambda left: f"left{left}")

# Offsets in a record and in a page header.
TOTAL, XID, PREV, INFO, RMGR, CRC = 0, 4, 8, 16, 17, 20
MAGIC, FLAGS, TLI, ADDRESS, REM_LEN = 0, 2, 4, 8, 16


def first_error(stream: ModuleType, wal: WalWriter, data: bytes, cut: bool = False) -> Any:
    """Returns (reason, LSN, expected, got) of the first error, or of the end of WAL."""
    where = range(0, len(data), 5) if cut else ()
    events = decode(stream, data, wal.start_lsn, wal.segment_size, where, resync=False)
    *records, last = events
    assert records == wal.records[: len(records)]
    if isinstance(last[0], str):
        return last[3], last[2], last[4], last[5]
    return (last[4][3], last[4][2], last[4][4], last[4][5]) if last[4] else None


def damaged(
    stream: ModuleType, wal: WalWriter, at: int, new: bytes, reason: Reason, lsn: int
) -> tuple[int, int]:
    """Puts ``new`` at LSN ``at``, expects ``reason`` at ``lsn``; returns expected and got."""
    data = bytearray(wal.data)
    data[at - wal.start_lsn : at - wal.start_lsn + len(new)] = new
    whole = first_error(stream, wal, bytes(data))
    assert whole == first_error(stream, wal, bytes(data), cut=True)
    assert whole is not None
    assert whole[:2] == (reason, lsn)
    return whole[2], whole[3]


def crossing(left: int, version: int = 18) -> tuple[WalWriter, int, int]:
    """WAL whose last record has ``left`` bytes on its first page; its start and the next page."""
    wal = WalWriter(version)
    wal.fill_page(0)
    wal.fill_page(left)
    start = wal.add_of_length(1000).start_lsn
    return wal, start, start - start % PAGE + PAGE


@both
@split
@pytest.mark.parametrize("length", [0, 1, 23])
def test_length_below_a_header(stream: ModuleType, left: int, length: int) -> None:
    wal, start, _ = crossing(left)
    # A zero length is the end of WAL only when nothing follows; here the next page does.
    reason = Reason.INVALID_LENGTH if length else Reason.ZERO_LENGTH
    new = struct.pack("<I", length)
    assert damaged(stream, wal, start, new, reason, start) == (24, length)


@both
@split
def test_prev_link(stream: ModuleType, left: int) -> None:
    wal, start, _ = crossing(left)
    prev = wal.records[-2].start_lsn
    at = start + PREV if left >= 24 else start + left + 24 + PREV - left
    if left == 8:
        at = start + left + 24  # the prev link is the first thing on the next page
    elif left == 16:
        at = start + PREV
    new = struct.pack("<Q", prev - 8)
    assert damaged(stream, wal, at, new, Reason.INCORRECT_PREV, start) == (prev, prev - 8)


@both
@split
def test_rmgr(stream: ModuleType, left: int) -> None:
    wal, start, _ = crossing(left)
    at = start + RMGR + (24 if left < 24 else 0)
    for rmgr in (22, 127):
        new = bytes((rmgr,))
        assert damaged(stream, wal, at, new, Reason.INVALID_RMGR, start) == (21, rmgr)


@both
def test_custom_rmgr_is_unknown_to_14(stream: ModuleType) -> None:
    for version, reason in ((14, Reason.INVALID_RMGR), (15, Reason.INCORRECT_CHECKSUM)):
        wal = WalWriter(version)
        start = wal.add_of_length(100).start_lsn
        damaged(stream, wal, start + RMGR, b"\x80", reason, start)


@both
@split
@pytest.mark.parametrize("at", [XID, INFO, CRC, 24, 900])
def test_checksum(stream: ModuleType, left: int, at: int) -> None:
    wal, start, _ = crossing(left)
    where = start + at + (24 if at >= left else 0)
    old = wal.data[where - wal.start_lsn]
    damaged(stream, wal, where, bytes((old ^ 0x04,)), Reason.INCORRECT_CHECKSUM, start)


@both
@split
@pytest.mark.parametrize(
    ("at", "new", "reason", "values"),
    [
        (MAGIC, b"\0\0", Reason.INVALID_MAGIC, (0xD118, 0)),
        (MAGIC, b"\xfe\xca", Reason.INVALID_MAGIC, (0xD118, 0xCAFE)),
        (MAGIC, b"\x16\xd1", Reason.INVALID_MAGIC, (0xD118, 0xD116)),
        (FLAGS, b"\x11\0", Reason.INVALID_INFO, (15, 0x11)),
        (FLAGS, b"\x01\x80", Reason.INVALID_INFO, (15, 0x8001)),
        (TLI, b"\0\0\0\0", Reason.OUT_OF_SEQUENCE_TIMELINE, (1, 0)),
    ],
)
def test_page_of_a_contrecord(
    stream: ModuleType, left: int, at: int, new: bytes, reason: Reason, values: tuple[int, int]
) -> None:
    wal, _, page = crossing(left)
    assert damaged(stream, wal, page + at, new, reason, page) == values


@both
@split
def test_recycled_page(stream: ModuleType, left: int) -> None:
    wal, _, page = crossing(left)
    old = page - SEGMENT // 2
    values = damaged(
        stream, wal, page + ADDRESS, struct.pack("<Q", old), Reason.UNEXPECTED_PAGEADDR, page
    )
    assert values == (page, old)


@both
@split
def test_contrecord_flag_missing(stream: ModuleType, left: int) -> None:
    wal, start, page = crossing(left)
    values = damaged(stream, wal, page + FLAGS, b"\0\0", Reason.NO_CONTRECORD, page)
    assert values == (start, 0)


@both
@split
@pytest.mark.parametrize("wrong", [0, -1, 8, 8192])
def test_contrecord_length(stream: ModuleType, left: int, wrong: int) -> None:
    wal, _, page = crossing(left)
    missing = 1000 - left
    got = missing + wrong if wrong else 0
    values = damaged(
        stream,
        wal,
        page + REM_LEN,
        struct.pack("<I", got),
        Reason.INVALID_CONTRECORD_LENGTH,
        page,
    )
    assert values == (missing, got)


@both
@split
def test_a_page_is_checked_before_the_rest_of_a_split_header(stream: ModuleType, left: int) -> None:
    wal, start, page = crossing(left)
    data = bytearray(wal.data)
    rmgr_at = start + RMGR + (24 if left < 24 else 0) - SEGMENT
    data[rmgr_at] = 99
    data[page - SEGMENT : page - SEGMENT + 2] = b"\0\0"
    found = first_error(stream, wal, bytes(data))
    assert found[0] == (Reason.INVALID_RMGR if left >= 24 else Reason.INVALID_MAGIC)


@both
def test_contrecord_where_a_record_should_start(stream: ModuleType) -> None:
    wal = WalWriter()
    wal.fill_page(0)
    wal.add_of_length(100)
    page = SEGMENT + PAGE
    new = struct.pack("<H", CONTRECORD)
    damaged(stream, wal, page + FLAGS, new, Reason.UNEXPECTED_CONTRECORD, page)


@both
def test_record_too_long(stream: ModuleType) -> None:
    for version, most in ((15, (1 << 30) - 1), (16, 1020 << 20), (18, 1020 << 20)):
        wal = WalWriter(version)
        start = wal.add_of_length(100).start_lsn
        new = struct.pack("<I", most + 1)
        assert damaged(stream, wal, start, new, Reason.TOO_LONG, start) == (most, most + 1)


@both
def test_segment_without_long_header(stream: ModuleType) -> None:
    wal = WalWriter()
    wal.add_of_length(100)
    damaged(stream, wal, SEGMENT + FLAGS, b"\0\0", Reason.NO_LONG_HEADER, SEGMENT)


@both
def test_long_header_fields(stream: ModuleType) -> None:
    wal = WalWriter()
    wal.add_of_length(SEGMENT + 100)
    second = 2 * SEGMENT
    for at, reason in (
        (24, Reason.OTHER_SYSTEM),
        (32, Reason.OTHER_SEGMENT_SIZE),
        (36, Reason.OTHER_BLOCK_SIZE),
    ):
        damaged(stream, wal, second + at, b"\1\1\1\1", reason, second)


@both
def test_timeline_may_grow_but_not_shrink(stream: ModuleType) -> None:
    wal = WalWriter()
    wal.fill_page(0)
    wal.timeline = 3
    wal.fill_page(0)
    wal.add_of_length(100)
    assert first_error(stream, wal, bytes(wal.data)) is None
    page = SEGMENT + 2 * PAGE
    new = struct.pack("<I", 2)
    values = damaged(stream, wal, page + TLI, new, Reason.OUT_OF_SEQUENCE_TIMELINE, page)
    assert values == (3, 2)


@both
@pytest.mark.parametrize("left", [8, 24, 400])
@pytest.mark.parametrize("more", [0, 24, 8000])
def test_overwritten_contrecord(stream: ModuleType, left: int, more: int) -> None:
    wal = WalWriter()
    wal.fill_page(left)
    aborted = wal.abort_record(17000, more)
    wal.add_of_length(100)
    assert first_error(stream, wal, bytes(wal.data)) is None
    record = wal.records[-2]
    assert record.data[26:34] == struct.pack("<Q", aborted)
    # The flag comes before the one that asks for the rest of the record.
    page = record.start_lsn - record.start_lsn % PAGE
    data = bytearray(wal.data)
    data[page - SEGMENT + FLAGS] |= CONTRECORD
    assert first_error(stream, wal, bytes(data)) is None


@both
def test_overwrite_contrecord_of_another_record(stream: ModuleType) -> None:
    wal = WalWriter()
    wal.fill_page(8)
    start = wal.lsn
    wal.raw(record_bytes(wal.prev, 10, 0, 1, bytes(9000))[:8])
    wal.open_page(OVERWRITE)
    wal.overwrite_contrecord(start - 8)
    found = first_error(stream, wal, bytes(wal.data))
    assert found == (Reason.OTHER_OVERWRITTEN, wal.records[-1].start_lsn, start, start - 8)


@both
@pytest.mark.parametrize("rmgr", [0, 10])
def test_overwrite_contrecord_missing(stream: ModuleType, rmgr: int) -> None:
    wal = WalWriter()
    wal.fill_page(8)
    start = wal.lsn
    wal.raw(record_bytes(wal.prev, 10, 0, 1, bytes(9000))[:8])
    wal.open_page(OVERWRITE)
    first = wal.add(rmgr, 0x30, 0, record_body(18, (), bytes(16)))
    found = first_error(stream, wal, bytes(wal.data))
    assert found == (Reason.NO_OVERWRITE_CONTRECORD, first.start_lsn, start, rmgr)


@both
@pytest.mark.parametrize("left", [0, 8, 16, 24, 32, 400])
def test_switch_wherever_it_stands(stream: ModuleType, left: int) -> None:
    wal = WalWriter()
    wal.fill_page(left)
    record = wal.switch()
    assert record.end_lsn == 2 * SEGMENT
    wal.add_of_length(100)
    assert first_error(stream, wal, bytes(wal.data)) is None


@both
def test_switch_at_the_very_end_of_a_segment(stream: ModuleType) -> None:
    wal = WalWriter(start_lsn=2 * SEGMENT - PAGE)
    wal.fill_page(24)
    assert wal.switch().end_lsn == 2 * SEGMENT
    wal.add_of_length(100)
    assert first_error(stream, wal, bytes(wal.data)) is None


def flip(data: bytearray, at: int) -> None:
    data[at] ^= 0x40


@both
@pytest.mark.parametrize(
    ("damage", "lost_records"),
    [
        (lambda data, at: flip(data, at + 30), 1),  # its CRC: the next record is found at once
        (lambda data, at: flip(data, at + PREV), None),  # its header: the rest of the page goes
        (lambda data, at: flip(data, (at // PAGE) * PAGE), None),  # the header of its page
    ],
    ids=("crc", "header", "page"),
)
def test_resync_loses_no_more_than_it_must(
    stream: ModuleType, damage: Callable[[bytearray, int], None], lost_records: int | None
) -> None:
    wal = WalWriter()
    for _ in range(500):
        wal.add_of_length(100)
    victim = wal.records[250]
    data = bytearray(wal.data)
    damage(data, victim.start_lsn - SEGMENT)
    events = decode(stream, bytes(data), SEGMENT, SEGMENT)
    found = [event for event in events[:-1] if event in wal.records]
    assert len(events) - 1 - len(found) == 1
    if lost_records is not None:
        assert len(wal.records) - len(found) == lost_records
    else:
        assert len(wal.records) - len(found) < 2 * PAGE // 100
    (lost,) = events[-1][5]
    missing = [record for record in wal.records if record not in found]
    assert lost[0] == missing[0].start_lsn
    assert lost[1] == missing[-1].end_lsn or lost[1] == missing[-1].end_lsn + 24


def test_magics() -> None:
    formats = PURE["walstream.wal.formats"]
    for version, magic in MAGIC_OF_VERSION.items():
        assert formats.magic_of(version) == magic
        assert formats.version_of(magic) == version
