"""Typed bodies: hand-made bytes of every version, cut at every length."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from walstream import rmgr
from walstream.errors import RecordError
from walstream.wal.model import RelFileLocator
from walstream.wal.versions import VERSIONS

XINFO = 0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x20 | 0x80


def commit_body(version: int) -> bytes:
    xinfo = XINFO | (0x100 if version >= 15 else 0)
    body = struct.pack("<qI", 815_000_000_123_456, xinfo)
    body += struct.pack("<II", 5, 1663)
    body += struct.pack("<iII", 2, 801, 802)
    body += struct.pack("<i6I", 2, 1663, 5, 16384, 1664, 0, 1262)
    if version >= 18:
        body += struct.pack("<iiIII", 1, 2, 5, 7, 1)
    elif version >= 15:
        body += struct.pack("<iiII", 1, 2, 5, 7)
    body += struct.pack("<i", 1) + struct.pack("<b3xII4x", -2, 5, 16384)
    body += struct.pack("<I", 900) + b"a gid\0"
    return body + struct.pack("<Qq", 0x1_0000_0010, 815_000_000_000_000)


@pytest.mark.parametrize("version", VERSIONS)
def test_commit_prepared(version: int) -> None:
    end = rmgr.parse_end(commit_body(version), 0x30 | 0x80, version)
    assert end.time_us == 815_000_000_123_456
    assert end.subxids == (801, 802)
    assert end.dropped == (RelFileLocator(1663, 5, 16384), RelFileLocator(1664, 0, 1262))
    assert end.twophase_xid == 900
    assert end.gid == "a gid"
    assert end.origin_lsn == 0x1_0000_0010
    if version >= 15:
        assert end.dropped_stats == (
            rmgr.DroppedStats(2, 5, 7 | (1 << 32 if version >= 18 else 0)),
        )


@pytest.mark.parametrize("version", VERSIONS)
def test_cut_commit_is_refused(version: int) -> None:
    body = commit_body(version)
    for length in range(len(body)):
        with pytest.raises(RecordError):
            rmgr.parse_end(body[:length], 0x80, version)


def test_abort_has_no_invalidations() -> None:
    body = struct.pack("<qIIb3xII4x", 1, 0x8 | 0x10, 77, -2, 5, 16384)
    end = rmgr.parse_end(body, 0xA0, 18)
    assert end.messages == ()
    assert end.twophase_xid == 77


@pytest.mark.parametrize("version", VERSIONS)
def test_database_operations(version: int) -> None:
    copied = rmgr.parse_database(struct.pack("<4I", 7, 1663, 1, 1664), 0, version)
    assert copied == rmgr.DatabaseCreate(7, 1663, 1, 1664)
    drop = struct.pack("<Ii2I", 7, 2, 1663, 99)
    expected = rmgr.DatabaseDrop(7, (1663, 99))
    if version == 14:
        assert rmgr.parse_database(drop, 0x10, version) == expected
        assert rmgr.parse_database(drop, 0x20, version) is None
    else:
        assert rmgr.parse_database(drop, 0x20, version) == expected
        logged = rmgr.parse_database(struct.pack("<II", 7, 1663), 0x10, version)
        assert logged == rmgr.DatabaseCreate(7, 1663, None, None)


def test_storage_and_tablespace() -> None:
    locator = RelFileLocator(1663, 5, 16384)
    create = rmgr.parse_storage(struct.pack("<3Ii", *locator, 2), 0x11)
    assert create == rmgr.StorageCreate(locator, 2)
    cut = rmgr.parse_storage(struct.pack("<I3Ii", 9, *locator, 7), 0x21)
    assert cut == rmgr.StorageTruncate(locator, 9, 7)
    assert rmgr.parse_storage(b"", 0x30) is None
    made = rmgr.parse_tablespace(struct.pack("<I", 99) + b"/a/b\0", 0)
    assert made == rmgr.TablespaceCreate(99, "/a/b")
    assert rmgr.parse_tablespace(struct.pack("<I", 99), 0x10) == rmgr.TablespaceDrop(99)


@pytest.mark.parametrize("version", VERSIONS)
def test_checkpoint(version: int) -> None:
    body = struct.pack(
        "<QIIB3xiQ8IqIII4x", 0x2000028, 3, 2, 1, 2, 1 << 32 | 750, 24576, 4, 9, 722, 1, 1, 5, 0,
        1_700_000_000, 11, 12, 740,
    )  # fmt: skip
    # The unused eighth word is the padding before the time.
    assert len(body) == 88
    checkpoint = rmgr.parse_checkpoint(body, version)
    assert checkpoint.redo == 0x2000028
    assert checkpoint.full_page_writes
    assert checkpoint.wal_level == (2 if version >= 17 else None)
    assert checkpoint.next_xid == 1 << 32 | 750
    assert checkpoint.oldest_multi_db == 5
    assert checkpoint.time_s == 1_700_000_000
    assert checkpoint.oldest_active_xid == 740
    with pytest.raises(RecordError):
        rmgr.parse_checkpoint(body[:83], version)


PARSERS: list[Callable[[bytes, int, int], object]] = [
    rmgr.parse_end,
    lambda data, _info, version: rmgr.parse_prepare(data, version),
    lambda data, info, _version: rmgr.parse_storage(data, info),
    rmgr.parse_database,
    lambda data, info, _version: rmgr.parse_tablespace(data, info),
    lambda data, _info, version: rmgr.parse_checkpoint(data, version),
    lambda data, _info, _version: rmgr.parse_end_of_recovery(data),
]


@given(st.binary(max_size=200), st.integers(0, 255), st.sampled_from(VERSIONS))
def test_any_bytes_give_a_body_or_a_record_error(data: bytes, info: int, version: int) -> None:
    for parse in PARSERS:
        with contextlib.suppress(RecordError):
            parse(data, info, version)
