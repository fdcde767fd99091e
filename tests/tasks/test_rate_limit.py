"""A bound on how much is done in a second."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from walstream.tasks.rate_limit import BURST_S, RateLimit


async def test_all_tasks_together_keep_to_it(autojump_clock: trio.testing.MockClock) -> None:
    limit = RateLimit(1000)
    begin = trio.current_time()

    async def take() -> None:
        for _ in range(10):
            await limit.take(100)

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(take)
    assert trio.current_time() - begin == pytest.approx(4 - BURST_S)
    # What was not used while nothing was done is not saved up.
    await trio.sleep(100)
    begin = trio.current_time()
    await limit.take(1000)
    assert trio.current_time() - begin == pytest.approx(1 - BURST_S)


async def test_without_a_bound_nothing_waits(autojump_clock: trio.testing.MockClock) -> None:
    begin = trio.current_time()
    await RateLimit(None).take(1 << 60)
    assert trio.current_time() == begin
