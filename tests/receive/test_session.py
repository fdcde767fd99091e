"""The receiver and the writer together, on real servers."""

from __future__ import annotations

import filecmp
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest
import trio
from trio_util import AsyncValue

from tests.support.servers import PostgresServer
from walstream.receive.receiver import Receiver
from walstream.replication.backup import take_base_backup
from walstream.replication.libpq import connect
from walstream.segments.names import segment_file_name
from walstream.store.base_backup import BackupWriter, list_base_backups
from walstream.store.writer import Writer

T = TypeVar("T")

MB = 1 << 20
WORK = (
    "CREATE TABLE IF NOT EXISTS t (i int, x text);"
    "INSERT INTO t SELECT i, repeat('x', 50) FROM generate_series(1, 20000) i"
)


@asynccontextmanager
async def receiving(
    server: PostgresServer, directory: Path, slot: str | None = None, *, synchronous: bool = False
) -> AsyncIterator[tuple[Receiver, Writer]]:
    """Receives into ``directory`` while the body runs; then stops in good order."""
    writer = Writer(directory, synchronous=synchronous)
    receiver = Receiver(AsyncValue(server.replication_dsn), writer, slot=slot)
    async with trio.open_nursery() as nursery:
        await nursery.start(writer.run)
        await nursery.start(receiver.run)
        yield receiver, writer
        receiver.stop()
        writer.close()


async def in_thread(function: Callable[..., T], *args: object) -> T:
    return await trio.to_thread.run_sync(function, *args)


async def create_slot(server: PostgresServer, slot: str) -> None:
    with await connect(server.replication_dsn) as connection:
        await connection.create_physical_slot(slot)


async def test_backup_and_segments_are_those_of_the_server(pg_version: int, tmp_path: Path) -> None:
    base, wal = tmp_path / "base", tmp_path / "wal"
    base.mkdir()
    wal.mkdir()
    with PostgresServer(pg_version, segment_size=MB) as server:
        await create_slot(server, "walstream")
        with await connect(server.replication_dsn) as connection:
            assert connection.server_version == pg_version
            target = BackupWriter(base)
            end = await take_base_backup(connection, target)
        assert target.result is not None
        assert list_base_backups(base) == [target.result]
        assert target.result.start_lsn < target.result.checkpoint_lsn < end.stop_lsn
        verify = server.client("pg_verifybackup")
        if verify is not None:
            await trio.run_process([verify, "-n", str(target.result.path)])
        async with receiving(server, wal, "walstream") as (_, writer):
            await in_thread(server.execute, WORK)
            await in_thread(server.switch_wal)
            end_lsn = await in_thread(server.flush_lsn)
            with trio.fail_after(50):
                await writer.received.wait_for(end_lsn)
                await writer.flush()
        assert writer.flushed.value >= end_lsn
        names = sorted(path.name for path in wal.iterdir())
        assert names[-1].startswith(segment_file_name(1, (end_lsn - 1) // MB, MB))
        for name in names:
            if name.endswith(".partial"):
                continue
            assert filecmp.cmp(wal / name, server.wal_directory / name, shallow=False), name
        with trio.fail_after(50):  # our slot holds back nothing
            await in_thread(server.stop, "fast")


@pytest.mark.parametrize("synchronous", [False, True])
async def test_fast_shutdown_is_not_held_up(
    tmp_path: Path, synchronous: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with PostgresServer(18) as server:
        await create_slot(server, "walstream")
        async with receiving(server, tmp_path, "walstream", synchronous=synchronous) as (
            receiver,
            writer,
        ):
            await in_thread(server.execute, WORK)
            with trio.fail_after(50):
                await in_thread(server.stop, "fast")
            assert writer.flushed.value > 0
            with trio.fail_after(50):
                await receiver.disconnected.wait()
            assert "shutting down" in caplog.text  # by now it may have tried again
