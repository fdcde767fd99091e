"""Wake-ups are not lost, not by a cancelled wait either, and many before a wait are one."""

from __future__ import annotations

import trio
import trio.testing

from walstream.tasks.auto_reset_event import AutoResetEvent


async def test_it_is_remembered_once(autojump_clock: trio.testing.MockClock) -> None:
    event = AutoResetEvent()
    event.set()
    event.set()
    await event.wait()
    with trio.move_on_after(1) as scope:
        await event.wait()
    assert scope.cancelled_caught
    event.set()
    await event.wait()


async def test_a_cancelled_wait_takes_nothing() -> None:
    event = AutoResetEvent()
    event.set()
    with trio.CancelScope() as scope:
        scope.cancel()
        await event.wait()
    assert scope.cancelled_caught
    await event.wait()
