"""``receive_wal`` in a nursery of the caller's: into a directory, to a coroutine, over restarts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.support.servers import PostgresServer
from walstream import (
    ConnectionLost,
    Receiving,
    StoreError,
    WalChunk,
    WalDivergedError,
    WrongCluster,
    format_lsn,
    read_wal,
    receive_wal,
)
from walstream.receive.chunk_sink import ChunkSink
from walstream.wal.timeline import TimelineHistory, TimelinePart, Upstream

pytestmark = pytest.mark.pg_versions(18)


async def test_into_a_directory(pg_server: PostgresServer, tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        receiving: Receiving = await nursery.start(receive_wal, pg_server.dsn, tmp_path)
        await trio.to_thread.run_sync(pg_server.execute, "CREATE TABLE d AS SELECT 1")
        end = pg_server.flush_lsn()
        with trio.fail_after(60):
            await receiving.flushed.wait_for(end)
        with pytest.raises(StoreError, match="in use by another"):
            await receive_wal(pg_server.dsn, tmp_path)
        receiving.stop()
    assert list(read_wal(tmp_path, end=end))[-1].end_lsn == end


async def test_starts_and_ends_where_all_that_was_asked_for_is_there(
    pg_server: PostgresServer, tmp_path: Path
) -> None:
    end = pg_server.flush_lsn()
    for _ in range(2):  # the second time before anything streams
        async with trio.open_nursery() as nursery:
            with trio.fail_after(60):
                receiving: Receiving = await nursery.start(
                    partial(receive_wal, pg_server.dsn, tmp_path, end=end)
                )
                await receiving.flushed.wait_for(end)


async def test_to_a_coroutine_without_gap_or_repetition(
    start_server: Callable[..., PostgresServer],
) -> None:
    server = start_server(18)
    start = server.flush_lsn()
    taken = bytearray()

    async def take(chunk: WalChunk) -> None:
        assert chunk.start_lsn == start + len(taken)
        await trio.lowlevel.checkpoint()
        taken.extend(chunk.data)

    async with trio.open_nursery() as nursery:
        receiving: Receiving = await nursery.start(
            partial(receive_wal, server.dsn, take, start=start)
        )
        for again in (receiving.reconnect, server.restart):
            await trio.to_thread.run_sync(
                server.execute, "SELECT pg_logical_emit_message(true,'a','b')"
            )
            with trio.fail_after(60):
                await receiving.flushed.wait_for(server.flush_lsn())
            await trio.to_thread.run_sync(again) if again == server.restart else again()
        end = server.flush_lsn()
        with trio.fail_after(60):
            await receiving.flushed.wait_for(end)
        receiving.stop()
    stored = b"".join(path.read_bytes() for path in sorted(server.wal_directory.glob("0*")))
    first = min(server.wal_directory.glob("0*")).name
    at = start - int(first[16:], 16) * server.segment_size
    assert bytes(taken[: end - start]) == stored[at : at + end - start]


async def test_what_the_coroutine_raises_leaves_as_it_is(pg_server: PostgresServer) -> None:
    async def fail(chunk: WalChunk) -> None:
        await trio.lowlevel.checkpoint()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), trio.fail_after(60):
        await receive_wal(pg_server.dsn, fail, start=pg_server.flush_lsn() & ~0xFFFF)
    with pytest.raises(ConnectionLost):
        await receive_wal("host=127.0.0.1 port=1", fail, loop=False)
    with pytest.raises(ValueError, match="compress"):
        await receive_wal(pg_server.dsn, Path("/nowhere"), compression="rar")


def upstream(system_id: int, *parts: tuple[int, int, int]) -> Upstream:
    history = TimelineHistory(tuple(TimelinePart(*part) for part in parts))
    return Upstream(system_id, 18, 1 << 20, history.current, 5000, history, None, 0, 0)


async def test_a_sink_refuses_another_history() -> None:
    async def take(chunk: WalChunk) -> None:
        await trio.lowlevel.checkpoint()

    far = 1 << 62
    sink = ChunkSink(take)
    assert await sink.begin(upstream(1, (1, 0, far))) == (1, 5000)
    await sink.put(WalChunk(5000, bytes(1000), 6000, 0))
    assert await sink.begin(upstream(1, (1, 0, 6000), (2, 6000, far))) == (1, 6000)
    with pytest.raises(WalDivergedError, match=f"that timeline ends at {format_lsn(5500)}"):
        await sink.begin(upstream(1, (1, 0, 5500), (2, 5500, far)))
    with pytest.raises(WrongCluster, match="expected 1, got 2"):
        await sink.begin(upstream(2, (1, 0, far)))
    assert await sink.follow(2, 6000, b"") == (2, 6000)
    with pytest.raises(WalDivergedError, match="is not on its path"):
        await sink.begin(upstream(1, (1, 0, far)))
