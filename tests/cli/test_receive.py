"""``walstream receive`` beside pg_receivewal, killed, promoted under, as a synchronous standby."""

from __future__ import annotations

import filecmp
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.binaries import available_versions, wheel_client
from tests.support.receiving import Receive, receive_until, wait_until
from tests.support.servers import PostgresServer, Setting
from walstream.segments.names import segment_file_name
from walstream.wal.model import format_lsn

MB = 1 << 20
TABLE = "CREATE TABLE IF NOT EXISTS t (i int, x text);"
WORK = TABLE + "INSERT INTO t SELECT i, repeat('x', 50) FROM generate_series(1, {}) i"
RECEIVED = "SELECT coalesce(pg_last_wal_receive_lsn() - '0/0'::pg_lsn, 0)::bigint"


@pytest.fixture
def wal(tmp_path: Path) -> Path:
    directory = tmp_path / "wal"
    directory.mkdir()
    return directory


def create_slot(server: PostgresServer, name: str) -> None:
    server.execute("SELECT pg_create_physical_replication_slot(%s, true)", [name])


@pytest.mark.parametrize(
    ("pg_version", "size"),
    [(14, MB), (15, MB), (15, 64 * MB), (16, MB), (17, 16 * MB), (18, MB), (18, 16 * MB)],
)
def test_bytes_are_those_of_pg_receivewal(
    pg_version: int, size: int, wal: Path, tmp_path: Path
) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    with PostgresServer(pg_version, segment_size=size) as server:
        create_slot(server, "ours")
        create_slot(server, "theirs")
        if pg_version == 14:  # cannot tell a slot's position: both begin before the work
            server.switch_wal()
            server.execute(WORK.format(10))
            both_receive(server, wal, theirs)
        rows = 20000 if size == MB else 100000
        for _ in range(2):
            server.execute(WORK.format(rows))
            server.switch_wal()
        server.execute(WORK.format(5000))
        both_receive(server, wal, theirs)
        complete = {path.name for path in theirs.iterdir() if len(path.name) == 24}
        assert len(complete) >= 2
        assert {path.name for path in wal.iterdir()} == {path.name for path in theirs.iterdir()}
        for name in complete:
            assert filecmp.cmp(wal / name, theirs / name, shallow=False), name
        for path in [*theirs.iterdir(), *wal.iterdir()]:
            assert path.stat().st_size == size
            assert path.stat().st_mode & 0o777 == 0o600


def both_receive(server: PostgresServer, ours: Path, theirs: Path) -> None:
    """Runs pg_receivewal and ours up to the server's position, which is not its last record."""
    end = server.flush_lsn()
    server.execute(TABLE + "INSERT INTO t VALUES (1, 'past the end')")
    peer = server.client("pg_receivewal") or wheel_client("pg_receivewal")
    subprocess.run(
        [peer, "-D", theirs, "-S", "theirs", "-n", "-E", format_lsn(end), "-d", server.dsn],
        check=True, capture_output=True,
    )  # fmt: skip
    receive_until(ours, server.dsn, end, "-S", "ours")


def killed_again_and_again(server: PostgresServer, wal: Path, times: int) -> None:
    """Kills a receiver under load ``times`` times; the result must be the server's own WAL."""
    rng = random.Random(times)
    create_slot(server, "killed")
    server.execute(TABLE)
    pgbench = subprocess.Popen(
        [str(server.client("pgbench")), "-n", "-c", "2", "-T", "100000", "-R", "300",
         "-f", "-", server.dsn],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert pgbench.stdin is not None
    pgbench.stdin.write(b"INSERT INTO t SELECT i, repeat('x', 60) FROM generate_series(1, 30) i;")
    pgbench.stdin.close()
    try:
        for _ in range(times):
            options = ["-S", "killed", "--synchronous"] if rng.random() < 0.5 else ["-S", "killed"]
            with Receive(wal, server.dsn, *options) as receive:
                receive.wait_for("flushed_lsn")
                time.sleep(rng.random() * 0.3)
                assert receive.process.poll() is None, receive.log
                receive.kill()
    finally:
        pgbench.terminate()
        pgbench.wait()
    server.execute("SELECT pg_switch_wal()")
    receive_until(wal, server.dsn, server.flush_lsn(), "-S", "killed")
    complete = sorted(path.name for path in wal.iterdir() if len(path.name) == 24)
    assert complete
    first, last = (int(name[16:], 16) for name in (complete[0], complete[-1]))
    assert len(complete) == last - first + 1
    for name in complete:
        assert filecmp.cmp(wal / name, server.wal_directory / name, shallow=False), name


def test_killed_under_load(wal: Path) -> None:
    with PostgresServer(18, segment_size=MB, config={"wal_keep_size": "4GB"}) as server:
        killed_again_and_again(server, wal, 6)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_killed_under_load_200_times(wal: Path) -> None:
    with PostgresServer(18, segment_size=MB, config={"wal_keep_size": "40GB"}) as server:
        killed_again_and_again(server, wal, 200)


def wait_for_standby(standby: PostgresServer, lsn: int) -> None:
    wait_until(lambda: standby.execute(RECEIVED)[0][0] >= lsn)


def test_two_promotions_in_a_row_are_followed(wal: Path) -> None:
    # There is no slot: a base backup's checkpoint must not remove what is still to be sent.
    keep: dict[str, Setting] = {"wal_keep_size": "256MB"}
    with (
        PostgresServer(18, segment_size=MB, config=keep) as primary,
        primary.standby(keep) as second,
        Receive(wal, second.dsn) as receive,
    ):
        receive.wait_for("flushed_lsn")
        primary.execute(WORK.format(5000))
        end = primary.flush_lsn()
        wait_for_standby(second, end)
        receive.wait_for("received_lsn", end)
        second.promote()
        second.execute(WORK.format(5000))
        receive.wait_for("received_lsn", second.flush_lsn())
        assert receive.status()["timeline"] == 2
        with second.standby(keep) as third:
            second.execute(WORK.format(5000))
            wait_for_standby(third, second.flush_lsn())
            assert receive.stop() == 0, receive.log
            third.promote()
            third.execute(WORK.format(5000))
            receive_until(wal, third.dsn, third.switch_wal())
            names = {path.name for path in wal.iterdir()}
            assert {"00000002.history", "00000003.history"} <= names
            assert not (wal / "dead").exists()
            for path in wal.iterdir():
                if len(path.name) == 24 and path.name.startswith("00000003"):
                    ours = third.wal_directory / path.name
                    assert filecmp.cmp(path, ours, shallow=False)


def test_a_dead_branch_is_set_aside(wal: Path) -> None:
    """The old primary goes on after its standby was promoted; we had followed it."""
    with PostgresServer(18, segment_size=MB) as primary, primary.standby() as standby:
        primary.execute(WORK.format(5000))
        wait_for_standby(standby, primary.flush_lsn())
        receive_until(wal, primary.dsn, primary.flush_lsn())
        standby.promote()
        primary.execute(WORK.format(40000))
        receive_until(wal, primary.dsn, primary.switch_wal())
        dead = primary.flush_lsn()
        standby.execute(WORK.format(5000))
        receive = receive_until(wal, standby.dsn, standby.switch_wal())
        assert "set aside" in receive.log
        aside = sorted(path.name for path in (wal / "dead").iterdir())
        assert aside
        assert all(name.startswith("00000001") for name in aside)
        assert segment_file_name(1, (dead - 1) // MB, MB) in {n[:24] for n in aside}
        # The old primary is refused from now on: its timeline is behind.
        with Receive(wal, primary.dsn) as receive:
            assert receive.exit_code() == 4
            assert "old primary" in receive.log


def test_a_commit_waits_for_our_disk(wal: Path) -> None:
    with PostgresServer(18, segment_size=MB) as server:
        create_slot(server, "sync")
        server.execute(TABLE)
        with Receive(wal, server.dsn, "-S", "sync", "--synchronous") as receive:
            receive.wait_for("flushed_lsn")
            server.configure(synchronous_standby_names="*")
            state = "SELECT sync_state FROM pg_stat_replication"
            wait_until(lambda: server.execute(state) == [("sync",)])
            for i in range(20):
                server.execute("INSERT INTO t VALUES (%s, 'x')", [i])
                end = server.execute("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint")
                flushed = server.execute(
                    "SELECT (flush_lsn - '0/0')::bigint FROM pg_stat_replication"
                )
                assert flushed <= end
            # With the receiver stopped a commit must not return.
            receive.kill()
            insert = [str(server.client("psql")), "-qc", "INSERT INTO t VALUES (-1, 'waits')"]
            with subprocess.Popen([*insert, server.dsn]) as psql:
                with pytest.raises(subprocess.TimeoutExpired):
                    psql.wait(1)
                server.configure(synchronous_standby_names="")
                assert psql.wait(30) == 0


RETAINED = (
    "SELECT (pg_current_wal_flush_lsn() - restart_lsn)::bigint, (restart_lsn - '0/0')::bigint "
    "FROM pg_replication_slots"
)


@pytest.mark.parametrize("version", [v for v in available_versions() if v in (14, 15, 18)])
def test_what_the_slot_retains_is_told(wal: Path, version: int) -> None:
    with PostgresServer(version, segment_size=MB) as server:
        create_slot(server, "kept")
        with Receive(wal, server.dsn, "-S", "kept", "-s", "0") as receive:
            # No status is sent but at the end of a segment: the slot stays behind there.
            receive.wait_for("flushed_lsn")
            server.execute(WORK.format(20000))
            server.execute("CREATE TABLE more ()")
            end = server.flush_lsn()
            receive.wait_for("received_lsn", end)
            wait_until(lambda: server.execute(RETAINED)[0][0] < MB)
            ((retained, restart),) = server.execute(RETAINED)
            assert retained > 0
            wait_until(lambda: receive.status()["retained_bytes"] == retained)
            assert receive.status()["slot_restart_lsn"] == format_lsn(restart)


def test_slots_are_created_and_dropped(tmp_path: Path) -> None:
    with PostgresServer(min(available_versions()), segment_size=MB) as server:
        base = [sys.executable, "-m", "walstream", "receive", "-d", server.dsn, "-S", "made"]
        slots = "SELECT slot_name, restart_lsn IS NOT NULL FROM pg_replication_slots"
        assert subprocess.run([*base, "--create-slot"], check=False).returncode == 0
        assert server.execute(slots) == [("made", True)]
        again = subprocess.run(
            [*base, "--create-slot"], check=False, capture_output=True, text=True
        )
        assert again.returncode == 4
        assert "already exists" in again.stderr
        assert "Traceback" not in again.stderr
        exists = subprocess.run([*base, "--create-slot", "--if-not-exists"], check=False)
        assert exists.returncode == 0
        assert subprocess.run([*base, "--drop-slot"], check=False).returncode == 0
        assert server.execute(slots) == []


def test_restore_wal_gives_whole_segments(wal: Path, tmp_path: Path) -> None:
    """The unfinished one too, up to its last whole record."""
    with PostgresServer(18, segment_size=MB) as server:
        server.execute(WORK.format(30000))
        receive_until(wal, server.dsn, server.flush_lsn())
        assert any(path.name.endswith(".partial") for path in wal.iterdir())
        restore = [sys.executable, "-m", "walstream", "restore-wal", str(wal)]
        target = tmp_path / "restored"
        for name in {path.name[:24] for path in wal.iterdir()}:
            subprocess.run([*restore, name, str(target)], check=True)
            assert target.stat().st_size == MB
            if (wal / name).exists():
                assert filecmp.cmp(target, wal / name, shallow=False)
        missing = subprocess.run([*restore, "00000002.history", str(target)], check=False)
        assert missing.returncode == 1


def test_archive_push_is_idempotent_and_verified(wal: Path) -> None:
    with PostgresServer(18, segment_size=MB) as server:
        server.execute(WORK.format(20000))
        name = segment_file_name(1, (server.switch_wal() - 1) // MB, MB)
        source = server.wal_directory / name
        push = [sys.executable, "-m", "walstream", "archive-push", str(wal)]
        for _ in range(2):
            assert subprocess.run([*push, str(source)], check=False).returncode == 0
        assert filecmp.cmp(wal / name, source, shallow=False)
        damaged = wal.with_name(name)
        content = bytearray(source.read_bytes())
        content[9000] ^= 1
        damaged.write_bytes(content)
        (wal / name).unlink()
        found = subprocess.run([*push, str(damaged)], check=False, capture_output=True, text=True)
        assert found.returncode == 7
        assert "damaged" in found.stderr
        assert not (wal / name).exists()
    with PostgresServer(18, segment_size=MB, unique=True) as other:
        subprocess.run([*push, str(damaged)], check=False, capture_output=True)
        receive_until(wal, other.dsn, other.switch_wal())
