"""CopyData in order: nothing is lost, nobody reads beside another, silence has an end."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from tests.support.fake_walsender import SILENT, FakeWalsender
from tests.support.walgen import SEGMENT
from walstream.errors import ConnectionLost, ServerRefused
from walstream.replication.copy_stream import FAIR_BYTES, CopyStream
from walstream.replication.libpq import ReplicationConnection, connect
from walstream.replication.messages import NextTimeline
from walstream.replication.status import StatusSender

WAL = random.Random(1).randbytes(3 * FAIR_BYTES)


@asynccontextmanager
async def copying(
    server: FakeWalsender, *, receive_timeout_s: float = 60.0
) -> AsyncIterator[ReplicationConnection]:
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        with await connect(server.conninfo, receive_timeout_s=receive_timeout_s) as connection:
            assert await connection.start_replication(None, SEGMENT, 1) is None
            yield connection
        nursery.cancel_scope.cancel()


async def test_cancelled_again_and_again_it_loses_nothing() -> None:
    server = FakeWalsender({1: (SEGMENT, WAL)})
    found = bytearray()
    async with copying(server) as connection:
        copy, status = CopyStream(connection), StatusSender(connection)
        with trio.fail_after(60):
            while len(found) < len(WAL):
                with trio.CancelScope(deadline=trio.current_time() + 0.0005):
                    sent = await copy.next_wal(status)
                    assert sent is not None
                    assert sent.start_lsn == SEGMENT + len(found)
                    found += sent.data
            await copy.close()
            # The connection is good for the next command.
            assert (await connection.identify_system()).timeline == 1
    assert found == WAL


async def test_others_get_their_turn_while_wal_pours_in() -> None:
    server = FakeWalsender({1: (SEGMENT, WAL)})
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with copying(server) as connection, trio.open_nursery() as nursery:
        copy = CopyStream(connection)
        # Some of it may be there already.
        size = len(copy.poll() or b"")
        with trio.fail_after(60):
            nursery.start_soon(other)
            while size < len(WAL):
                message = await copy.next_message()
                assert message is not None
                size += len(message)
            await copy.close()
        assert turns >= len(WAL) // FAIR_BYTES - 1
        nursery.cancel_scope.cancel()


async def test_two_readers_and_two_commands_are_told() -> None:
    server = FakeWalsender({1: (SEGMENT, b"")})
    async with copying(server) as connection, trio.open_nursery() as nursery:
        copy = CopyStream(connection, watched=True)
        status = StatusSender(connection)
        nursery.start_soon(copy.next_wal, status)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError, match="reads"):
            await copy.wait()
        nursery.cancel_scope.cancel()
    server = FakeWalsender({1: (SEGMENT, b"")}, faults={"SHOW": SILENT})
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        with await connect(server.conninfo) as connection:
            async with trio.open_nursery() as asking:
                asking.start_soon(connection.show, "wal_segment_size")
                await trio.testing.wait_all_tasks_blocked()
                with pytest.raises(trio.BusyResourceError, match="command"):
                    await connection.identify_system()
                asking.cancel_scope.cancel()
        nursery.cancel_scope.cancel()


async def test_a_server_that_owes_an_answer_is_given_up() -> None:
    server = FakeWalsender({1: (SEGMENT, b"")})
    async with copying(server, receive_timeout_s=0.2) as connection:
        copy, status = CopyStream(connection, "comparing"), StatusSender(connection)
        with trio.fail_after(30), pytest.raises(ConnectionLost, match="comparing: no message"):
            await copy.next_wal(status)


async def test_the_end_of_a_timeline_and_an_error_in_copy() -> None:
    server = FakeWalsender({1: (SEGMENT, WAL[:100]), 2: (SEGMENT + 100, WAL[100:200])})
    async with copying(server) as connection:
        copy, status = CopyStream(connection), StatusSender(connection)
        sent = await copy.next_wal(status)
        assert sent is not None
        assert sent.data == WAL[:100]
        assert await copy.next_wal(status) is None
        assert copy.ended
        assert copy.poll() is None
        assert await copy.finish() == NextTimeline(2, SEGMENT + 100)
    server = FakeWalsender({1: (2 * SEGMENT, WAL[:100])})  # what is asked for was removed
    async with copying(server) as connection:
        copy, status = CopyStream(connection), StatusSender(connection)
        assert await copy.next_wal(status) is None
        with pytest.raises(ServerRefused) as caught:
            await copy.finish()
        assert caught.value.sqlstate == "58P01"
