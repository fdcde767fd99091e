"""What is tried again, after which delay, and which of several errors is told."""

from __future__ import annotations

import random

import pytest
import trio
import trio.testing

from walstream.errors import ConnectionLost, StorageError
from walstream.tasks.supervise import Backoff, keep_running, leaves, single_error


class NoJitter(random.Random):
    def random(self) -> float:
        return 0.0


async def test_delays_grow_to_the_last_and_begin_again_after_progress(
    autojump_clock: trio.testing.MockClock,
) -> None:
    backoff = Backoff(1.0, 5.0, factor=2.0, rng=NoJitter())
    ends: list[tuple[str, float]] = []
    attempts = 0

    async def attempt() -> None:
        nonlocal attempts
        attempts += 1
        await trio.lowlevel.checkpoint()
        if attempts == 5:
            backoff.reset()
        if attempts % 2:
            raise ConnectionLost(f"number {attempts}")

    await keep_running(
        attempt,
        restart_on=(ConnectionLost,),
        backoff=backoff,
        on_end=lambda error, delay_s: ends.append((str(error), delay_s)),
        done=lambda: attempts == 7,
    )
    assert [delay_s for _, delay_s in ends] == [1.0, 2.0, 4.0, 5.0, 1.0, 2.0]
    assert [text for text, _ in ends[:2]] == ["number 1", "None"]


async def test_an_attempt_that_lasted_is_followed_soon(
    autojump_clock: trio.testing.MockClock,
) -> None:
    waits: list[float] = []

    async def attempt() -> None:
        await trio.sleep(100)

    await keep_running(
        attempt,
        restart_on=(),
        backoff=Backoff(1.0, rng=NoJitter()),
        on_end=lambda _, delay_s: waits.append(delay_s),
        done=lambda: len(waits) == 1,
    )
    assert waits == [0.5]


async def test_another_error_is_raised_at_once() -> None:
    async def attempt() -> None:
        await trio.lowlevel.checkpoint()
        raise StorageError("broken", "/wal")

    with pytest.raises(StorageError):
        await keep_running(attempt, restart_on=(ConnectionLost,), backoff=Backoff())


def test_the_error_that_tells_why_wins_over_those_that_follow_from_it() -> None:
    lost, broken = ConnectionLost("cut"), StorageError("broken", "/wal")
    group = BaseExceptionGroup("", [lost, BaseExceptionGroup("", [broken])])
    assert leaves(group) == [lost, broken]
    assert single_error(group, (ConnectionLost,)) is broken
    assert single_error(group) is lost
    assert single_error(ExceptionGroup("", [lost]), (ConnectionLost,)) is lost
    assert single_error(broken) is broken
