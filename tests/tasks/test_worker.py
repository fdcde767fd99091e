"""A worker runs one job at a time, hands over what it returns or raises, and ends in good order."""

from __future__ import annotations

import threading

import pytest
import trio
import trio.testing

from walstream.tasks.worker import Worker


async def test_jobs_run_in_order_in_one_thread() -> None:
    ran: list[tuple[int, str]] = []

    async def call(number: int) -> None:
        assert await worker.call(lambda: note(number)) == -number

    def note(number: int) -> int:
        ran.append((number, threading.current_thread().name))
        return -number

    async with Worker("mine") as worker, trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(call, number)
    assert sorted(ran) == [(number, "mine") for number in range(20)]
    assert not any(thread.name == "mine" for thread in threading.enumerate())


async def test_what_a_job_raises_is_raised() -> None:
    def fail() -> None:
        raise KeyError("no")

    async with Worker("mine") as worker:
        with pytest.raises(KeyError):
            await worker.call(fail)
        worker.begin(fail)
        await worker.wait()
        with pytest.raises(KeyError):
            await worker.finish()
        assert await worker.call(lambda: 1) == 1


async def test_a_job_that_has_begun_is_waited_for() -> None:
    go_on = threading.Event()
    finished = False

    def work() -> None:
        nonlocal finished
        go_on.wait(30)
        finished = True

    async with Worker("mine") as worker, trio.open_nursery() as nursery:
        nursery.start_soon(worker.call, work)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True), trio.move_on_after(0.01):
            await worker.wait()
        assert worker.busy
        go_on.set()
    assert finished


async def test_a_call_is_refused_after_the_end() -> None:
    async with Worker("mine") as worker:
        pass
    with pytest.raises(trio.ClosedResourceError):
        await worker.call(lambda: None)


async def test_two_jobs_at_once_are_refused() -> None:
    async with Worker("mine") as worker:
        worker.begin(lambda: None)
        with pytest.raises(trio.BusyResourceError):
            worker.begin(lambda: None)
        await worker.finish()
