"""What ``walstream status`` tells people: above all what is not as it should be."""

from pathlib import Path
from typing import Any

import pytest

from walstream.cli.status import duration, file_sizes, lines, size

NOW = 1_800_000_000.0
HEALTHY: dict[str, Any] = {
    "updated_at": NOW - 1,
    "phase": "streaming",
    "server": "db1:5432",
    "sessions": 1,
    "timeline": 1,
    "server_end_lsn": "0/5000000",
    "received_lsn": "0/4800000",
    "written_lsn": "0/4400000",
    "flushed_lsn": "0/4000000",
    "lag_bytes": 16 << 20,
    "lag_seconds": 0.25,
    "bytes_per_second": 3_500_000,
    "retained_bytes": 16 << 20,
    "fsyncs": 2,
    "last_fsync_seconds": 0.0004,
    "slowest_fsync_seconds": 2.6,
    "waiting_for_space": None,
    "holes": [],
    "set_aside": [],
    "last_error": None,
    "last_error_at": None,
    "redo_children": [],
}
STORE: dict[str, Any] = {
    "store": "/srv/wal/db1",
    "system_id": "77",
    "version": 18,
    "segment_size": 16 << 20,
    "checksums": True,
    "wal_files": 6,
    "wal_bytes": 96 << 20,
    "base_backups": [{"start_lsn": "0/2000028", "stop_lsn": "0/2000158", "timeline": 1}],
    "indexed_to": "0/4000000",
}


def shown(**changes: Any) -> dict[str, str]:
    return dict(lines({**STORE, "receiver": {**HEALTHY, **changes}}, NOW))


def test_a_healthy_receiver_shows_no_alarm() -> None:
    text = shown()
    assert text["receiver"] == "streaming from db1:5432, timeline 1, session 1"
    assert text["flushed"] == "0/4000000, 16 MB and 250 ms behind the server"
    assert text["fsync"] == "2 calls, last 0.4 ms, slowest 3 s"
    assert not text.keys() & {"HOLE", "DISK FULL", "last error", "set aside"}


def test_without_a_slot_nothing_is_retained_for_it() -> None:
    assert "slot" not in shown(retained_bytes=None)


@pytest.mark.parametrize(
    ("changes", "title", "text"),
    [
        (
            {"updated_at": NOW - 7200},
            "receiver",
            "NO NEWS for 2 h, is it running? It was streaming",
        ),
        ({"updated_at": NOW - 7200, "phase": "stopped"}, "receiver", "stopped, db1:5432, timeline"),
        ({"holes": ["0/1000000 to 0/2000000"]}, "HOLE", "0/1000000 to 0/2000000"),
        ({"waiting_for_space": "write a: no space"}, "DISK FULL", "write a: no space"),
        ({"last_error": "refused", "last_error_at": NOW - 30}, "last error", "refused (30 s ago)"),
    ],
)
def test_what_is_wrong_is_said(changes: dict[str, Any], title: str, text: str) -> None:
    assert shown(**changes)[title].startswith(text)


def test_a_store_without_a_backup_or_a_receiver() -> None:
    text = dict(lines({**STORE, "base_backups": [], "indexed_to": None}, NOW))
    assert text["base backup"].startswith("none yet")
    assert text["indexed"] == "nothing yet"
    assert "receiver" not in text


def test_a_segment_that_is_renamed_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(bytes(10))
    (tmp_path / "directory").mkdir()
    listed = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: [*listed(path), path / "a.partial"])
    assert file_sizes(tmp_path) == [10]


def test_sizes_and_durations() -> None:
    assert [size(n) for n in (0, 1023, 1024, 10_500_000, 5 << 40)] == [
        "0 B", "1023 B", "1 kB", "10 MB", "5 TB",
    ]  # fmt: skip
    assert [duration(s) for s in (0.0005, 1, 119, 120, 7200, 200_000)] == [
        "0.5 ms", "1 s", "119 s", "2 min", "2 h", "2 days",
    ]  # fmt: skip
