"""WAL of a real server, for the tests of ``walstream dump``."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.dump.dumping import SEGMENT, is_zero
from tests.support.servers import PostgresServer
from tests.support.workload import WORKLOAD_CONFIG, run_sql_files


@pytest.fixture(scope="module")
def wal(pg_version: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The segments of a small workload: complete ones, and a last one that is not full."""
    path = tmp_path_factory.mktemp(f"wal{pg_version}")
    with PostgresServer(pg_version, config=WORKLOAD_CONFIG, segment_size=SEGMENT) as server:
        run_sql_files(server, "other", "heap")
        server.stop()
        for file in server.wal_directory.iterdir():
            if file.is_file() and not is_zero(file):
                shutil.copy(file, path)
    return path
