"""Statuses, commit times and multixacts against records made here, at the edges of pages.

What real servers leave on disk is compared in tests/state/test_cluster.py.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

import pytest

from walstream.rmgr import xact
from walstream.state.slru import PAGES_PER_FILE, Slru, SlruFiles, page_order
from walstream.state.transactions import (
    AREAS,
    RM_CLOG,
    RM_COMMIT_TS,
    RM_MULTIXACT,
    RM_XACT,
    Body,
    Member,
    TransactionLog,
    XactStatus,
)
from walstream.wal.model import BLCKSZ


class Memory:
    """The files of an area in memory."""

    def __init__(self, files: Mapping[int, bytes] | None = None) -> None:
        self.files = files or {}

    def sizes(self) -> Mapping[int, int]:
        return {number: len(data) for number, data in self.files.items()}

    def read(self, number: int, offset: int, length: int) -> bytes:
        return self.files[number][offset : offset + length]


def log(version: int = 18, *, tracked: bool = False, **files: SlruFiles) -> TransactionLog:
    areas: dict[str, SlruFiles] = {name: Memory() for name in AREAS}
    areas.update({name: files[name] for name in AREAS if name in files})
    return TransactionLog(areas, version, tracked=tracked)


def apply(target: TransactionLog, rmgr: int, info: int, xid: int, main_data: bytes) -> None:
    target.apply(rmgr, info, xid, lambda: Body(rmgr, info, xid, main_data, 5))


def end(time_us: int, subxids: tuple[int, ...] = (), twophase: int = 0) -> bytes:
    xinfo = (xact.HAS_SUBXACTS if subxids else 0) | (xact.HAS_TWOPHASE if twophase else 0)
    data = struct.pack("<qI", time_us, xinfo)
    if subxids:
        data += struct.pack(f"<i{len(subxids)}I", len(subxids), *subxids)
    return data + (struct.pack("<I", twophase) if twophase else b"")


def create(multi: int, offset: int, *members: tuple[int, int]) -> bytes:
    data = struct.pack("<IIi", multi, offset, len(members))
    return data + b"".join(struct.pack("<II", *member) for member in members)


def test_commits_and_aborts_with_their_subtransactions() -> None:
    state = log(tracked=True)
    apply(state, RM_XACT, xact.COMMIT, 32767, struct.pack("<q", 11))
    apply(state, RM_XACT, xact.COMMIT | 0x80, 32768, end(12, (32769, 65536)))
    apply(state, RM_XACT, xact.ABORT | 0x80, 70000, end(13, (70001,)))
    apply(state, RM_XACT, xact.COMMIT_PREPARED | 0x80, 0, end(14, (), 70002))
    apply(state, RM_XACT, xact.ABORT_PREPARED | 0x80, 0, end(15, (), 70003))
    committed = {xid for xid in range(70010) if state.committed(xid)}
    assert committed == {1, 2, 32767, 32768, 32769, 65536, 70002}
    assert [state.status(xid) for xid in (0, 70000, 70001, 70003)] == [XactStatus.ABORTED] * 4
    assert state.status(70004) == state.status(4_000_000_000) == XactStatus.IN_PROGRESS
    assert state.commit_time(65536) == (12, 5)
    assert state.commit_time(70002) == (14, 5)
    assert state.commit_time(70000) is state.commit_time(70003) is None
    assert state.newest_commit_ts == 70002
    files = dict(state.files())
    assert len(files["pg_xact/0000"]) == 3 * BLCKSZ


def test_without_commit_times_a_plain_commit_is_not_read() -> None:
    state = log()

    def read() -> Body:
        raise AssertionError("read")

    state.apply(RM_XACT, xact.COMMIT, 100, read)
    state.apply(RM_XACT, xact.ABORT, 101, read)
    assert (state.status(100), state.status(101)) == (XactStatus.COMMITTED, XactStatus.ABORTED)
    assert [name for name, _ in state.files()] == ["pg_xact/0000"]


@pytest.mark.parametrize("version", [14, 16, 17, 18])
def test_multixacts_over_the_edges_of_pages(version: int) -> None:
    state = log(version)
    offset = 1
    expected = {}
    for multi in range(1, 2100):
        members = [(1000 + multi, 0), (5000 + multi, multi % 6)]
        apply(state, RM_MULTIXACT, 0x20, 0, create(multi, offset, *members))
        expected[multi] = tuple(Member(*member) for member in members)
        offset += 2
    assert {multi: state.members(multi) for multi in expected} == expected
    assert state.members(0) == state.members(2100) == state.members(1 << 31) == ()
    assert (state.next_multi, state.next_offset) == (2100, offset)
    assert state.newest_member_xid == 5000 + 2099


def test_a_page_of_offsets_that_an_older_minor_release_makes_late_is_not_lost() -> None:
    state = log(15)
    apply(state, RM_MULTIXACT, 0x20, 0, create(2047, 1, (700, 0), (701, 0)))
    # The next multixact begins a page: its offset is known already, the page comes only now.
    apply(state, RM_MULTIXACT, 0x00, 0, struct.pack("<i", 1))
    assert state.members(2047) == (Member(700, 0), Member(701, 0))
    assert dict(state.files())["pg_multixact/offsets/0000"][BLCKSZ:][:4] == struct.pack("<I", 3)
    apply(state, RM_MULTIXACT, 0x20, 0, create(2048, 3, (702, 0)))
    apply(state, RM_MULTIXACT, 0x00, 0, struct.pack("<i", 1))
    assert dict(state.files())["pg_multixact/offsets/0000"][BLCKSZ:] == bytes(BLCKSZ)


def test_ids_go_round() -> None:
    state = log()
    state.next_multi, state.next_offset = 0xFFFFFFFF, 0xFFFFFFFE
    apply(state, RM_MULTIXACT, 0x20, 0, create(0xFFFFFFFF, 0xFFFFFFFE, (700, 0), (701, 5)))
    assert (state.next_multi, state.next_offset) == (1, 0)
    assert state.members(0xFFFFFFFF) == (Member(700, 0), Member(701, 5))
    apply(state, RM_MULTIXACT, 0x20, 0, create(1, 1, (702, 0)))
    assert state.members(1) == (Member(702, 0),)
    assert state.members(0xFFFFFFFF) == (Member(700, 0), Member(701, 5))


def test_truncation_removes_whole_files_only_on_the_circle_of_pages() -> None:
    per_file = PAGES_PER_FILE * BLCKSZ
    files = Memory({0: bytes(per_file), 1: bytes(per_file), 2: bytes(8192), 0xFFF: bytes(per_file)})
    area = Slru(files, page_order(32768, 4))
    area.truncate(63)
    assert area.numbers() == [1, 2]
    area.truncate(64)
    assert area.numbers() == [2]
    area.page(31)[0] = 1
    area.zero(64)
    assert [name for name, _ in area.files()] == ["0000", "0002"]


@pytest.mark.parametrize(
    ("version", "code"), [(14, "<iII"), (16, "<iII"), (17, "<qII"), (18, "<qII")]
)
def test_pages_of_statuses_and_times_are_zeroed_and_truncated(version: int, code: str) -> None:
    full = Memory({0: b"\x55" * PAGES_PER_FILE * BLCKSZ, 1: b"\x55" * BLCKSZ})
    state = log(version, tracked=True, pg_xact=full, pg_commit_ts=full)
    page = code[:2]
    apply(state, RM_CLOG, 0x00, 0, struct.pack(page, 33))
    assert not state.committed(33 * 32768) and state.committed(32 * 32768)
    apply(state, RM_CLOG, 0x10, 0, struct.pack(code, 32, 32 * 32768, 1))
    state.oldest_commit_ts = 3
    apply(state, RM_COMMIT_TS, 0x00, 0, struct.pack(page, 33))
    apply(state, RM_COMMIT_TS, 0x10, 0, struct.pack(code[:-1], 32, 32 * 819))
    assert state.oldest_commit_ts == 32 * 819
    assert [(name, len(data)) for name, data in state.files()] == [
        ("pg_xact/0001", 2 * BLCKSZ),
        ("pg_commit_ts/0001", 2 * BLCKSZ),
    ]
    state.track_commit_times(False, 800)
    assert [name for name, _ in state.files()] == ["pg_xact/0001"]
    state.track_commit_times(True, (1 << 32) + 820)
    assert (state.oldest_commit_ts, state.newest_commit_ts) == (820, 820)
    assert [name for name, _ in state.files()] == ["pg_xact/0001", "pg_commit_ts/0000"]
