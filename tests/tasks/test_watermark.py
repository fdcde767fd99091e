"""A position that is waited for."""

from __future__ import annotations

import trio
import trio.testing

from walstream.tasks.watermark import Watermark


async def test_those_who_gave_up_are_forgotten_and_the_others_woken_in_turn(
    autojump_clock: trio.testing.MockClock,
) -> None:
    mark = Watermark(10)
    woken: list[int] = []

    async def wait(value: int) -> None:
        await mark.wait_for(value)
        woken.append(value)

    async with trio.open_nursery() as nursery:
        for value in (30, 20, 40, 20):
            nursery.start_soon(wait, value)
        for value in (15, 35, 1 << 60):
            with trio.move_on_after(1) as scope:
                await mark.wait_for(value)
            assert scope.cancelled_caught
        assert len(mark._waiters) == 4
        mark.advance(30)
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(woken) == [20, 20, 30]
        mark.advance(50)
    assert sorted(woken) == [20, 20, 30, 40]
