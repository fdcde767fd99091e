"""Descriptions of arbitrary bodies: a text or a RecordError, the same compiled or not."""

from __future__ import annotations

import struct
from types import ModuleType

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import walstream.dump.text_lines
import walstream.wal.record
from tests.support.pure import load
from walstream import rmgr
from walstream.errors import RecordError
from walstream.rmgr.layout import Layout
from walstream.rmgr.table import operations
from walstream.wal.model import RawRecord
from walstream.wal.record import decode_wal_record
from walstream.wal.versions import VERSIONS

_PURE: dict[str, ModuleType] = {}
PURE_LINES = load("walstream.dump.text_lines", _PURE)

OPERATIONS = sorted({key for version in VERSIONS for key in operations(version)})


def record_bytes(rmgr_id: int, info: int, body: bytes, data: bytes, fork: int = 0) -> bytes:
    """Returns a record with one block reference, with block data where ``data`` is not empty."""
    head = struct.pack("<BBH", 0, fork | (0x20 if data else 0), len(data))
    head += struct.pack("<4I", 1663, 5, 16384, 7)
    head += struct.pack("<BI", 254, len(body))
    payload = head + data + body
    return struct.pack("<IIQBBxxI", 24 + len(payload), 700, 0x1000028, info, rmgr_id, 0) + payload


def line(lines: ModuleType, version: int, data: bytes, details: bool = False) -> str:
    writer = lines.LineWriter(version, details)
    writer.write_record(RawRecord(0x2000058, 0x2000090, data))
    value = writer.text.value()
    assert isinstance(value, bytes)
    return value.decode("utf-8", "backslashreplace")


counts = st.integers(0, 3).map(lambda n: struct.pack("<I", n))
bodies = st.one_of(
    st.binary(max_size=120),
    # Small numbers make counts that fit.
    st.lists(st.one_of(counts, st.sampled_from([b"\0", b"\1", b"\2\0", b"\x80"])), max_size=40).map(
        b"".join
    ),
)


# One freeze plan of two tuples, a redirection, a dead item, an unused item, the plan's offsets
PRUNE_DATA = (
    struct.pack("<HxxIHHBxH", 1, 9, 8, 7, 0, 2)
    + struct.pack("<HHH", 1, 3, 4)
    + struct.pack("<HH", 1, 5)
    + struct.pack("<HH", 1, 6)
    + struct.pack("<HH", 1, 2)
)


@given(st.sampled_from(VERSIONS), st.sampled_from(OPERATIONS), bodies, bodies, st.booleans())
@example(18, (10, 0x00), b"\1\0", b"", False)
@example(18, (9, 0x50), b"\0\0\2\0\1\0\2\0", b"x", False)
@example(18, (9, 0x10), b"\0\xfa\7\0\0\0", PRUNE_DATA, False)
@example(17, (9, 0x10), b"\0\xf0", PRUNE_DATA[:-1], False)
@example(18, (1, 0x80), struct.pack("<qIII", 5, 1, 2, 3), b"", False)
def test_any_body_compiled_and_not(
    version: int, operation: tuple[int, int], body: bytes, data: bytes, details: bool
) -> None:
    raw = record_bytes(operation[0], operation[1], body, data)
    text = line(walstream.dump.text_lines, version, raw, details)
    assert text == line(PURE_LINES, version, raw, details)
    assert text.startswith("rmgr: ")
    assert text.endswith("\n")
    record = decode_wal_record(RawRecord(0x16B3748, 0, raw), version)
    try:
        described = rmgr.describe(record, version)
    except RecordError as error:
        assert error.lsn == 0x16B3748
        described = f"({str(error).removesuffix(' in record at 0/16B3748')})"
        assert str(error) not in described
    assert described in text  # bytes that are not UTF-8 stand raw in the line
    try:
        fields = rmgr.fields(record, version)
    except RecordError as error:
        assert str(error).endswith(" in record at 0/16B3748")
        return
    assert all(isinstance(name, str) for name in fields)


@pytest.mark.parametrize("rmgr_id", [22, 127, 128, 255])
def test_unknown_resource_managers_are_raw(rmgr_id: int) -> None:
    raw = record_bytes(rmgr_id, 0x30, b"whatever", b"")
    text = line(walstream.dump.text_lines, 15, raw)
    assert f"desc: UNKNOWN (30) rmid: {rmgr_id}, blkref #0: rel 1663/5/16384 blk 7\n" in text
    assert rmgr.identify(15, rmgr_id, 0x30) is None
    assert rmgr.fields(decode_wal_record(RawRecord(0, 0, raw), 15), 15) == {}
    if rmgr_id >= 128:
        assert text.startswith(f"rmgr: custom{rmgr_id}   len")


def test_names_follow_the_version() -> None:
    assert rmgr.identify(14, 4, 0x10) == "DROP"
    assert rmgr.identify(15, 4, 0x10) == "CREATE_WAL_LOG"
    assert rmgr.identify(16, 9, 0x10) == "PRUNE"
    assert rmgr.identify(17, 9, 0x10) == "PRUNE_ON_ACCESS"
    assert rmgr.identify(16, 0, 0xE0) is None
    assert rmgr.identify(17, 0, 0xE0) == "CHECKPOINT_REDO"
    # A code without a name, whose body is described all the same.
    assert rmgr.operation_name(18, 10, 0x90) == "UNKNOWN (90)"
    body = struct.pack("<IHBB", 9, 3, 0x14, 0)
    raw = record_bytes(10, 0x90, body, b"")
    assert "UNKNOWN (90) xmax: 9, off: 3, infobits: [EXCL_LOCK, KEYS_UPDATED]" in line(
        walstream.dump.text_lines, 18, raw
    )


def test_times_before_2000_and_beyond_year_9999() -> None:
    for time_us, text in (
        (0, "2000-01-01 00:00:00.000000 "),
        (-1, "2000-01-01 00:00:00.-00001 "),
        (-(2**63), "-"),
        (2**63 - 1, "294277-01-09 04:00:54.775807 UTC"),
    ):
        raw = record_bytes(1, 0x00, struct.pack("<q", time_us), b"")
        assert text in rmgr.describe(decode_wal_record(RawRecord(0, 0, raw), 18), 18)
        assert line(walstream.dump.text_lines, 18, raw) == line(PURE_LINES, 18, raw)


def test_layouts_lie_as_a_c_compiler_lays_structs() -> None:
    layout = Layout("a u16, b u32, c u8, d u64, e u8[*]")
    assert [field.offset for field in layout.fields] == [0, 4, 8, 16, 24]
    assert layout.size == 24
    assert layout.unpack(bytes(24) + b"\1\2")["e"] == (1, 2)
    nested = Layout("locator locator, align8, head u32, tail i64, align8, last u32")
    assert [field.offset for field in nested.fields] == [0, 16, 24, 32]
    with pytest.raises(RecordError):
        Layout("n i32, items u32[n]").unpack(struct.pack("<iI", 2, 1))
    with pytest.raises(RecordError):
        Layout("n i32, items u32[n]").unpack(struct.pack("<iI", -1, 1))


# Sizes of the C structs, as the servers' headers give them.
SIZES = {
    (10, 0x20): 14, (10, 0x60): 8, (9, 0x70): 34, (11, 0x30): 10, (11, 0x80): 36, (11, 0xB0): 20,
    (13, 0x30): 26, (13, 0x60): 84, (13, 0x80): 60, (14, 0x30): 21, (16, 0x30): 20, (16, 0x50): 28,
    (17, 0x20): 14, (0, 0x60): 26,
}  # fmt: skip


@pytest.mark.parametrize("operation", SIZES)
def test_sizes(operation: tuple[int, int]) -> None:
    assert operations(18)[operation].layout.size == SIZES[operation]


def test_prune_of_17() -> None:
    raw = record_bytes(9, 0x20, b"\0\xfa" + struct.pack("<I", 7), PRUNE_DATA)
    assert rmgr.describe(decode_wal_record(RawRecord(0, 0, raw), 17), 17) == (
        "snapshotConflictHorizon: 7, isCatalogRel: T, nplans: 1, nredirected: 1, ndead: 1, "
        "nunused: 1, plans: [{ xmax: 9, infomask: 7, infomask2: 8, ntuples: 2, offsets: [1, 2] }]"
        ", redirected: [3->4], dead: [5], unused: [6]"
    )
    values = rmgr.fields(decode_wal_record(RawRecord(0, 0, raw), 17), 17)
    assert values["plan_offsets"] == ((1, 2),)
    assert values["conflict_horizon"] == 7


@pytest.mark.parametrize(
    ("version", "operation", "body", "text"),
    [
        (14, (0, 0x90), struct.pack("<qII", 0, 3, 2), "tli 3; prev tli 2; time 2000-01-01 "),
        (17, (0, 0x90), struct.pack("<qIIi", 0, 3, 2, 2), "; wal_level logical"),
        (15, (0, 0xD0), struct.pack("<Qq", 0x1_0000_00A0, 0), "lsn 1/A0; time 2000-01-01 "),
        (16, (3, 0x10), struct.pack("<iII", 7, 800, 5), "page 7; oldestXact 800"),
        (17, (3, 0x10), struct.pack("<qII", 1 << 33, 800, 5), "page 8589934592; oldestXact 800"),
        (14, (6, 0x00), struct.pack("<i", -1), "-1"),
        (18, (16, 0x30), struct.pack("<HHBbHH2xIB3x", 1, 2, 1, -1, 3, 4, 9, 0), "parentBlk: -1, "),
        (16, (0, 0x60), struct.pack("<6iBB", 100, 8, 10, 0, 64, 9, 1, 0), "wal_level=? wal_log_"),
        (15, (12, 0xB0), struct.pack("<d", 1e6), "ntuples 1e+06"),
        (15, (12, 0xB0), struct.pack("<d", float("nan")), "ntuples NaN"),
    ],
)
def test_what_the_workload_does_not_write(
    version: int, operation: tuple[int, int], body: bytes, text: str
) -> None:
    raw = record_bytes(operation[0], operation[1], body, b"")
    assert text in rmgr.describe(decode_wal_record(RawRecord(0, 0, raw), version), version)
