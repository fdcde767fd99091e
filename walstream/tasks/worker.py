"""A thread of one's own: runs one job at a time, for as long as its owner lives.

Unlike ``trio.to_thread`` it can be given a job without waiting for it, and jobs wait for each other
in order.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

import outcome
import trio

T = TypeVar("T")


class Worker:
    """One thread, for as long as ``async with`` lasts. All methods are for the Trio thread.

    ``call`` is all that most callers need. Below it: ``begin``, and later ``finish``; only then can
    the next job begin.
    """

    def __init__(self, name: str) -> None:
        self.busy = False
        """A job has begun and was not finished."""
        self._closed = False
        self._thread = threading.Thread(target=self._loop, name=name)
        # Locks as binary semaphores: the least that wakes a thread.
        self._todo = threading.Lock()
        self._done = threading.Lock()
        self._job: Callable[[], None] | None = None
        self._outcome: outcome.Value[None] | outcome.Error | None = None
        self._awaited = False
        self._ended = trio.lowlevel.ParkingLot()
        self._waiting = trio.lowlevel.ParkingLot()

    async def __aenter__(self) -> Self:
        self._token = trio.lowlevel.current_trio_token()
        self._todo.acquire()
        self._done.acquire()
        self._thread.start()
        await trio.lowlevel.cancel_shielded_checkpoint()
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._closed = True
        with trio.CancelScope(shield=True):
            while self.busy:
                await self._waiting.park()
            await trio.lowlevel.checkpoint()
        self._job = None
        self._todo.release()
        self._thread.join()

    def _loop(self) -> None:
        while True:
            self._todo.acquire()
            job = self._job
            if job is None:
                return
            self._outcome = outcome.capture(job)
            self._done.release()
            # Whoever sets this after the release finds the job done by itself.
            if self._awaited:
                self._token.run_sync_soon(self._ended.unpark_all)

    async def call(self, job: Callable[[], T]) -> T:
        """Runs a job when those before it are done; returns or raises what it does.

        Raises:
            trio.ClosedResourceError: the worker has ended.

        Cancellation: before the job has begun. Once it has, it is waited for.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        while self.busy and not self._closed:
            await self._waiting.park()
        found: list[T] = []
        self.begin(lambda: found.append(job()))
        await self.finish()
        return found[0]

    def begin(self, job: Callable[[], None]) -> None:
        """Starts a job in the thread.

        Raises:
            trio.ClosedResourceError: the worker has ended.
            trio.BusyResourceError: another job has begun and was not finished.
        """
        if self._closed:
            raise trio.ClosedResourceError
        if self.busy:
            raise trio.BusyResourceError("another job of this worker has not been finished")
        self.busy = True
        self._job = job
        self._awaited = False
        self._todo.release()

    async def wait(self) -> None:
        """Waits until the job is done; it is still to be finished.

        Cancellation: the job goes on.
        """
        self._awaited = True
        if not self._done.locked():
            await trio.lowlevel.checkpoint()
        while self._done.locked():
            await self._ended.park()

    async def finish(self) -> None:
        """Waits until the job is done; raises what it raised.

        Cancellation: takes no effect here: a job that has begun cannot be stopped.
        """
        with trio.CancelScope(shield=True):
            await self.wait()
        self._done.acquire()
        found, self._outcome = self._outcome, None
        self.busy = False
        self._waiting.unpark_all()
        assert found is not None
        found.unwrap()
