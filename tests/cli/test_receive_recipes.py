"""The eight failures of pg_receivewal, as recipes: walstream must do better in each."""

from __future__ import annotations

import filecmp
import gzip
import signal
import time
from pathlib import Path

import pytest

from tests.support.receiving import Receive, receive_until
from tests.support.servers import PostgresServer
from walstream.cli import exit_codes
from walstream.segments.names import segment_file_name

MB = 1 << 20
TABLE = "CREATE TABLE IF NOT EXISTS t (i int, x text);"
WORK = TABLE + "INSERT INTO t SELECT i, repeat('x', 50) FROM generate_series(1, 20000) i"


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.is_file())


def assert_same_as_server(directory: Path, server: PostgresServer, least: int = 1) -> None:
    complete = [name for name in names(directory) if len(name) == 24]
    assert len(complete) >= least
    for name in complete:
        assert filecmp.cmp(directory / name, server.wal_directory / name, shallow=False), name


def begin(directory: Path, server: PostgresServer) -> None:
    """Receives what the server's current segment holds, so that the directory has a start."""
    server.execute(TABLE)
    receive_until(directory, server.dsn, server.flush_lsn())
    assert names(directory)


@pytest.fixture
def wal(tmp_path: Path) -> Path:
    directory = tmp_path / "wal"
    directory.mkdir()
    return directory


def test_1_another_cluster_is_refused_before_a_byte_is_written(wal: Path) -> None:
    with PostgresServer(18, segment_size=MB) as one:
        begin(wal, one)
        one.execute(WORK)
        receive_until(wal, one.dsn, one.switch_wal())
    with PostgresServer(18, segment_size=MB, unique=True) as other:
        for _ in range(3):
            other.execute(WORK)
        before = {path: path.read_bytes() for path in wal.iterdir()}
        with Receive(wal, other.dsn) as receive:
            assert receive.exit_code() == exit_codes.WRONG_CLUSTER
            assert "system identifier" in receive.log
    assert {path: path.read_bytes() for path in wal.iterdir()} == before


@pytest.mark.parametrize("size", [0, 8192, MB - 1, MB + 8192])
def test_2_torn_padding_is_repaired(wal: Path, size: int) -> None:
    with PostgresServer(18, segment_size=MB) as server:
        server.execute(WORK)
        end = server.switch_wal()
        receive_until(wal, server.dsn, end)
        name = segment_file_name(1, -(-end // MB), MB) + ".partial"
        (wal / name).write_bytes(bytes(size))
        server.execute(WORK)
        receive_until(wal, server.dsn, server.switch_wal())
        assert (wal / name.removesuffix(".partial")).exists()
        assert_same_as_server(wal, server, 2)


def test_3_promotion_at_a_segment_boundary_is_followed(wal: Path) -> None:
    with PostgresServer(18, segment_size=MB) as primary, primary.standby() as standby:
        with Receive(wal, primary.dsn) as receive:
            receive.wait_for("flushed_lsn")
            primary.execute(WORK)
            switch = -(-primary.switch_wal() // MB) * MB
            receive.wait_for("flushed_lsn", switch)
            deadline = time.monotonic() + 60
            while standby.execute(
                "SELECT coalesce(pg_last_wal_receive_lsn() - '0/0'::pg_lsn, 0)::bigint"
            ) < [(switch,)]:
                assert time.monotonic() < deadline
            primary.crash()
            receive.stop()
        standby.promote()
        history = (standby.wal_directory / "00000002.history").read_text()
        assert f"/{switch & 0xFFFFFFFF:X}\t" in history
        assert not [name for name in names(wal) if name.endswith(".partial")]
        standby.execute(WORK)
        receive_until(wal, standby.dsn, standby.switch_wal())
        assert (wal / "00000002.history").read_text() == history
        assert (wal / segment_file_name(2, switch // MB, MB)).exists()
        assert not (wal / "dead").exists()


@pytest.mark.parametrize("method", ["gzip", "lz4", "zstd"])
def test_4_no_stale_tail_in_compressed_segments(wal: Path, method: str) -> None:
    with PostgresServer(18, segment_size=MB) as server:
        server.execute(TABLE)
        receive_until(wal, server.dsn, server.switch_wal())
        with Receive(wal, server.dsn, "--synchronous", "-Z", f"{method}:1") as receive:
            receive.wait_for("flushed_lsn")
            with server.connect() as session:
                for i in range(400):
                    session.execute("INSERT INTO t VALUES (%s, 'tiny')", [i])
            receive.wait_for("flushed_lsn", server.flush_lsn())
            receive.kill()
        server.execute(WORK)
        receive_until(wal, server.dsn, server.switch_wal(), "-Z", f"{method}:9")
        suffix = {"gzip": ".gz", "lz4": ".lz4", "zstd": ".zst"}[method]
        compressed = [path for path in wal.iterdir() if path.name.endswith(suffix)]
        assert len(compressed) > 1
        for path in compressed:
            original = (server.wal_directory / path.name.removesuffix(suffix)).read_bytes()
            assert decompressed(path) == original
        assert not [name for name in names(wal) if ".tmp" in name]


def decompressed(path: Path) -> bytes:
    """What the method's own tools read, strictly: to the end, nothing behind it."""
    if path.suffix == ".gz":
        return gzip.decompress(path.read_bytes())
    if path.suffix == ".lz4":
        import lz4.frame

        return bytes(lz4.frame.decompress(path.read_bytes()))
    import zstandard

    reader = zstandard.ZstdDecompressor().decompressobj()
    content = reader.decompress(path.read_bytes())
    assert reader.eof
    assert reader.unused_data == b""
    return content


def test_5_a_second_receiver_does_not_start(wal: Path) -> None:
    with PostgresServer(18, segment_size=MB) as server, Receive(wal, server.dsn) as first:
        first.wait_for("flushed_lsn")
        other = wal.with_name("second")
        other.symlink_to(wal)
        with Receive(other, server.dsn) as second:
            assert second.exit_code() == exit_codes.STORE
            assert "in use" in second.log
        assert first.process.poll() is None


def test_6_a_hole_is_named_and_fetched_again(wal: Path) -> None:
    with PostgresServer(18, segment_size=MB) as server:
        begin(wal, server)
        for _ in range(3):
            server.execute(WORK)
        receive_until(wal, server.dsn, server.switch_wal())
        start = names(wal)[0]
        for _ in range(2):
            server.execute(WORK)
        receive_until(wal, server.dsn, server.switch_wal())
        missing = [name for name in names(wal) if len(name) == 24][1:3]
        for name in missing:
            (wal / name).unlink()
        server.execute(WORK)
        receive = receive_until(wal, server.dsn, server.switch_wal())
        assert "WAL is missing" in receive.log
        assert "was sent again" in receive.log
        assert names(wal)[0] == start
        assert set(missing) <= set(names(wal))
        assert_same_as_server(wal, server, 4)


def test_6_a_hole_that_the_server_no_longer_has_is_named(wal: Path) -> None:
    with PostgresServer(18, segment_size=MB) as server:
        begin(wal, server)
        server.execute(WORK)
        receive_until(wal, server.dsn, server.switch_wal())
        missing = [name for name in names(wal) if len(name) == 24][1]
        (wal / missing).unlink()
        (server.wal_directory / missing).unlink()
        server.execute(WORK)
        receive = receive_until(wal, server.dsn, server.switch_wal())
        assert "does not have it any more" in receive.log
        assert receive.status()["holes"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_7_signals_finish_the_fsync(wal: Path, number: signal.Signals) -> None:
    with PostgresServer(18, segment_size=MB) as server, Receive(wal, server.dsn) as receive:
        receive.wait_for("flushed_lsn")
        server.execute(WORK)
        end = server.flush_lsn()
        receive.wait_for("received_lsn", end)
        assert receive.stop(number) == 0
        status = receive.status()
        assert status["flushed_lsn"] == status["received_lsn"]


def test_7_sighup_reads_the_configuration_again(wal: Path, tmp_path: Path) -> None:
    config = tmp_path / "walstream.toml"
    with PostgresServer(18, segment_size=MB) as server:
        config.write_text(f'conninfo = "{server.dsn}"')
        with Receive(wal, "", "--config", str(config)) as receive:
            receive.wait_for("flushed_lsn")
            config.write_text(f'conninfo = "{server.dsn} application_name=changed"')
            receive.process.send_signal(signal.SIGHUP)
            receive.wait_for_log("connection string changed")
            server.execute(WORK)
            receive.wait_for("flushed_lsn", server.switch_wal())
            assert server.execute("SELECT application_name FROM pg_stat_replication") == [
                ("changed",)
            ]
            assert receive.stop() == 0


def test_7_endpos_of_an_idle_server_ends(wal: Path) -> None:
    with PostgresServer(18, segment_size=MB) as server:
        server.execute(WORK)
        end = server.flush_lsn()
        receive_until(wal, server.dsn, end)
        receive_until(wal, server.dsn, end)  # nothing to do at all


def test_8_wal_that_the_server_removed_is_a_named_gap(wal: Path) -> None:
    with PostgresServer(18, segment_size=MB) as server:
        begin(wal, server)
        for _ in range(3):
            server.execute(WORK)
            server.switch_wal()
        server.execute("CHECKPOINT")
        server.execute("CHECKPOINT")
        server.execute("SELECT pg_create_physical_replication_slot('late', true)")
        for path in server.wal_directory.iterdir():
            if len(path.name) == 24 and path.name < segment_file_name(
                1, server.flush_lsn() // MB, MB
            ):
                path.unlink()
        with Receive(wal, server.dsn, "-S", "late") as receive:
            assert receive.exit_code() == exit_codes.REFUSED
            assert "slot late begins at" in receive.log
            assert "WAL is missing from" in receive.log
            assert "archive-push" in receive.log


def test_8_a_slot_that_is_behind_does_not_move_the_start(wal: Path) -> None:
    with PostgresServer(18, segment_size=MB) as server:
        server.execute("SELECT pg_create_physical_replication_slot('early', true)")
        begin(wal, server)
        for _ in range(2):
            server.execute(WORK)
        receive_until(wal, server.dsn, server.switch_wal())
        first = names(wal)[0]
        server.execute(WORK)
        end = server.switch_wal()
        receive_until(wal, server.dsn, end, "-S", "early")
        assert names(wal)[0] == first
        restart = server.execute(
            "SELECT (restart_lsn - '0/0'::pg_lsn)::bigint FROM pg_replication_slots"
        )
        assert restart >= [(end,)]


def test_a_missing_slot_is_refused(wal: Path) -> None:
    with (
        PostgresServer(18, segment_size=MB) as server,
        Receive(wal, server.dsn, "-S", "nobody") as receive,
    ):
        assert receive.exit_code() == exit_codes.REFUSED
        assert "does not exist" in receive.log


def test_a_server_that_is_behind_is_refused(wal: Path) -> None:
    with PostgresServer(18, segment_size=MB) as server:
        backup = server.base_backup(wal.with_name("backup"))
        begin(wal, server)
        for _ in range(2):
            server.execute(WORK)
        receive_until(wal, server.dsn, server.switch_wal())
        with (
            PostgresServer(18, segment_size=MB, backup=backup) as old,
            Receive(wal, old.dsn) as receive,
        ):
            assert receive.exit_code() == exit_codes.REFUSED
            assert "behind" in receive.log


def test_a_clone_that_did_the_same_work_is_refused(wal: Path) -> None:
    """Same system identifier, timeline and sizes of records; the directory ends at a boundary."""
    with PostgresServer(18, segment_size=MB, config={"wal_keep_size": "100MB"}) as server:
        begin(wal, server)
        backup = server.base_backup(wal.with_name("backup"))
        with PostgresServer(18, segment_size=MB, backup=backup) as clone:
            for one in (server, clone):
                one.execute(WORK)
            receive_until(wal, server.dsn, -(-server.switch_wal() // MB) * MB)
            assert not [name for name in names(wal) if name.endswith(".partial")]
            for _ in range(2):
                clone.execute(WORK)
                clone.switch_wal()
            before = {path: path.read_bytes() for path in wal.iterdir()}
            with Receive(wal, clone.dsn) as receive:
                assert receive.exit_code() == exit_codes.WAL_DAMAGED
                assert "another history" in receive.log
            assert {path: path.read_bytes() for path in wal.iterdir()} == before
            server.execute(WORK)
            receive_until(wal, server.dsn, server.switch_wal())


def test_a_role_that_may_not_and_a_role_that_is_not_are_refused(wal: Path) -> None:
    with PostgresServer(18, segment_size=MB) as server:
        server.execute("CREATE ROLE reader LOGIN")
        for role in ("reader", "nobody"):
            with Receive(wal, f"{server.dsn} user={role}") as receive:
                assert receive.exit_code() == exit_codes.REFUSED
                assert role == "reader" or "does not exist" in receive.log
                assert "28000" not in receive.log
                assert ".c:" not in receive.log


@pytest.mark.pg_versions(15, 18)
def test_a_cancelled_walsender_connects_again(pg_version: int, wal: Path) -> None:
    with (
        PostgresServer(pg_version, segment_size=MB) as server,
        Receive(wal, server.dsn) as receive,
    ):
        receive.wait_for("flushed_lsn")
        server.execute("SELECT pg_cancel_backend(pid) FROM pg_stat_replication")
        server.execute(WORK)
        receive.wait_for("flushed_lsn", server.switch_wal())
        assert receive.stop() == 0
