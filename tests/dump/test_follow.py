"""``walstream dump`` of WAL that is being written: a directory, a server, timelines."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dump.dumping import COMMAND, SEGMENT, is_zero, ours, segments, theirs
from tests.support.servers import PostgresServer
from walstream.cli.exit_codes import (
    CONNECTION,
)

pytestmark = pytest.mark.pg_versions(15, 18)


@pytest.fixture
def live(pg_version: int) -> Iterator[PostgresServer]:
    with PostgresServer(pg_version, config={"wal_level": "logical"}) as server:
        yield server


def read_until(process: subprocess.Popen[bytes], words: bytes) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if words in line:
            return
    raise AssertionError(f"the dump ended before {words!r}")


def test_follow_a_servers_directory(live: PostgresServer) -> None:
    # A shell without job control starts its background processes with interrupts ignored.
    command = ["env", "--ignore-signal=INT", *COMMAND, "-p", str(live.wal_directory), "-f"]
    command += ["-r", "LogicalMessage"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            for number in range(3):
                live.execute(f"SELECT pg_logical_emit_message(false, 'note {number}', 'x')")
                live.execute("CHECKPOINT")
                read_until(process, f'prefix "note {number}"'.encode())
            live.switch_wal()
            live.execute("SELECT pg_logical_emit_message(false, 'after', 'x')")
            live.execute("CHECKPOINT")
            read_until(process, b'prefix "after"')
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
        finally:
            process.kill()


def test_follow_waits_out_a_record_that_is_half_written(wal: Path, tmp_path: Path) -> None:
    name = segments(wal)[0]
    lines = ours(wal / name).stdout.splitlines(keepends=True)
    middle = lines[len(lines) // 2].decode()
    at = int(middle.split("lsn: ")[1].split(",")[0].split("/")[1], 16) % SEGMENT
    data = (wal / name).read_bytes()
    target = tmp_path / name
    target.write_bytes(data[: at + 22] + bytes(SEGMENT - at - 22))
    command = [*COMMAND, "-p", str(tmp_path), "-f", "-n", str(len(lines))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            read_until(process, lines[len(lines) // 2 - 1].rstrip())
            with target.open("r+b") as file:
                file.seek(at)
                file.write(data[at:])
            read_until(process, lines[-1].rstrip())
            assert process.wait(20) == 0
        finally:
            process.kill()


def test_a_live_server(live: PostgresServer) -> None:
    start = live.execute("SELECT pg_current_wal_lsn()")[0][0]
    live.execute("SELECT pg_logical_emit_message(false, 'note', 'past')")
    command = [*COMMAND, live.dsn, "-s", start, "-r", "LogicalMessage", "-n", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            read_until(process, b"payload (4 bytes): 70 61 73 74")
            live.execute("SELECT pg_logical_emit_message(false, 'note', 'now')")
            live.execute("CHECKPOINT")
            read_until(process, b"payload (3 bytes): 6E 6F 77")
            assert process.wait(20) == 0
        finally:
            process.kill()
    end = live.execute("SELECT pg_current_wal_lsn()")[0][0]
    directory = ours("-p", live.wal_directory, "-s", start, "-e", end)
    assert ours(live.dsn, "-s", start, "-e", end).stdout == directory.stdout
    refused = ours("host=127.0.0.1 port=1 user=nobody")
    assert refused.returncode == CONNECTION
    assert b"Traceback" not in refused.stderr


def test_timelines(live: PostgresServer, pg_version: int, tmp_path: Path) -> None:
    with live.standby() as standby:
        standby.promote()
        standby.execute("CREATE TABLE after_promotion ()")
        standby.stop()
        live.stop()
        for directory in (live.wal_directory, standby.wal_directory):
            for file in directory.iterdir():
                if file.is_file() and not is_zero(file):
                    shutil.copy(file, tmp_path)
    result = ours("-p", tmp_path)
    assert result.returncode == 0, result.stderr
    assert b"END_OF_RECOVERY tli 2; prev tli 1" in result.stdout
    old = ours("-p", tmp_path, "-t", "1")
    assert old.returncode == 0, old.stderr
    assert b"END_OF_RECOVERY" not in old.stdout
    assert old.stdout not in (b"", result.stdout)
    newest = min(name for name in segments(tmp_path) if name.startswith("000000020"))
    expected = theirs(pg_version, tmp_path / newest).stdout
    assert ours(tmp_path / newest).stdout == expected
    assert b"END_OF_RECOVERY" in expected
