"""Leases: who holds one is seen, who has ended is not; gc and a reader never miss each other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.archives import mixed_wal, write_segments
from walstream import read_wal
from walstream.errors import StoreError
from walstream.store.leases import (
    GATE,
    LEASES,
    RESTORING,
    Lease,
    closed_gate,
    lease_on,
    note_restore,
    read_leases,
)
from walstream.store.store import Store, StoreIdentity
from walstream.wal.timeline import INFINITY

HOLDER = """
import sys
from pathlib import Path
from walstream.store.leases import Lease
lease = Lease(Path(sys.argv[1]), 0x1000, 0x2000)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    with Store.create(tmp_path / "store", StoreIdentity(77, 18, 1 << 20, 8192, True, True)):
        pass
    return tmp_path / "store"


def held(store: Path) -> list[tuple[int, int]]:
    return [(lease.from_lsn, lease.to_lsn) for lease in read_leases(store)]


def names(store: Path) -> list[str]:
    return sorted(path.name for path in (store / LEASES).iterdir())


def test_a_lease_says_what_is_needed_until_it_is_given_up(store: Path) -> None:
    with Lease(store, 5, 9) as lease:
        assert held(store) == [(5, 9)]
        lease.narrow(6, 8)
        assert held(store) == [(6, 8)]
        with Lease(store):
            assert sorted(held(store)) == [(0, INFINITY), (6, 8)]
        assert held(store) == [(6, 8)]
        assert f"process {os.getpid()}" in read_leases(store)[0].who
    assert held(store) == []
    assert names(store) == []


@contextmanager
def holder(store: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(store)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_lease_ends_with_its_process_however_that_ends(store: Path) -> None:
    with holder(store) as process:
        assert held(store) == [(0x1000, 0x2000)]
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert len(names(store)) == 1
        assert held(store) == []
        assert names(store) == []


def test_a_reader_waits_for_the_gate_and_is_seen_behind_it(store: Path) -> None:
    """Either gc sees the lease, or the reader sees what gc has left."""
    order = []
    reading = threading.Event()

    def read() -> None:
        reading.set()
        with Lease(store, 1, 2):
            order.append("lease")
            order.append(f"{len(read_leases(store))} seen")

    with Lease(store), closed_gate(store):
        thread = threading.Thread(target=read)
        thread.start()
        assert reading.wait(10)
        order.append("gc looks")
        assert held(store) == [(0, INFINITY)]
        order.append("gc is done")
    thread.join(10)
    assert order[:3] == ["gc looks", "gc is done", "lease"]
    assert order[3].endswith(" seen")


def test_two_gcs_do_not_work_at_once(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("walstream.store.leases.GATE_PATIENCE_S", 0.0)
    with (
        closed_gate(store),
        pytest.raises(StoreError, match="another gc is at work"),
        closed_gate(store),
    ):
        pass
    with closed_gate(store):
        pass


@pytest.mark.parametrize("content", ["x\n", "0/1 end 7", "0/1 end 7 2026-11-30 00:00:00 who", "/"])
def test_what_cannot_be_understood_stops_gc_while_it_is_held(store: Path, content: str) -> None:
    with Lease(store):
        (path,) = (store / LEASES).iterdir()
        path.write_text(content)
        with pytest.raises(StoreError, match="cannot be understood"):
            read_leases(store)
    # Without a holder it says nothing at all.
    path.write_text(content)
    assert held(store) == []


def test_on_a_full_disk_a_lease_without_words_needs_everything(store: Path) -> None:
    with Lease(store, 5, 9):
        (path,) = (store / LEASES).iterdir()
        path.write_bytes(b"")
        assert held(store) == [(0, INFINITY)]


READER = """
import os, sys
from pathlib import Path
from walstream.store.leases import Lease
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
lease = Lease(Path(sys.argv[1]))
print(lease.held)
lease.narrow(1, 2)
lease.release()
"""


@pytest.mark.parametrize("known", [False, True])
def test_who_may_not_write_reads_without_a_lease(store: Path, known: bool) -> None:
    if known:
        with Lease(store):
            pass
    # Root is let in whatever the mode: the reader is somebody else then.
    for directory in (*store.parents[:2], store):
        directory.chmod(0o755)
    store.chmod(0o555)
    if known:
        (store / LEASES).chmod(0o555)
    before = sorted(store.rglob("*"))
    answer = subprocess.run(
        [sys.executable, "-c", READER, str(store)], capture_output=True, text=True, check=False
    )
    store.chmod(0o755)
    assert answer.stdout == "False\n", answer.stderr
    assert sorted(store.rglob("*")) == before


def test_a_recovery_leaves_one_note_that_goes_with_time(
    store: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    note_restore(store, 1 << 20)
    note_restore(store, 2 << 20)
    assert held(store) == [(2 << 20, INFINITY)]
    (name,) = names(store)
    assert name.endswith(RESTORING)
    written = (store / LEASES / name).stat().st_mtime
    # A clock that was set back makes it hold for longer.
    assert len(read_leases(store, written - 1e6)) == 1
    assert len(read_leases(store, written + 3599)) == 1
    assert read_leases(store, written + 3601) == []
    assert names(store) == []


def test_a_note_that_cannot_be_written_is_no_error(store: Path) -> None:
    (store / LEASES).write_text("no directory")
    note_restore(store, 1)


def test_a_plain_directory_of_wal_gets_no_lease(tmp_path: Path) -> None:
    with lease_on(tmp_path):
        assert list(tmp_path.iterdir()) == []


def test_records_are_read_under_a_lease(store: Path) -> None:
    write_segments(store / "wal", mixed_wal(2).close())
    records = read_wal(store)
    assert next(records)
    assert held(store) == [(0, INFINITY)]
    records.close()  # type: ignore[attr-defined]
    assert held(store) == []
    assert (store / GATE).exists()
