"""A second base backup, and the OID of a database used again, on a server without page images.

With full_page_writes off nothing hides a record that is replayed where it must not be. What is
right is what PostgreSQL's own recovery makes of each backup: its primary keeps the visibility maps
of a database that was copied with the strategy wal_log, which their records leave out.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.pages.test_service import build_service
from tests.support.servers import PostgresServer
from walstream.pages.compare import compare_with_directory
from walstream.pages.service import Base, PageService
from walstream.store.base_backup_pages import BasePages
from walstream.wal.model import parse_lsn

CONFIG = {"full_page_writes": "off", "autovacuum": "off", "wal_keep_size": "1GB"}
AGAIN = "CREATE DATABASE again OID = 99999 STRATEGY = {}"


class Twice(NamedTuple):
    """A server that was stopped, its backups, and the LSN of its restore point ``end``."""

    server: PostgresServer
    service: PageService
    backups: list[Path]
    end_lsn: int


def base_of(backup: Path) -> Base:
    start_lsn = parse_lsn((backup / "backup_label").read_text().split()[3])
    return Base(start_lsn, start_lsn, BasePages(backup))


def fill(server: PostgresServer, policies: int) -> None:
    """Fill a catalog that is empty in every new database: its file has the same number in each."""
    server.execute("CREATE TABLE t AS SELECT 1 AS one", dbname="again")
    server.execute(
        f"DO $$ BEGIN FOR i IN 1..{policies} LOOP EXECUTE format('CREATE POLICY p%s ON t', i); "
        "END LOOP; END $$",
        dbname="again",
    )


@pytest.fixture(scope="module")
def twice(pg_version: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twice]:
    with PostgresServer(pg_version, config=CONFIG) as server:
        path = tmp_path_factory.mktemp("backups")
        first = server.base_backup(path / "first")
        server.execute("CREATE TABLE kept (id int, note text)")
        server.execute("INSERT INTO kept SELECT i, 'note ' || i FROM generate_series(1, 3000) i")
        server.execute("VACUUM (FREEZE) kept")
        server.execute("UPDATE kept SET note = 'other' WHERE id IN (1, 2000)")
        server.execute("VACUUM kept")  # sets again the bits that the update cleared
        for strategy in ("wal_log", "file_copy"):
            server.execute(AGAIN.format(strategy))
            fill(server, 300)
            server.execute("VACUUM (FREEZE)", dbname="again")  # a visibility map for every table
            server.execute("DROP DATABASE again")
        second = server.base_backup(path / "second")
        server.execute("UPDATE kept SET note = 'last' WHERE id = 3000")
        server.execute(AGAIN.format("wal_log"))
        fill(server, 1)
        server.execute("VACUUM (FREEZE) pg_policy", dbname="again")
        end_lsn = parse_lsn(str(server.execute("SELECT pg_create_restore_point('end')")[0][0]))
        server.stop()
        service = build_service(server, first, tmp_path_factory.mktemp("store"))
        yield Twice(server, service, [first, second], end_lsn)
        service.index.close()


@pytest.mark.pg_versions(15, 18)
@pytest.mark.parametrize(("recovered_from", "used"), [(0, [0]), (1, [1]), (1, [0, 1])])
async def test_every_page_equals_that_of_a_recovery(
    twice: Twice, recovered_from: int, used: list[int]
) -> None:
    config = {
        **CONFIG,
        "restore_command": f"cp {twice.server.wal_directory}/%f %p",
        "recovery_target_name": "end",
        "recovery_target_action": "promote",
    }
    with PostgresServer(
        twice.server.version,
        config=config,
        backup=twice.backups[recovered_from],
        signal_file="recovery.signal",
    ) as recovered:
        while recovered.execute("SELECT pg_is_in_recovery()") != [(False,)]:
            pass
        recovered.stop()
        directory = recovered.data_directory
        twice.service.bases[:] = [base_of(twice.backups[number]) for number in used]
        files = [p.relative_to(directory).as_posix() for p in directory.rglob("*") if p.is_file()]
        comparison = await compare_with_directory(
            twice.service, directory, sorted(files), twice.end_lsn
        )
    assert comparison.differences == []
    assert any("_vm" in name and name.startswith("base/99999/") for name in files)
