"""A real server runs ``archive-push`` as its archive_command and ``restore-wal`` to recover."""

from __future__ import annotations

import filecmp
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.binaries import available_versions
from tests.support.clusters import directory_for_server, give_to_server, roomy_directory
from tests.support.receiving import receive_until, wait_until
from tests.support.server_commands import walstream_for_servers
from tests.support.servers import PostgresServer
from walstream.segments.names import segment_file_name

MB = 1 << 20
WORK = (
    "CREATE TABLE IF NOT EXISTS t (i int, x text);"
    "INSERT INTO t SELECT i, repeat('x', 50) FROM generate_series(1, 20000) i"
)
CONTENT = "SELECT count(*), min(i), max(i) FROM t"
VERSIONS = [version for version in available_versions() if version in (15, 18)]


@pytest.fixture(scope="module")
def walstream() -> Iterator[str]:
    with walstream_for_servers() as command:
        yield command


def without_wal(backup: Path) -> Path:
    """Takes the WAL out of a backup, so that a recovery has only its restore_command."""
    for path in (backup / "pg_wal").iterdir():
        if path.is_file():
            path.unlink()
    return backup


@pytest.mark.parametrize("version", VERSIONS)
def test_a_server_archives_and_others_recover(version: int, walstream: str, tmp_path: Path) -> None:
    archiver = "SELECT archived_count, last_archived_wal, failed_count FROM pg_stat_archiver"
    with directory_for_server(roomy_directory()) as archive:
        restore = f'{walstream} restore-wal {archive} "%f" "%p"'
        with PostgresServer(
            version, segment_size=MB,
            config={
                "archive_mode": "on",
                "archive_command": f'{walstream} archive-push {archive} "%p"',
            },
        ) as server:  # fmt: skip
            backup = without_wal(server.base_backup(tmp_path / "backup"))
            for _ in range(2):
                server.execute(WORK)
            server.execute("INSERT INTO t VALUES (-1, 'the last one')")
            expected = server.execute(CONTENT)
            last = segment_file_name(1, (server.switch_wal() - 1) // MB, MB)
            wait_until(lambda: (archive / last).exists(), server.log_text)
            wait_until(lambda: server.execute(archiver)[0][1] == last, server.log_text)
            assert server.execute(archiver)[0][2] == 0, server.log_text()
            stored = [path for path in archive.iterdir() if len(path.name) == 24]
            assert len(stored) > 3
            for path in stored:
                if (server.wal_directory / path.name).exists():
                    assert filecmp.cmp(path, server.wal_directory / path.name, shallow=False)
        with PostgresServer(
            version, segment_size=MB, backup=backup, signal_file="recovery.signal",
            config={"restore_command": restore},
        ) as recovered:  # fmt: skip
            wait_until(
                lambda: recovered.execute("SELECT pg_is_in_recovery()") == [(False,)],
                recovered.log_text,
            )
            assert recovered.execute(CONTENT) == expected
        # A standby without a primary lives on the archive alone.
        with PostgresServer(
            version, segment_size=MB, backup=backup, signal_file="standby.signal",
            config={"restore_command": restore},
        ) as standby:  # fmt: skip
            table = "SELECT to_regclass('t') IS NOT NULL"
            wait_until(lambda: standby.execute(table) == [(True,)], standby.log_text)
            wait_until(lambda: standby.execute(CONTENT) == expected, standby.log_text)
            assert standby.execute("SELECT pg_is_in_recovery()") == [(True,)]


@pytest.mark.parametrize("version", VERSIONS)
def test_what_was_received_is_recovered_to_the_last_record(
    version: int, walstream: str, tmp_path: Path
) -> None:
    """Nothing was archived and the server is gone: the unfinished segment is used too."""
    wal = tmp_path / "wal"
    wal.mkdir()
    with PostgresServer(version, segment_size=MB) as server:
        server.execute("SELECT pg_create_physical_replication_slot('kept', true)")
        backup = without_wal(server.base_backup(tmp_path / "backup"))
        server.execute(WORK)
        server.execute("INSERT INTO t VALUES (-1, 'the last one')")
        receive_until(wal, server.dsn, server.flush_lsn(), "-S", "kept")
        assert any(path.name.endswith(".partial") for path in wal.iterdir())
        expected = server.execute(CONTENT)
        server.crash()
    with directory_for_server(roomy_directory()) as place:
        archive = place / "wal"
        shutil.copytree(wal, archive)
        give_to_server(archive)
        with PostgresServer(
            version, segment_size=MB, backup=backup, signal_file="recovery.signal",
            config={"restore_command": f'{walstream} restore-wal {archive} "%f" "%p"'},
        ) as recovered:  # fmt: skip
            wait_until(
                lambda: recovered.execute("SELECT pg_is_in_recovery()") == [(False,)],
                recovered.log_text,
            )
            assert recovered.execute(CONTENT) == expected
