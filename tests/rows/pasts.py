"""Real clusters whose rows were copied out at many moments, and walstream's view of the same."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import psycopg

from tests.pages.test_service import build_service
from tests.support.binaries import wheel_client
from tests.support.servers import PostgresServer
from walstream.pages.service import PageService
from walstream.rows.cluster import ClusterAt
from walstream.state.cluster import StateSource, cluster_state
from walstream.store.base_backup import BaseBackup
from walstream.wal.model import parse_lsn

# What the text of values depends on; bytes are compared, whatever encoding they are in.
SETTINGS = """
    SET datestyle = 'ISO, MDY'; SET intervalstyle = postgres; SET timezone = 'UTC';
    SET bytea_output = hex; SET extra_float_digits = 1; SET lc_monetary = 'C';
    SET client_encoding = 'SQL_ASCII'
"""
# Nothing of WAL may be recycled when the server stops.
CONFIG = {"wal_keep_size": "1GB"}


class Copied(NamedTuple):
    """What COPY gave of a table right after ``lsn``: format -> bytes."""

    lsn: int
    table: str
    texts: dict[str, bytes]


class Past:
    """A server that was shut down, what was copied out of it, and a page service over its WAL."""

    def __init__(self, server: PostgresServer, backup: Path, directory: Path) -> None:
        self.version = server.version
        self.copied: list[Copied] = []
        label = (backup / "backup_label").read_text()
        self._start = parse_lsn(label.split()[3])
        self._checkpoint = parse_lsn(label.split("CHECKPOINT LOCATION: ")[1].split()[0])
        self._backup = backup
        self.service: PageService = build_service(server, backup, directory)
        self._clusters: dict[int, ClusterAt] = {}

    def source(self) -> StateSource:
        """What is beside the pages, from the backup on."""
        backup = BaseBackup(self._backup, self._start, self._start, self._checkpoint, 1)
        return StateSource(self.service.index, self.service.archive, backup, self.version)

    def at(self, lsn: int) -> ClusterAt:
        """The cluster as of an LSN."""
        if lsn not in self._clusters:
            state = cluster_state(self.source(), lsn)
            self._clusters[lsn] = ClusterAt(
                self.service, lsn, state.transactions, state.relation_maps
            )
        return self._clusters[lsn]


def copy_out(
    session: psycopg.Connection[tuple[object, ...]], query: str, form: str = "text"
) -> bytes:
    """What COPY writes of a table or query."""
    with session.cursor().copy(f"COPY {query} TO STDOUT (FORMAT {form})".encode()) as copy:
        return b"".join(bytes(piece) for piece in copy)


def copied(
    server: PostgresServer,
    tables: Sequence[tuple[str, str]],
    formats: Sequence[str] = ("text",),
) -> list[Copied]:
    """Copies (name, query) out of a server at its present moment."""
    lsn = server.insert_lsn()
    found = []
    with server.connect() as session:
        session.execute(SETTINGS.encode())
        for name, query in tables:
            found.append(
                Copied(lsn, name, {form: copy_out(session, query, form) for form in formats})
            )
    return found


def run_file(server: PostgresServer, path: Path) -> None:
    """Runs a file of SQL, a transaction a statement."""
    command = [str(wheel_client("psql")), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", str(path)]
    done = subprocess.run([*command, server.dsn], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
