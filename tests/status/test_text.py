"""What ``walstream status`` tells people: above all what is not as it should be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from trio_util import AsyncValue

from walstream.receive.receiver import Receiver
from walstream.status.monitor import Monitor
from walstream.status.snapshot import ReceiverStatus
from walstream.status.store import StoreStatus, file_sizes
from walstream.status.text import duration, progress_lines, size, store_lines
from walstream.store.base_backup import BaseBackup
from walstream.store.store import StoreIdentity
from walstream.store.writer import Writer

NOW = 1_800_000_000.0
HEALTHY = ReceiverStatus(
    updated_at=NOW - 1,
    phase="streaming",
    server="db1:5432",
    sessions=1,
    timeline=1,
    server_end_lsn=0x5000000,
    received_lsn=0x4800000,
    written_lsn=0x4400000,
    flushed_lsn=0x4000000,
    lag_bytes=16 << 20,
    lag_seconds=0.25,
    bytes_per_second=3_500_000,
    retained_bytes=16 << 20,
    fsyncs=2,
    last_fsync_seconds=0.0004,
    slowest_fsync_seconds=2.6,
    redo_children=(),
)
STORE = StoreStatus(
    path="/srv/wal/db1",
    identity=StoreIdentity(77, 18, 16 << 20, 8192, True, True),
    wal_files=6,
    wal_bytes=96 << 20,
    base_backups=(BaseBackup(Path("base"), 0x2000028, 0x2000158, 0x2000060, 1),),
    indexed_lsn=0x4000000,
    index_problem=None,
    receiver=HEALTHY,
)


def shown(**changes: object) -> dict[str, str]:
    status = replace(HEALTHY, **changes)  # type: ignore[arg-type]
    return dict(store_lines(replace(STORE, receiver=status), NOW))


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
        ({"holes": ("0/1000000 to 0/2000000",)}, "HOLE", "0/1000000 to 0/2000000"),
        ({"waiting_for_space": "write a: no space"}, "DISK FULL", "write a: no space"),
        ({"last_error": "refused", "last_error_at": NOW - 30}, "last error", "refused (30 s ago)"),
    ],
)
def test_what_is_wrong_is_said(changes: dict[str, object], title: str, text: str) -> None:
    assert shown(**changes)[title].startswith(text)


def test_a_store_without_a_backup_or_a_receiver() -> None:
    text = dict(store_lines(replace(STORE, base_backups=(), indexed_lsn=None, receiver=None), NOW))
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


def test_nothing_is_said_of_wal_before_there_is_any(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    (line,) = progress_lines(Monitor(Receiver(AsyncValue(""), writer), writer).take())
    assert "0/0" not in line
    assert "timeline" not in line


def test_the_line_comes_in_several_lengths() -> None:
    lines = progress_lines(HEALTHY)
    assert lines[0].startswith("streaming: timeline 1, received 0/4800000, flushed 0/4000000")
    assert [len(line) for line in lines] == sorted(map(len, lines), reverse=True)
    assert all("lag 16.8 MB" in line and "0/4000000" in line for line in lines)
    full = progress_lines(replace(HEALTHY, waiting_for_space="write a: no space"))
    assert full[0].startswith("waiting for space: ")


def test_the_line_tells_how_much_is_to_be_indexed_where_that_is_much() -> None:
    flushed = HEALTHY.flushed_lsn
    for behind, told in ((0, False), (1 << 20, False), (1_200_000_000, True)):
        lines = progress_lines(
            replace(
                HEALTHY, flushed_lsn=flushed + (1 << 31), indexed_lsn=flushed + (1 << 31) - behind
            )
        )
        assert ["1200 MB to be indexed" in line for line in lines] == [told] * len(lines)
