"""Pages at arbitrary LSNs, compared with a real server that was recovered to that very LSN.

The server starts from the same base backup, replays the same WAL with ``recovery_target_lsn`` and
is shut down cleanly: its files are what PostgreSQL itself makes of the cluster at that moment.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.pages.test_service import build_service
from tests.support.servers import PostgresServer
from tests.support.waldump import decoded
from tests.support.workload import WORKLOAD_CONFIG, run_workload
from walstream.pages.compare import compare_with_directory
from walstream.pages.service import PageService
from walstream.wal.model import RawRecord, format_lsn

MOMENTS = {14: 1, 15: 2, 16: 1, 17: 1, 18: 2}


class History(NamedTuple):
    """A server that was shut down, its backup, its records since, and walstream's view of them."""

    server: PostgresServer
    backup: Path
    records: list[tuple[int, int]]  # start and end LSN
    service: PageService


@pytest.fixture(scope="module")
def history(pg_version: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    with PostgresServer(pg_version, config=WORKLOAD_CONFIG) as server:
        backup = server.base_backup(tmp_path_factory.mktemp("backup") / "base")
        consistent_lsn = server.insert_lsn()
        run_workload(server)
        end_lsn = server.flush_lsn()
        server.stop()
        service = build_service(server, backup, tmp_path_factory.mktemp("store"))
        records = [
            (raw.start_lsn, raw.end_lsn)
            for raw in decoded(server.wal_directory, server.segment_size, end_lsn)
            if raw.start_lsn >= consistent_lsn and changes_pages(raw)
        ]
        yield History(server, backup, records, service)
        service.index.close()


def changes_pages(raw: RawRecord) -> bool:
    """Heap, Heap2 and the access methods: moments in the middle of something."""
    return 9 <= raw.data[17] <= 17


@pytest.mark.timeout(900)
async def test_pages_equal_those_of_a_server_recovered_to_the_same_lsn(
    history: History, pg_version: int
) -> None:
    # Spread over the whole workload; another moment in every run, and a failure names it.
    moments = MOMENTS[pg_version]
    part = len(history.records) // moments
    for moment in range(moments):
        start_lsn, end_lsn = history.records[part * moment + random.randrange(part)]
        await compare_at(history, start_lsn, end_lsn)


async def compare_at(history: History, start_lsn: int, end_lsn: int) -> None:
    """Recover a server up to and with one record, and compare all pages."""
    config = {
        **WORKLOAD_CONFIG,
        "restore_command": f"cp {history.server.wal_directory}/%f %p",
        # The record that starts there is the last one that is replayed.
        "recovery_target_lsn": format_lsn(start_lsn),
        "recovery_target_action": "promote",
    }
    with PostgresServer(
        history.server.version, config=config, backup=history.backup, signal_file="recovery.signal"
    ) as recovered:
        while recovered.execute("SELECT pg_is_in_recovery()") != [(False,)]:
            pass
        recovered.stop()
        assert f'WAL location (LSN) "{format_lsn(start_lsn)}"' in recovered.log_text()
        directory = recovered.data_directory
        files = [p.relative_to(directory).as_posix() for p in directory.rglob("*") if p.is_file()]
        # Chains are long in the middle of a workload: a quarter of the files keeps this short.
        chosen = random.sample(files, len(files) // 4)
        comparison = await compare_with_directory(history.service, directory, chosen, end_lsn)
    assert comparison.differences == [], f"at {format_lsn(end_lsn)}"
    assert comparison.pages > 300
