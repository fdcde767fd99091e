"""A caller cancelled at each of its steps: nobody else notices, nothing is left behind."""

from __future__ import annotations

import pytest
import trio

from tests.redo.children.speaker import echo_page
from tests.redo.faults import config, request
from walstream.errors import RedoQuarantined
from walstream.redo.manager import RedoManager


class CancelAtStep(trio.abc.Instrument):
    """Cancels ``scope`` when ``task`` is about to take its n-th step."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.taken = 0
        self.task: trio.lowlevel.Task | None = None
        self.scope = trio.CancelScope()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self.task:
            self.taken += 1
            if self.taken == self.step:
                self.scope.cancel()


async def cancelled_at(manager: RedoManager, step: int, command: str) -> bool:
    """Runs one request that is cancelled at its ``step``-th step; returns whether it was."""
    instrument = CancelAtStep(step)
    trio.lowlevel.add_instrument(instrument)
    instrument.task = trio.lowlevel.current_task()
    wanted = request(1, command)
    try:
        with instrument.scope:
            await trio.lowlevel.checkpoint()
            try:
                page = await manager.redo(wanted, version=15, stamp_hints=False)
                assert page == echo_page(wanted)
            except RedoQuarantined:
                assert command == "!fail x"
    finally:
        trio.lowlevel.remove_instrument(instrument)
    return instrument.scope.cancelled_caught


async def neighbour(manager: RedoManager, block: int) -> None:
    page = await manager.redo(request(block), version=15, stamp_hints=False)
    assert page == echo_page(request(block))


@pytest.mark.parametrize("command", ["", "!slow 0.01", "!fail x"])
@pytest.mark.parametrize("warm", [True, False])
async def test_a_caller_is_cancelled_at_every_step(command: str, warm: bool) -> None:
    step = 1
    cancelled = True
    while cancelled:
        manager = RedoManager(config(warm_spare=False))
        async with trio.open_nursery() as nursery:
            await nursery.start(manager.run)
            if warm:
                await neighbour(manager, 8)
            for block in range(10, 15):
                nursery.start_soon(neighbour, manager, block)
            cancelled = await cancelled_at(manager, step, command)
            await neighbour(manager, 9)
            manager.shutdown()
        step += 1
    assert step > 2
