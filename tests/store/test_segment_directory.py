"""A directory on its way into use: whose it is, where it goes on, what is set aside or removed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.store.test_verified_end import filled
from tests.support.walgen import SEGMENT, SYSTEM_IDENTIFIER, WalWriter
from walstream.errors import ConnectionLost, StoreError, WalDivergedError, WalError, WrongCluster
from walstream.segments.compression import NO_COMPRESSION
from walstream.segments.names import AHEAD, PARTIAL, history_file_name, segment_file_name
from walstream.store.file_layer import FileLayer
from walstream.store.segment_directory import DEAD_DIRECTORY, SegmentDirectory
from walstream.store.verifier import VerifyLevel
from walstream.wal.timeline import (
    INFINITY,
    StartPoint,
    TimelineHistory,
    TimelinePart,
    Upstream,
    parse_history,
)

FIRST = TimelineHistory((TimelinePart(1, 0, INFINITY),))
HISTORY = b"1\t0/180000\tno recovery target specified\n"


def upstream(**other: Any) -> Upstream:
    plain = Upstream(SYSTEM_IDENTIFIER, 18, SEGMENT, 1, 20 * SEGMENT, FIRST, None, 0, 0)
    return plain._replace(**other)


def promoted() -> Upstream:
    """The server left timeline 1 in the middle of segment 1, at 0/180000."""
    return upstream(timeline=2, history=parse_history(2, HISTORY), history_text=HISTORY)


def directory(
    path: Path, *, verify: VerifyLevel = "records", system_id: int | None = None
) -> SegmentDirectory:
    return SegmentDirectory(
        path,
        FileLayer(),
        start=StartPoint(1, 3 * SEGMENT),
        system_id=system_id,
        verify=verify,
        compression=NO_COMPRESSION,
        sync=True,
        zero_fill=False,
        file_mode=0o600,
    )


def name_of(number: int, ending: str = "", timeline: int = 1) -> str:
    return segment_file_name(timeline, number, SEGMENT) + ending


def put(path: Path, name: str, data: bytes | bytearray) -> Path:
    (path / name).write_bytes(data)
    return path / name


def names(path: Path) -> list[str]:
    return sorted(file.name for file in path.iterdir())


def unfinished(path: Path, wal: WalWriter, end_lsn: int) -> None:
    """The first segment whole, of the second what there is up to ``end_lsn``."""
    put(path, name_of(1), wal.data[:SEGMENT])
    put(path, name_of(2, PARTIAL), wal.data[SEGMENT : end_lsn - SEGMENT])


def test_an_empty_directory_begins_where_it_is_told(tmp_path: Path) -> None:
    store = directory(tmp_path)
    survey = store.survey(upstream())
    assert (survey.plan[:2], survey.plan.anew, survey.end_lsn) == (
        (1, 3 * SEGMENT), True, 3 * SEGMENT,
    )  # fmt: skip
    assert names(tmp_path) == []
    store.take_up(survey).close()


def test_an_unfinished_segment_is_gone_on_with_behind_its_last_whole_record(tmp_path: Path) -> None:
    wal = filled(1)
    last = wal.records[-1]
    unfinished(tmp_path, wal, last.end_lsn - 8)
    survey = directory(tmp_path).survey(upstream())
    assert (survey.end_lsn, survey.plan.start_lsn) == (wal.records[-2].end_lsn, 2 * SEGMENT)
    assert survey.best is not None
    assert survey.best.name == name_of(2, PARTIAL)


def test_of_two_unfinished_files_the_one_that_holds_more_stays(tmp_path: Path) -> None:
    wal = filled(1)
    unfinished(tmp_path, wal, wal.lsn)
    put(tmp_path, name_of(2, ".gz" + PARTIAL), b"")
    put(tmp_path, name_of(3, PARTIAL + AHEAD), b"begun ahead")
    put(tmp_path, "notes" + PARTIAL + AHEAD, b"not ours")
    store = directory(tmp_path)
    survey = store.survey(upstream())
    assert survey.best is not None
    assert survey.best.name == name_of(2, PARTIAL)
    assert survey.end_lsn == wal.records[-1].end_lsn
    files = store.take_up(survey)
    files.close()
    assert names(tmp_path) == [name_of(1), name_of(2, PARTIAL), "notes" + PARTIAL + AHEAD]


def test_whose_directory_it_is(tmp_path: Path) -> None:
    path = put(tmp_path, name_of(1), filled(1).data[:SEGMENT])
    with pytest.raises(WrongCluster, match="belongs to the cluster") as caught:
        directory(tmp_path, system_id=7).survey(upstream())
    assert caught.value.path == str(tmp_path)
    with pytest.raises(WrongCluster, match="is of the cluster") as caught:
        directory(tmp_path).survey(upstream(system_id=7))
    assert caught.value.path == str(path)
    with pytest.raises(StoreError, match="is of PostgreSQL 18") as other:
        directory(tmp_path).survey(upstream(version=17))
    assert (other.value.path, type(other.value)) == (str(path), StoreError)


def test_the_newest_complete_segment_is_proven_where_records_are(tmp_path: Path) -> None:
    wal = filled(1)
    hurt = wal.records[8]
    wal.data[hurt.start_lsn - SEGMENT + 90] ^= 1
    path = put(tmp_path, name_of(1), wal.data[:SEGMENT])
    with pytest.raises(WalError, match=f"{path} is damaged, move it away") as caught:
        directory(tmp_path).survey(upstream())
    assert caught.value.lsn == hurt.start_lsn
    assert directory(tmp_path, verify="headers").survey(upstream()).end_lsn == 2 * SEGMENT


def test_a_server_that_is_behind_may_still_come(tmp_path: Path) -> None:
    put(tmp_path, history_file_name(2), HISTORY)
    with pytest.raises(ConnectionLost, match="followed timeline 2"):
        directory(tmp_path).survey(upstream(in_recovery=True))


def test_a_branch_that_the_server_left_is_set_aside(tmp_path: Path) -> None:
    """Its files keep their bytes; a name that is there already gets a number."""
    wal = filled(1)
    unfinished(tmp_path, wal, wal.lsn)
    (tmp_path / DEAD_DIRECTORY).mkdir()
    put(tmp_path / DEAD_DIRECTORY, name_of(2, PARTIAL), b"an earlier one")
    store = directory(tmp_path)
    survey = store.survey(promoted())
    assert survey.plan[:2] == (2, SEGMENT)
    files = store.take_up(survey)
    files.close()
    dead = tmp_path / DEAD_DIRECTORY
    assert names(dead) == [name_of(1), name_of(2, PARTIAL), name_of(2, PARTIAL + ".1")]
    assert (dead / name_of(1)).read_bytes() == wal.data[:SEGMENT]
    assert (dead / name_of(2, PARTIAL)).read_bytes() == b"an earlier one"
    assert (tmp_path / history_file_name(2)).read_bytes() == HISTORY
    assert not (tmp_path / name_of(1)).exists()


def test_history_files(tmp_path: Path) -> None:
    store = directory(tmp_path)
    assert store.missing_histories(promoted()) == [2]
    store.keep_history(2, HISTORY)
    assert store.missing_histories(promoted()) == []
    # Another reason for the same switch is no other history, and what is there stays.
    store.keep_history(2, HISTORY.replace(b"no recovery target specified", b"before 2000-01-01"))
    assert (tmp_path / history_file_name(2)).read_bytes() == HISTORY
    with pytest.raises(WalDivergedError, match="two servers were promoted"):
        store.keep_history(2, HISTORY.replace(b"0/180000", b"0/180028"))
