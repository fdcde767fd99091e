"""A cluster's story with everything that a data directory can hold, its backup, and its recovery.

``told`` gives a server that was shut down, the base backup of its beginning and walstream's view of
both. ``recovered`` is PostgreSQL's own word: point-in-time recovery from the same backup and WAL.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.support.redo import InProcessRedo
from tests.support.servers import PostgresServer, Setting
from tests.support.waldump import decoded
from tests.support.workload import WORKLOAD_CONFIG, make_multixacts, run_workload, use_databases
from walstream.datadir.past import Past
from walstream.errors import WalError
from walstream.index.ingest import Ingest, begin_index
from walstream.index.page_index import PageIndex
from walstream.pages.service import Base, ClusterFacts, PageService
from walstream.segments.reader import SegmentReader
from walstream.store.base_backup import BaseBackup
from walstream.store.base_backup_pages import BasePages
from walstream.wal.model import format_lsn, parse_lsn

CONFIG: dict[str, Setting] = {**WORKLOAD_CONFIG, "allow_in_place_tablespaces": True}


class Story(NamedTuple):
    """``records``: start and end LSN of every record after the backup; ``past`` is walstream's."""

    server: PostgresServer
    backup: Path
    records: list[tuple[int, int]]
    past: Past


@contextlib.contextmanager
def told(version: int, directory: Path, *, whole: bool, **options: object) -> Iterator[Story]:
    """A server's story; ``whole`` with the workload of every kind of record.

    Args:
        version: major version.
        directory: for the backup and the index.
        whole: all of it, tens of MB of WAL; else some seconds' worth.
        options: of the server.
    """
    with PostgresServer(version, config=CONFIG, **options) as server:  # type: ignore[arg-type]
        before_the_backup(server)
        backup = server.base_backup(directory / "base")
        stop_lsn = server.insert_lsn()
        if whole:
            # What is prepared would make its rewrites of catalogs and its freezing wait.
            server.execute("COMMIT PREPARED 'before'")
            run_workload(server)
            prepare_before(server, -2)
            scatter(server)
        else:
            scatter(server)
            make_multixacts(server)
            use_databases(server)
        finish(server)
        end_lsn = server.flush_lsn()
        server.stop()
        past = open_past(server, backup, stop_lsn, directory)
        records = [
            (raw.start_lsn, raw.end_lsn)
            for raw in decoded(server.wal_directory, server.segment_size, end_lsn)
            if raw.start_lsn >= stop_lsn
        ]
        try:
            yield Story(server, backup, records, past)
        finally:
            past.pages.index.close()


def open_past(server: PostgresServer, backup: Path, stop_lsn: int, directory: Path) -> Past:
    """Returns walstream's view of a server's pg_wal and a backup, redo in this process."""
    label = (backup / "backup_label").read_text()
    (directory / "base.toml").touch()
    start_lsn, checkpoint_lsn = (
        parse_lsn(found)
        for found in re.findall(r"^(?:START WAL|CHECKPOINT) LOCATION: (\S+)", label, re.MULTILINE)
    )
    index = PageIndex(directory / "index")
    pages = BasePages(backup)
    archive = SegmentReader(server.wal_directory, server.segment_size)
    begin_index(index, start_lsn, pages.sizes().items())
    ingest = Ingest(index, archive, server.version, server.segment_size, None)
    with contextlib.suppress(WalError):
        while ingest.end_of_wal is None:
            ingest.advance(ingest.read_lsn + server.segment_size)
    checksums = server.version >= 18
    service = PageService(
        index,
        archive,
        [Base(start_lsn, stop_lsn, pages)],
        ClusterFacts(server.version, checksums, checksums),
        InProcessRedo(),
    )
    return Past(service, [BaseBackup(backup, start_lsn, stop_lsn, checkpoint_lsn, 1)])


def before_the_backup(server: PostgresServer) -> None:
    server.execute(
        "CREATE TABLE accounts (id int PRIMARY KEY, balance int, note text);"
        "INSERT INTO accounts SELECT i, 100, repeat('x', i % 300) FROM generate_series(1, 3000) i;"
        "CREATE UNLOGGED TABLE fleeting (id int PRIMARY KEY, t text);"
        "INSERT INTO fleeting SELECT i, 'x' FROM generate_series(1, 500) i;"
        "CREATE TABLE dropped_later AS SELECT i FROM generate_series(1, 1000) i;"
        "CREATE TABLE cut_later AS SELECT i, repeat('y', 200) t FROM generate_series(1, 3000) i;"
        "SELECT pg_replication_origin_create('elsewhere')"
    )
    server.execute("CREATE TABLESPACE early LOCATION ''")
    server.execute("CREATE TABLE in_early (id int PRIMARY KEY) TABLESPACE early")
    server.execute("INSERT INTO in_early SELECT generate_series(1, 2000)")
    server.execute("CREATE DATABASE early_database")
    prepare_before(server, -1)


def prepare_before(server: PostgresServer, number: int) -> None:
    with server.connect() as session:
        session.execute("BEGIN")
        session.execute("INSERT INTO accounts VALUES (%s, 1, 'prepared before')", [number])
        session.execute("PREPARE TRANSACTION 'before'")


def scatter(server: PostgresServer) -> None:
    """What run_workload does not do: all that lies beside pages, left behind in every state."""
    server.execute("CREATE TABLESPACE late LOCATION ''")
    server.execute("CREATE TABLE in_late (id int PRIMARY KEY, t text) TABLESPACE late")
    server.execute("INSERT INTO in_late SELECT i, repeat('z', 3000) FROM generate_series(1, 200) i")
    server.execute("DROP TABLE dropped_later")
    server.execute("DELETE FROM cut_later WHERE i > 100")
    server.execute("VACUUM (FREEZE) cut_later")
    server.execute("INSERT INTO cut_later SELECT i, 'again' FROM generate_series(1, 3000) i")
    server.execute("UPDATE accounts SET balance = balance + 1 WHERE id % 3 = 0")
    server.execute("VACUUM accounts")
    server.execute("CREATE UNLOGGED TABLE fleeting_too (id int PRIMARY KEY)")
    server.execute("INSERT INTO fleeting_too SELECT generate_series(1, 300)")
    server.execute("CREATE TABLE in_early_too (id int) TABLESPACE early", dbname="early_database")
    server.execute("ALTER DATABASE early_database SET TABLESPACE late")
    strategies = ("",) if server.version < 15 else (" STRATEGY file_copy", " STRATEGY wal_log")
    for number, strategy in enumerate(strategies):
        name = f"copied_{number}"
        server.execute(f"CREATE DATABASE {name} TEMPLATE early_database{strategy}")
        server.execute("CREATE TABLE t AS SELECT generate_series(1, 500) i", dbname=name)
        server.execute("VACUUM FULL pg_class", dbname=name)
    server.execute("CREATE TABLESPACE third LOCATION ''")
    server.execute("CREATE DATABASE copied_again TEMPLATE copied_0 TABLESPACE third")
    server.execute("DROP DATABASE copied_0")
    with server.connect() as session, server.connect() as other:
        session.execute("BEGIN")
        for name in ("a", "b", "c"):
            session.execute(f"SAVEPOINT {name}".encode())
            session.execute("UPDATE accounts SET balance = 0 WHERE id < 30")
            session.execute("CREATE TABLE made_within (id int)")
            session.execute(f"ROLLBACK TO {name}".encode())
            session.execute(f"INSERT INTO accounts VALUES ({-1000 - ord(name)}, 0, 'sub')".encode())
        other.execute("SELECT 1 FROM accounts WHERE id BETWEEN 40 AND 60 FOR KEY SHARE")
        session.execute("SELECT 1 FROM accounts WHERE id BETWEEN 40 AND 60 FOR SHARE")
        session.execute("CREATE TABLE made_and_prepared AS SELECT 1 AS one")
        session.execute("PREPARE TRANSACTION 'with subtransactions'")
    with server.connect() as session:
        session.execute("SELECT pg_replication_origin_session_setup('elsewhere')")
        session.execute("BEGIN")
        session.execute("SELECT pg_replication_origin_xact_setup('0/ABCDEF0', '2020-02-02 02:02Z')")
        session.execute("INSERT INTO accounts VALUES (-100, 5, 'from elsewhere')")
        session.execute("COMMIT")
    server.execute("COMMIT PREPARED 'before'")
    server.execute("CHECKPOINT")


def finish(server: PostgresServer) -> None:
    with server.connect() as session:
        session.execute("BEGIN")
        session.execute("DELETE FROM accounts WHERE id BETWEEN 100 AND 120")
        session.execute("PREPARE TRANSACTION 'at the end'")
    server.execute("ROLLBACK PREPARED 'with subtransactions'")
    server.execute("DROP TABLE in_late")
    server.execute("SELECT pg_create_restore_point('the end')")


@contextlib.contextmanager
def recovered(story: Story, start_lsn: int, restore: str = "") -> Iterator[PostgresServer]:
    """A server that was recovered up to and with the record at ``start_lsn``, and shut down.

    Nobody connected to it: reading would prune pages.
    """
    command = restore or f"cp {story.server.wal_directory}/%f %p"
    config = {
        **CONFIG,
        "restore_command": command,
        "recovery_target_lsn": format_lsn(start_lsn),
        "recovery_target_action": "promote",
    }
    with PostgresServer(
        story.server.version,
        config=config,
        backup=story.backup,
        signal_file="recovery.signal",
        segment_size=story.server.segment_size,
    ) as server:
        deadline = time.monotonic() + 120
        # The end of recovery is complete only then: a stop before it leaves pages unwritten.
        while "database system is ready to accept connections" not in server.log_text():
            assert time.monotonic() < deadline, f"no end of recovery: {server.log_text()}"
            time.sleep(0.01)
        server.stop()
        assert f'stopping after WAL location (LSN) "{format_lsn(start_lsn)}"' in server.log_text()
        yield server
