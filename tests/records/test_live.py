"""``stream_wal``: the records of a live server, over restarts, and how it ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio

from tests.support.servers import PostgresServer
from walstream import ConnectionLost, ServerRefused, WalRecord, format_lsn, read_wal, stream_wal

pytestmark = pytest.mark.pg_versions(15, 18)


def key(record: WalRecord) -> tuple[int, bytes]:
    return record.start_lsn, record.data


async def test_the_same_records_as_on_disk(pg_server: PostgresServer) -> None:
    start = pg_server.flush_lsn()
    pg_server.execute("CREATE TABLE live (a int PRIMARY KEY, b text)")
    pg_server.execute("INSERT INTO live SELECT g, repeat('x', 200) FROM generate_series(1, 9999) g")
    end = pg_server.flush_lsn()
    async with stream_wal(pg_server.dsn, start, end) as records:
        found = [key(record) async for record in records]
    assert found == [key(record) for record in read_wal(pg_server.wal_directory, start, end)]
    assert len(found) > 9999
    async with stream_wal(pg_server.dsn, format_lsn(start), end, rmgr="Transaction") as records:
        assert [r.operation async for r in records] == ["COMMIT", "COMMIT"]


async def test_without_a_gap_over_a_restart(start_server: Callable[..., PostgresServer]) -> None:
    server = start_server(18)
    start = server.flush_lsn()
    found: list[WalRecord] = []
    async with stream_wal(server.dsn, start) as records:

        async def read_until(lsn: int) -> None:
            with trio.fail_after(60):
                async for record in records:
                    found.append(record)
                    if record.end_lsn >= lsn:
                        return

        await trio.to_thread.run_sync(server.execute, "CREATE TABLE t (a int)")
        await read_until(server.flush_lsn())
        await trio.to_thread.run_sync(server.restart)
        await trio.to_thread.run_sync(server.execute, "INSERT INTO t VALUES (1)")
        await read_until(server.flush_lsn())
    whole = [key(record) for record in read_wal(server.wal_directory, start)]
    assert [key(record) for record in found] == whole[: len(found)]
    assert any(record.operation == "CHECKPOINT_SHUTDOWN" for record in found)


async def test_errors_leave_as_they_are(pg_server: PostgresServer) -> None:
    with pytest.raises(ZeroDivisionError):
        async with stream_wal(pg_server.dsn):
            _ = 1 // 0
    with pytest.raises(ConnectionLost):
        async with stream_wal("host=127.0.0.1 port=1", loop=False) as records:
            await anext(records)
    pg_server.execute("CREATE ROLE reader LOGIN")
    with pytest.raises(ServerRefused, match=r"(?i)replication"):
        async with stream_wal(f"{pg_server.dsn} user=reader") as records:
            await anext(records)
    with trio.move_on_after(0.2) as scope:
        async with stream_wal(pg_server.dsn, rmgr="custom200") as records:
            await anext(records)
    assert scope.cancelled_caught
