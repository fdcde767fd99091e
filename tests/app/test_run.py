"""``walstream run`` and its companions as a user types them, against real servers."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rocksdict import Options, Rdict

from tests.support.running import Running, walstream
from tests.support.servers import PostgresServer, Setting
from walstream.cli import exit_codes


def parse(text: str) -> int:
    high, low = text.split("/")
    return int(high, 16) << 32 | int(low, 16)


@pytest.fixture
def run(pg_server: PostgresServer, tmp_path: Path) -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def start(*options: str) -> Running:
        running = Running(pg_server.replication_dsn, tmp_path / "store", *options)
        started.append(running)
        running.wait_until_indexed(0)
        return running

    yield start
    for running in started:
        if running.process.poll() is None:
            running.process.kill()
        running.process.communicate()


def table(server: PostgresServer, name: str) -> tuple[str, int]:
    """Makes a table of ten rows; returns its path and the LSN after that."""
    server.execute(f"CREATE TABLE {name} AS SELECT generate_series(1, 10) AS i")
    path = server.execute(f"SELECT pg_relation_filepath('{name}')")[0][0]
    return str(path), server.insert_lsn()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.mark.pg_versions(15, 18)
def test_run_is_killed_resumed_and_stopped(
    pg_server: PostgresServer, run: Callable[..., Running]
) -> None:
    first = run("--slot", "resumed")
    path, lsn = table(pg_server, "resumed")
    pg_server.execute("CHECKPOINT")
    first.wait_until_indexed(lsn)
    assert first.end(signal.SIGKILL) == -signal.SIGKILL

    pg_server.execute("DELETE FROM resumed WHERE i > 4")
    later = pg_server.insert_lsn()
    port = free_port()
    second = run("--slot", "resumed", "--metrics", f"127.0.0.1:{port}")
    second.wait_until_indexed(later)
    page = walstream("page", second.store, path, 0, "--at", f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}")
    assert page.returncode == 0, page.stderr
    assert page.stdout.count(" normal ") == 10
    assert " xmax 0 " in page.stdout.splitlines()[-1]
    history = walstream("history", second.store, path, 0)
    assert history.stdout.count("Heap/DELETE") == 6
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        metrics = answer.read().decode()
    assert re.search(r"^walstream_flushed_lsn \S+$", metrics, re.MULTILINE)
    assert "walstream_redo_" in metrics
    second.process.send_signal(signal.SIGHUP)
    pg_server.execute("INSERT INTO resumed VALUES (11)")
    second.wait_until_indexed(pg_server.insert_lsn())
    second.wait_until(lambda now: bool(now["receiver"]["sessions"] == 2))
    assert second.end(signal.SIGTERM) == 0

    history = walstream("history", second.store, path, 0)
    stored = second.status()
    assert parse(str(stored["indexed_to"])) >= later
    shutil.rmtree(second.store / "index")
    again = walstream("reindex", second.store)
    assert again.stdout == f"indexed up to {stored['indexed_to']}\n", again.stderr
    assert walstream("history", second.store, path, 0).stdout == history.stdout
    pg_server.execute("SELECT pg_drop_replication_slot('resumed')")


@pytest.mark.pg_versions(18)
def test_an_index_of_an_older_release_is_made_again(
    pg_server: PostgresServer, run: Callable[..., Running]
) -> None:
    first = run()
    path, lsn = table(pg_server, "indexed_again")
    first.wait_until_indexed(lsn)
    assert first.end(signal.SIGTERM) == 0
    expected = walstream("history", first.store, path, 0).stdout
    assert "Heap/INSERT" in expected
    index = Rdict(str(first.store / "index"), Options(raw_mode=True))
    index[b"mformat"] = b"2"
    # What only the old one knows: nothing of it is taken over.
    index[b"mlast_record_end"] = str(1 << 60).encode()
    index.close()
    refused = walstream("history", first.store, path, 0)
    assert refused.returncode == exit_codes.STORE, refused.stderr
    assert "run walstream reindex" in refused.stderr

    later = table(pg_server, "indexed_too")[1]
    second = run()
    second.wait_until_indexed(later)
    assert walstream("history", first.store, path, 0).stdout == expected
    second.process.send_signal(signal.SIGTERM)
    log = second.process.communicate(timeout=60)[1]
    assert second.process.returncode == 0
    assert "the index is of an older release (format 2): it is made again" in log
    assert "the index is made again, up to" in log
    assert not (first.store / "index.old").exists()

    index = Rdict(str(first.store / "index"), Options(raw_mode=True))
    index[b"mformat"] = b"99"
    index.close()
    third = walstream("run", pg_server.replication_dsn, "--store", first.store)
    assert third.returncode == exit_codes.STORE
    assert "expected format 3, got b'99'" in third.stderr


@pytest.mark.pg_versions(15, 18)
def test_a_promotion_is_followed(pg_server: PostgresServer, tmp_path: Path) -> None:
    path, _ = table(pg_server, "promoted")
    # There is no slot: a checkpoint must not remove what is still to be sent.
    with pg_server.standby({"wal_keep_size": "256MB"}) as standby:
        running = Running(standby.replication_dsn, tmp_path / "store", "--no-slot")
        try:
            running.wait_until_indexed(0)
            standby.promote()
            standby.execute("DELETE FROM promoted WHERE i > 4")
            running.wait_until_indexed(standby.insert_lsn())
            history = walstream("history", running.store, path, 0)
            assert history.stdout.count("Heap/DELETE") == 6, history.stderr
            page = walstream("page", running.store, path, 0)
            assert page.stdout.count(" normal ") == 10, page.stderr
            assert (running.store / "wal" / "00000002.history").exists()
            assert running.end(signal.SIGTERM) == 0
        finally:
            running.process.kill()
            running.process.communicate()


@pytest.mark.pg_versions(15, 18)
def test_a_store_of_another_cluster_is_refused(
    pg_server: PostgresServer, run: Callable[..., Running]
) -> None:
    running = run("--no-slot")
    assert running.end(signal.SIGINT) == 0
    with PostgresServer(pg_server.version, unique=True) as other:
        answer = walstream("run", other.replication_dsn, "--store", running.store, "--no-slot")
    assert answer.returncode == exit_codes.WRONG_CLUSTER
    assert "system identifier" in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.pg_versions(15, 18)
def test_a_missing_segment_is_named(pg_server: PostgresServer, run: Callable[..., Running]) -> None:
    running = run("--no-slot")
    path, lsn = table(pg_server, "missing_segment")
    running.wait_until_indexed(lsn)
    assert running.end(signal.SIGINT) == 0
    for segment in (running.store / "wal").iterdir():
        segment.rename(running.store / segment.name)
    answer = walstream("page", running.store, path, 0)
    assert answer.returncode == exit_codes.SEGMENT_MISSING
    assert "is missing" in answer.stderr
    assert answer.stderr.count("\n") == 1


@pytest.mark.pg_versions(15, 18)
def test_a_role_without_replication_is_refused(pg_server: PostgresServer, tmp_path: Path) -> None:
    pg_server.execute("CREATE ROLE plain LOGIN")
    dsn = f"{pg_server.replication_dsn} user=plain"
    answer = walstream("run", dsn, "--store", tmp_path / "store")
    assert answer.returncode in (exit_codes.REFUSED, exit_codes.CONNECTION)
    assert "replication" in answer.stderr.lower()
    assert "Traceback" not in answer.stderr
    assert not (tmp_path / "store").exists()


def test_a_wrong_dsn_is_one_line(tmp_path: Path) -> None:
    answer = walstream(
        "run", "host=127.0.0.1 port=1 user=nobody", "--store", tmp_path / "store", "--no-loop"
    )
    assert answer.returncode == exit_codes.CONNECTION
    assert answer.stderr.startswith("walstream: error: ")
    assert answer.stderr.count("\n") == 1
    answer = walstream("run", "no such thing", "--store", tmp_path / "store")
    assert answer.returncode == exit_codes.REFUSED
    assert "connection string" in answer.stderr


@pytest.mark.pg_versions(15, 18)
def test_wal_level_minimal_is_refused(pg_version: int, tmp_path: Path) -> None:
    config: dict[str, Setting] = {"wal_level": "minimal", "max_wal_senders": 0}
    with PostgresServer(pg_version, config=config) as server:
        answer = walstream("run", server.replication_dsn, "--store", tmp_path / "store")
    assert answer.returncode in (exit_codes.REFUSED, exit_codes.CONNECTION)
    assert answer.stderr.startswith("walstream: error: ")
    assert "max_wal_senders" in answer.stderr or "wal_level" in answer.stderr


def test_not_a_store(tmp_path: Path) -> None:
    for command in (("status",), ("page", "base/1/1", "0"), ("history", "base/1/1", "0")):
        answer = walstream(command[0], tmp_path, *command[1:])
        assert answer.returncode == exit_codes.STORE
        assert "is not a walstream store" in answer.stderr
        assert answer.stderr.count("\n") == 1


@pytest.mark.pg_versions(15, 18)
def test_one_writer_at_a_time(pg_server: PostgresServer, run: Callable[..., Running]) -> None:
    running = run("--no-slot")
    answer = walstream("run", pg_server.replication_dsn, "--store", running.store, "--no-slot")
    assert answer.returncode == exit_codes.STORE
    assert "Traceback" not in answer.stderr


# Mounting takes root, or sudo that asks nothing (as CI has); elsewhere there is no small disk.
AS_ROOT = [] if os.geteuid() == 0 else ["sudo", "-n"]


def can_mount() -> bool:
    if os.environ.get("CI") or not AS_ROOT:
        return True
    if shutil.which("sudo") is None:
        return False
    return subprocess.run([*AS_ROOT, "true"], check=False, capture_output=True).returncode == 0


@pytest.mark.skipif(not can_mount(), reason="mounting a small file system needs root")
@pytest.mark.pg_versions(18)
def test_a_full_disk_pauses_and_resumes(pg_server: PostgresServer, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(
        [*AS_ROOT, "mount", "-t", "tmpfs", "-o", "size=120m", "tmpfs", str(small)], check=True
    )
    try:
        ballast = small / "ballast"
        running = Running(pg_server.replication_dsn, small / "store", "--no-slot")
        running.wait_until_indexed(0)
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:  # until the disk is full
                file.write(bytes(1 << 20))
        pg_server.execute(
            "CREATE TABLE big AS SELECT repeat('x', 500) FROM generate_series(1, 50000)"
        )
        lsn = pg_server.insert_lsn()
        assert running.process.poll() is None
        ballast.unlink()
        running.wait_until_indexed(lsn)
        assert running.end(signal.SIGTERM) == 0
    finally:
        subprocess.run([*AS_ROOT, "umount", "-l", str(small)], check=True)
