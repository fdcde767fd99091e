"""The status file on disk: what was written is read, and so is that of other releases."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.status.test_text import HEALTHY
from walstream.errors import WriteError
from walstream.status.file import read_status, write_status
from walstream.status.snapshot import ReceiverStatus, from_table, to_table

# As the first release wrote it.
FIRST = """{
 "updated_at": 1800000000.123, "phase": "streaming", "server": "db1:5432", "sessions": 2,
 "timeline": 3, "server_end_lsn": "1/5000000", "received_lsn": "1/4800000",
 "written_lsn": "1/4400000", "flushed_lsn": "1/4000000", "lag_bytes": 16777216,
 "lag_seconds": 0, "bytes_per_second": 3500000, "retained_bytes": null,
 "slot_restart_lsn": "0/0", "fsyncs": 2, "last_fsync_seconds": 0.0004,
 "slowest_fsync_seconds": 2.6, "waiting_for_space": null, "holes": ["0/1 to 0/2 on timeline 1"],
 "set_aside": [], "last_error": null, "last_error_at": null, "indexed_lsn": "1/3FFFFF8",
 "redo_children": ["18 serving: landlock"]
}"""


def test_what_is_written_is_read(tmp_path: Path) -> None:
    for status in (HEALTHY, replace(HEALTHY, holes=("a", "b"), last_error="x", last_error_at=1.5)):
        write_status(tmp_path / "status.json", status)
        assert read_status(tmp_path / "status.json") == status
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"]


def test_the_format_stays(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    path.write_text(FIRST)
    status = read_status(path)
    assert status is not None
    assert (status.timeline, status.flushed_lsn, status.indexed_lsn) == (
        3,
        0x104000000,
        0x103FFFFF8,
    )
    assert status.holes == ("0/1 to 0/2 on timeline 1",)
    write_status(path, status)
    assert json.loads(path.read_text()) == json.loads(FIRST)


def test_a_receiver_without_an_index_says_nothing_of_one() -> None:
    table = to_table(ReceiverStatus(updated_at=1.0, phase="streaming"))
    assert not table.keys() & {"indexed_lsn", "redo_children"}
    assert from_table(table) == ReceiverStatus(updated_at=1.0, phase="streaming")


def test_names_of_other_releases_do_no_harm() -> None:
    assert from_table({"updated_at": 1, "phase": "x", "new": [1]}) == ReceiverStatus(
        updated_at=1, phase="x"
    )


@pytest.mark.parametrize(
    "content",
    [
        b"", b"[]", b"{}", b"null", b"\xff", b'{"updated_at": 1}',
        b'{"updated_at": "x", "phase": "y"}', b'{"updated_at": 1, "phase": "y", "sessions": "1"}',
        b'{"updated_at": 1, "phase": "y", "flushed_lsn": "zzz"}',
        b'{"updated_at": 1, "phase": "y", "flushed_lsn": null}',
        b'{"updated_at": 1, "phase": "y", "holes": "abc"}',
        b'{"updated_at": 1, "phase": "y", "timeline": true}',
    ],
)  # fmt: skip
def test_what_is_no_status_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s").write_bytes(content)
    assert read_status(tmp_path / "s") is None
    assert read_status(tmp_path / "missing") is None


def test_a_file_that_cannot_be_written_is_a_write_error(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match=r"missing/s.*No such file"):
        write_status(tmp_path / "missing" / "s", HEALTHY)
