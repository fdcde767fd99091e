"""JSON objects say what the decoded record says; the same compiled or not."""

from __future__ import annotations

import json
import math
import struct
from types import ModuleType
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from tests.rmgr.test_describe import OPERATIONS, PRUNE_DATA, bodies, record_bytes
from tests.support.pure import load
from tests.support.walgen import Block, record_body
from tests.support.walgen import record_bytes as whole_record
from walstream import rmgr
from walstream.dump import json_lines, lines
from walstream.errors import RecordError
from walstream.rmgr.jsonfields import plain
from walstream.rmgr.rmgrlist import rmgr_name
from walstream.wal.layout import COMPRESSION_NAMES
from walstream.wal.model import BufferTag, PageImage, RawRecord, XLogRecord, format_lsn
from walstream.wal.record import decode_wal_record
from walstream.wal.versions import VERSIONS

PURE: dict[str, ModuleType] = {}
BUILDS = [json_lines, load("walstream.dump.json_lines", PURE)]
LINES = [lines, load("walstream.dump.lines", PURE)]
FORKS = ("main", "fsm", "vm", "init")
START, END = 0x2_0000_0058, 0x2_0000_0090


def written(build: ModuleType, data: bytes, version: int) -> Any:
    """Returns the object of a record."""
    writer = build.ObjectWriter(version)
    writer.write_record(RawRecord(START, END, data))
    first, rest = writer.text.value().split(b"\n")
    assert rest == b""
    return json.loads(first)


def expected_object(record: XLogRecord, version: int) -> dict[str, Any]:
    """Returns the object of a record as docs/reference/dump.md describes it."""
    blocks = []
    for ref in record.blocks:
        fork = ref.tag.fork
        block: dict[str, Any] = {
            "id": ref.id,
            "relation": str(ref.tag.locator),
            "fork": FORKS[fork] if fork < len(FORKS) else str(fork),
            "block": ref.tag.block,
            "will_init": ref.will_init,
            "data_length": len(ref.data),
        }
        if ref.image is not None:
            block["image"] = {
                "length": len(ref.image.data),
                "hole_offset": ref.image.hole_offset,
                "hole_length": ref.image.hole_length,
                "compression": COMPRESSION_NAMES[ref.image.compression],
                "apply": ref.image.apply,
            }
        blocks.append(block)
    fpi = sum(len(ref.image.data) for ref in record.blocks if ref.image is not None)
    fields: dict[str, Any] | None = None
    try:
        fields = {name: plain(value) for name, value in rmgr.fields(record, version).items()}
        # Lists for tuples, whatever JSON makes of a value.
        fields = json.loads(json.dumps(fields))
    except RecordError:
        fields = None
    try:
        described = rmgr.describe(record, version)
    except RecordError as error:
        described = f"({error})".replace(f" in record at {format_lsn(record.start_lsn)}", "")
    return {
        "start_lsn": format_lsn(record.start_lsn),
        "end_lsn": format_lsn(record.end_lsn),
        "prev_lsn": format_lsn(record.prev_lsn),
        "xid": record.xid,
        "rmgr": rmgr_name(record.rmgr_id),
        "operation": rmgr.operation_name(version, record.rmgr_id, record.info),
        "info": record.info,
        "record_length": record.total_length - fpi,
        "total_length": record.total_length,
        "origin": record.origin,
        "toplevel_xid": record.toplevel_xid,
        "description": described,
        "fields": fields,
        "blocks": blocks,
    }


def same(ours: Any, theirs: Any) -> bool:
    """Equality for which nan is nan."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return list(ours) == list(theirs) and all(same(ours[k], theirs[k]) for k in ours)
    if isinstance(ours, float) and math.isnan(ours):
        return isinstance(theirs, float) and math.isnan(theirs)
    return bool(ours == theirs) and type(ours) is type(theirs)


def check(data: bytes, version: int) -> None:
    record = decode_wal_record(RawRecord(START, END, data), version)
    expected = expected_object(record, version)
    for build in BUILDS:
        got = written(build, data, version)
        if expected["fields"] is None:
            # What is too short is said in other words, since in another order.
            assert list(got["fields"]) == ["error"]
            got["fields"] = None
        assert same(got, expected), (got, expected)
    text = expected["description"].encode()
    for module in LINES:
        writer = module.RecordWriter(version)
        for _ in range(2):
            writer.write_record(RawRecord(START, END, data))
        assert writer.text.value() == text + text


@given(st.sampled_from(VERSIONS), st.sampled_from(OPERATIONS), bodies, bodies, st.integers(0, 15))
@example(18, (9, 0x10), b"\0\xfa\7\0\0\0", PRUNE_DATA, 0)
@example(18, (1, 0x00), struct.pack("<q", -5), b"", 0)
@example(18, (0, 0x70), struct.pack("<q", 5) + b'a "quoted"\\ \xc3\xa4\n\xff\0', b"", 0)
def test_objects_of_any_body(
    version: int, operation: tuple[int, int], body: bytes, data: bytes, fork: int
) -> None:
    check(record_bytes(operation[0], operation[1], body, data, fork), version)


@given(st.sampled_from(VERSIONS), st.sampled_from([200, 255, 22, 10]), st.integers(0, 3))
def test_objects_of_images_and_custom_resource_managers(
    version: int, rmgr_id: int, compression: int
) -> None:
    if version == 14:
        compression = min(compression, 1)
    length = 700 if compression else 8192 - 4000
    image = PageImage(bytes(length), 200, 4000, compression, True)
    blocks = [
        Block(0, BufferTag(1663, 5, 16384, 0, 7), b"data", None, will_init=True),
        Block(1, BufferTag(1663, 5, 16385, 2, 9), b"", image),
        Block(3, BufferTag(1663, 5, 16385, 3, 1), b"x", PageImage(bytes(8192), 0, 0, 0, False)),
    ]  # fmt: skip
    check(
        whole_record(0x1000028, rmgr_id, 0x10, 700, record_body(version, blocks, b"1234")), version
    )
