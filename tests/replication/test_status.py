"""When a status update goes out, what it says, and when a server is given up; on a mock clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio.testing

from walstream.errors import ConnectionLost
from walstream.replication import status
from walstream.replication.libpq import ReplicationConnection
from walstream.replication.messages import decode_status_update
from walstream.replication.status import Report, StatusSender


class Connection:
    """Notes what is sent and when."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.pgconn = SimpleNamespace(put_copy_data=self._put, flush=lambda: 0)
        self.sent: list[tuple[float, tuple[int, int, int], bool]] = []

    def _put(self, message: bytes) -> None:
        written, flushed, applied, _, asks = decode_status_update(message)
        self.sent.append((round(trio.current_time(), 3), (written, flushed, applied), asks))


class Local:
    """WAL that is flushed when it is asked for."""

    def __init__(self) -> None:
        self.keeps_reader = False
        self.requests = 0
        self.flushes = 0

    def request_flush(self) -> None:
        self.requests += 1

    async def flush(self) -> None:
        self.flushes += 1
        await trio.sleep(10)


@pytest.fixture
def clock(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> Iterator[trio.testing.MockClock]:
    fake = SimpleNamespace(monotonic=autojump_clock.current_time, time=time.time)
    monkeypatch.setattr(status, "time", fake)
    yield autojump_clock


def sender(connection: Connection, *args: Any, **named: Any) -> StatusSender:
    return StatusSender(cast(ReplicationConnection, connection), *args, **named)


async def run_for(sending: StatusSender, seconds: float) -> None:
    with trio.move_on_after(seconds):
        await sending.run()


async def test_by_the_clock_with_a_flush_asked_for_before(clock: trio.testing.MockClock) -> None:
    connection, local = Connection(), Local()
    begun = trio.current_time()
    await run_for(sender(connection, lambda: Report(5), interval_s=10, local=local), 35)
    assert [at - begun for at, *_ in connection.sent] == [0, 10, 20, 30]
    assert {what for _, what, _ in connection.sent} == {(5, 0, 0)}
    assert local.requests == 4


async def test_without_interval_only_what_is_asked_for(clock: trio.testing.MockClock) -> None:
    connection = Connection()
    sending = sender(connection)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_for, sending, 100)
        await trio.sleep(50)
        assert connection.sent == []
        await sending.answer()
        await trio.sleep(1)
        assert len(connection.sent) == 1
    await sending.answer()  # nobody runs: it goes out here
    assert len(connection.sent) == 2


async def test_a_flush_position_is_told_once_when_it_moves(clock: trio.testing.MockClock) -> None:
    connection = Connection()
    positions = [Report(9, 0)]
    sending = sender(connection, lambda: positions[-1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_for, sending, 100)
        for flushed_lsn in (0, 7, 7, 9):
            positions.append(Report(9, flushed_lsn))
            sending.wake()
            await trio.sleep(1)
        assert [what for _, what, _ in connection.sent] == [(9, 7, 0), (9, 9, 0)]
        sending.tell_again()
        await trio.sleep(1)
        assert len(connection.sent) == 3


async def test_a_reply_waits_a_moment_for_the_disk(clock: trio.testing.MockClock) -> None:
    connection, local = Connection(), Local()
    sending = sender(connection, local=local)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_for, sending, 5)
        await trio.sleep(1)
        asked = trio.current_time()
        sending.ask()
    assert local.flushes == 1
    assert [round(at - asked, 3) for at, *_ in connection.sent] == [status.REPLY_GRACE_S]


async def test_a_silent_server_is_pinged_then_given_up(clock: trio.testing.MockClock) -> None:
    connection = Connection()
    begun = trio.current_time()
    with pytest.raises(ConnectionLost, match="no message from the server for 60 s"):
        await sender(connection, timeout_s=60).run()
    assert trio.current_time() - begun == pytest.approx(60)
    assert [(at - begun, asks) for at, _, asks in connection.sent] == [(30, True)]


async def test_a_server_that_answers_is_pinged_again_and_again(
    clock: trio.testing.MockClock,
) -> None:
    connection = Connection()
    sending = sender(connection, timeout_s=60)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_for, sending, 200)
        for _ in range(4):
            await trio.sleep(45)
            sending.heard()
            sending.wake()
    assert sum(asks for _, _, asks in connection.sent) == 4


async def test_a_disk_that_keeps_the_reader_is_no_silence(clock: trio.testing.MockClock) -> None:
    connection, local = Connection(), Local()
    local.keeps_reader = True
    await run_for(sender(connection, timeout_s=60, local=local), 300)
    assert connection.sent == []


async def test_two_who_send_are_told(clock: trio.testing.MockClock) -> None:
    connection = Connection()
    sending = sender(connection)
    connection.pgconn.flush = lambda: 1

    async def never(_: str) -> None:
        await trio.sleep(5)

    cast(Any, connection).writable = never
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            nursery.start_soon(run_for, sending, 1)
            sending.ask()
            await trio.sleep(0.5)
            with pytest.raises(trio.BusyResourceError):
                await sending.send()
            scope.cancel()
