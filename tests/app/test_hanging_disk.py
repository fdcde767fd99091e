"""A disk that hangs, under everything that the application has on it: heartbeats go on.

The file system is a real one whose system calls wait (tests/support/hanging.c, preloaded), so that
RocksDB's and Python's own calls hang too. A call in the event loop would stop the heartbeats.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.servers import PostgresServer

WALSTREAM = [sys.executable, "-m", "walstream"]
DEADLINE_S = 120.0
SILENCE_S = 4.0
"""Longer than three status intervals of the receiver."""
HEARTBEAT = "SELECT reply_time FROM pg_stat_replication WHERE application_name = 'walstream'"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that lets system calls hang."""
    target = tmp_path_factory.mktemp("hanging") / "hanging.so"
    source = Path(__file__).parents[1] / "support" / "hanging.c"
    compiler = (sysconfig.get_config_var("CC") or "cc").split()
    subprocess.run([*compiler, "-shared", "-fPIC", "-O1", "-o", target, source, "-ldl"], check=True)
    return target


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


class HangingDisk:
    """A directory whose system calls wait while it hangs."""

    def __init__(self, path: Path, library: Path) -> None:
        self.path = path
        self.flag = path.with_name("hangs")
        self.log = path.with_name("hangs.log")
        self.environment = {
            **os.environ,
            "LD_PRELOAD": str(library),
            "HANGING_BELOW": str(path),
            "HANGING_WHILE": str(self.flag),
        }

    def hang(self) -> None:
        self.flag.touch()

    def go_on(self) -> None:
        self.flag.unlink(missing_ok=True)

    def waiting(self) -> set[tuple[int, str]]:
        """Returns the threads that have waited, and for which calls."""
        if not self.log.exists():
            return set()
        lines = [line.split() for line in self.log.read_text().splitlines()]
        return {(int(thread), call) for thread, call in lines}


@pytest.fixture
def disk(tmp_path: Path, library: Path) -> Iterator[HangingDisk]:
    (tmp_path / "disk").mkdir()
    disk = HangingDisk(tmp_path / "disk", library)
    yield disk
    disk.go_on()


@pytest.fixture
def start(disk: HangingDisk) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a command on the disk that can hang."""
    started: list[subprocess.Popen[str]] = []

    def run(*arguments: object) -> subprocess.Popen[str]:
        words = [*WALSTREAM, *map(str, arguments)]
        started.append(
            subprocess.Popen(words, env=disk.environment, stderr=subprocess.PIPE, text=True)
        )
        return started[-1]

    yield run
    disk.go_on()
    for process in started:
        process.kill()
        process.communicate()


def heartbeats_go_on(server: PostgresServer, process: subprocess.Popen[str]) -> None:
    """Fails when the server hears nothing for longer than some status intervals."""
    seen = set()
    end = time.monotonic() + SILENCE_S
    while time.monotonic() < end:
        assert process.poll() is None
        seen |= set(server.execute(HEARTBEAT))
        time.sleep(0.1)
    assert len(seen) >= 2, seen


def command(kind: str, server: PostgresServer, disk: HangingDisk) -> list[object]:
    if kind == "run":
        where = [server.replication_dsn, "--store", disk.path / "store", "--no-slot"]
        return ["run", *where, "--status-interval", 1]
    return ["receive", "-v", "-D", disk.path, "-d", server.dsn, "--status-interval", 1,
            "--status-file", disk.path / "status.json"]  # fmt: skip


@pytest.mark.parametrize("kind", ["run", "run --synchronous", "receive", "receive --synchronous"])
def test_heartbeats_go_on_and_signals_are_obeyed(
    kind: str, disk: HangingDisk, start: Callable[..., subprocess.Popen[str]]
) -> None:
    with PostgresServer(18) as server:
        name, *options = kind.split()
        process = start(*command(name, server, disk), *options)
        server.execute("CREATE TABLE t AS SELECT generate_series(1, 1000) AS i")

        def received() -> bool:
            assert process.poll() is None, process.communicate()[1]
            rows = server.execute(
                "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' "
                "AND write_lsn >= pg_current_wal_flush_lsn()"
            )
            return bool(rows[0][0])

        wait_until(received, "nothing was received")
        disk.hang()
        server.execute("INSERT INTO t SELECT generate_series(1, 100000)")
        wait_until(lambda: len(disk.waiting()) >= 2, "nobody waits for the disk")
        heartbeats_go_on(server, process)
        assert process.pid not in {thread for thread, _ in disk.waiting()}

        process.send_signal(signal.SIGTERM)
        heartbeats_or_end = time.monotonic() + 12
        while time.monotonic() < heartbeats_or_end and process.poll() is None:
            time.sleep(0.1)
        assert process.poll() is None  # it waits for what was received
        disk.go_on()
        _, said = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 0, said
        assert "still stopping: WAL was received up to" in said


PAGES = """
import sys
from functools import partial
from pathlib import Path

import trio

from walstream.app.run import open_application
from walstream.config import RunConfig
from walstream.wal.model import BufferTag
from walstream.wal.relpath import parse_relation


async def read(application, tag):
    while True:
        await application.pages.read_history(tag)
        await application.pages.get_page(tag)


async def main(dsn, store, path):
    config = RunConfig(dsn, Path(store), slot=None, status_interval_s=1.0)
    async with open_application(config) as application:
        await application.streaming()
        await application.pages.wait_for_lsn(application.pages.first_lsn, 60)
        locator, fork = parse_relation(path)
        tag = BufferTag(*locator, fork, 0)
        await application.pages.get_page(tag)
        print("read", flush=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, application, tag)
            await trio.to_thread.run_sync(sys.stdin.readline)
            nursery.cancel_scope.cancel()


trio.run(main, *sys.argv[1:])
"""


def test_heartbeats_go_on_while_a_page_waits_for_the_disk(disk: HangingDisk) -> None:
    with PostgresServer(18) as server:
        server.execute("CREATE TABLE t AS SELECT generate_series(1, 1000) AS i")
        path = server.execute("SELECT pg_relation_filepath('t')")[0][0]
        process = subprocess.Popen(
            [sys.executable, "-c", PAGES, server.replication_dsn, disk.path / "store", path],
            env=disk.environment, text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "read\n", process.communicate()
            disk.hang()
            wait_until(lambda: len(disk.waiting()) >= 2, "nobody waits for the disk")
            heartbeats_go_on(server, process)
            assert process.pid not in {thread for thread, _ in disk.waiting()}
            disk.go_on()
            _, said = process.communicate("end\n", timeout=DEADLINE_S)
            assert process.returncode == 0, said
        finally:
            disk.go_on()
            process.kill()
            process.communicate()


def test_a_third_signal_ends_a_process_whose_disk_hangs(
    disk: HangingDisk, start: Callable[..., subprocess.Popen[str]]
) -> None:
    with PostgresServer(18) as server:
        process = start(*command("receive", server, disk))
        wait_until(lambda: server.execute(HEARTBEAT), "no session")
        disk.hang()
        server.execute("CREATE TABLE t AS SELECT generate_series(1, 100000) AS i")
        wait_until(disk.waiting, "nobody waits for the disk")
        assert process.stderr is not None
        process.send_signal(signal.SIGTERM)
        assert any("SIGTERM: stopping" in line for line in process.stderr)
        process.send_signal(signal.SIGTERM)
        assert any("stopping at once" in line for line in process.stderr)

        def ended() -> bool:
            process.send_signal(signal.SIGTERM)
            return process.poll() is not None

        wait_until(ended, "the third signal did not end it")
        assert process.returncode == -signal.SIGTERM
