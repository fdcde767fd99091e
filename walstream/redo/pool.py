"""The redo children of one kind (major version and settings): how many, which one is next.

Children are launched when the first request comes; one more is added while the least loaded has
much to do; a spare stands by, started and pinged, to replace one that died. Launches that fail
back off, and after several in a row callers are refused at once until the next attempt is due.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import TYPE_CHECKING

import trio

from walstream.errors import RedoError, RedoProcessDied

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from walstream.redo.metrics import RedoMetrics
    from walstream.redo.process import RedoProcess

logger = logging.getLogger(__name__)

GROW_AT = 32
"""Requests that the least loaded child has before another child is added."""
BREAK_AFTER = 5
"""Failures in a row after which callers are refused instead of kept waiting."""
BACKOFF_S = (0.1, 15.0)


class Pool:
    """Supervises the children of one kind. All its tasks live in ``nursery``."""

    def __init__(
        self,
        name: str,
        make: Callable[[], RedoProcess],
        nursery: trio.Nursery,
        metrics: RedoMetrics,
        *,
        size: int,
        warm_spare: bool,
    ) -> None:
        self.name = name
        self.processes: list[RedoProcess] = []
        self.spare: RedoProcess | None = None
        self.alone: RedoProcess | None = None
        self.failures = 0
        self.last_failure = ""
        self._make = make
        self._nursery = nursery
        self._metrics = metrics
        self._size = size
        self._warm_spare = warm_spare
        self._launching = 0
        self._wanted = False
        self._next_attempt = 0.0
        self._hopeless = False
        self._alone_wanted = False
        self._isolation = trio.Lock()
        self._changed = trio.Event()
        self._closed = trio.Event()

    @property
    def everyone(self) -> list[RedoProcess]:
        """All children that answer or could."""
        return [*self.processes, *filter(None, (self.spare, self.alone))]

    def pick(self) -> RedoProcess | None:
        """Returns the least loaded child, None where there is none; never waits."""
        processes = self.processes
        if not processes:
            return None
        best = processes[0] if len(processes) == 1 else min(processes, key=_load)
        if best.death is not None:  # it is being buried; its pool hears of it later
            processes.remove(best)
            return self.pick()
        if len(processes) < self._size and best.load >= GROW_AT and not self._launching:
            self._add()
        return best

    async def acquire(self) -> RedoProcess:
        """Returns a child, launching one where there is none.

        Raises:
            RedoError: the pool is closed, or children do not start.

        Cancellation: nothing is left behind; a launch that was begun goes on.
        """
        await trio.lowlevel.checkpoint()
        while True:
            if (process := self.pick()) is not None:
                return process
            await self._wait_for(self._add)

    @asynccontextmanager
    async def isolated(self) -> AsyncIterator[RedoProcess]:
        """Gives a child to one caller alone; callers take turns.

        Raises:
            RedoError: as ``acquire``.

        Cancellation: the turn goes to the next caller; the child stays if it is well.
        """
        async with self._isolation:
            while self.alone is None or self.alone.death is not None:
                self.alone = self._take_spare()
                if self.alone is None:
                    self._alone_wanted = True
                    try:
                        await self._wait_for(self._launch_if_idle)
                    finally:
                        self._alone_wanted = False
            try:
                yield self.alone
            finally:
                if self.alone is not None and not self._isolation.statistics().tasks_waiting:
                    process, self.alone = self.alone, None
                    self._place(process)

    def close(self) -> None:
        """Refuses new work, and ends every child when it has answered what it has."""
        self._closed.set()
        self._notify()
        self.quiesce()

    def quiesce(self) -> None:
        """Ends all children; the next request launches a new one."""
        processes, self.processes, spare, self.spare = self.processes, [], self.spare, None
        for process in processes:
            process.close()
        if spare is not None:
            spare.close()
        if self.alone is not None and self._closed.is_set():
            self.alone.close()

    async def _wait_for(self, ask: Callable[[], None]) -> None:
        if self._closed.is_set():
            raise RedoError("the redo manager is shut down")
        self._check_circuit()
        ask()
        await self._changed.wait()

    def _check_circuit(self) -> None:
        wait = self._next_attempt - monotonic()
        if wait > 0 and (self._hopeless or self.failures >= BREAK_AFTER):
            raise RedoError(
                f"no redo child for {self.name}: {self.last_failure}"
                f" ({self.failures} failures, next attempt in {wait:.1f} s)"
            )

    def _add(self) -> None:
        """Puts the spare to work, or sees to it that one more child is launched for work."""
        self._wanted = True
        if (process := self._take_spare()) is not None:
            self._place(process)
        self._launch_if_idle()

    def _place(self, process: RedoProcess) -> None:
        """Puts a child that is well where it is missed most."""
        if process.death is not None:
            return
        if self._closed.is_set():
            process.close()
        elif self._alone_wanted and self.alone is None:
            self._alone_wanted = False
            self.alone = process
            if self._wanted:
                self._launch_if_idle()
        elif not self.processes or self._wanted:
            self._wanted = False
            self.processes.append(process)
        elif self._warm_spare and self.spare is None:
            self.spare = process
        elif len(self.processes) < self._size:
            self.processes.append(process)
        else:
            process.close()
        self._notify()

    def _take_spare(self) -> RedoProcess | None:
        process, self.spare = self.spare, None
        return process if process is not None and process.death is None else None

    def _launch_if_idle(self) -> None:
        if not self._launching and not self._closed.is_set():
            self._launch()

    def _launch(self) -> None:
        self._launching += 1
        self._nursery.start_soon(self._live)

    async def _live(self) -> None:
        """The whole life of one child, from the launch (after any backoff) to its funeral."""
        await trio.lowlevel.checkpoint()
        launching = True
        try:
            delay = self._next_attempt - monotonic()
            if delay > 0:
                with trio.move_on_after(delay):
                    await self._closed.wait()
            if self._closed.is_set():
                return
            process = self._make()
            launched_at = monotonic()
            self._metrics.started += 1
            async with trio.open_nursery() as nursery:
                try:
                    await nursery.start(process.run)
                except RedoProcessDied as exc:
                    self._failed(str(exc), hopeless=process.pid is None)
                else:
                    self._metrics.launch_seconds.observe(monotonic() - launched_at)
                    self._launching -= 1
                    launching = False
                    self._place(process)
                    if self._warm_spare and self.spare is None and not self.failures:
                        self._launch_if_idle()
        finally:
            if launching:
                self._launching -= 1
            self._notify()
        assert process.death is not None
        self._metrics.stopped[process.death.cause] += 1
        if not launching:
            self._bury(process)

    def _bury(self, process: RedoProcess) -> None:
        assert process.death is not None
        if process in self.processes:
            self.processes.remove(process)
        if self.spare is process:
            self.spare = None
        if self.alone is process:
            self.alone = None
        if process.answered > 1:  # more than its first ping
            self.failures = 0
        elif not process.death.wanted:
            self._failed(process.death.describe(), hopeless=False)
        if not self.processes and self.spare is not None:
            self._add()

    def _failed(self, reason: str, *, hopeless: bool) -> None:
        low, high = BACKOFF_S
        delay = min(high, low * 2**self.failures) * random.uniform(0.8, 1.2)
        self.failures += 1
        self.last_failure = reason
        self._hopeless = hopeless
        self._next_attempt = monotonic() + delay
        logger.warning(
            "redo child for %s failed %d times, next in %.1f s: %s",
            self.name,
            self.failures,
            delay,
            reason,
        )

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


def _load(process: RedoProcess) -> int:
    return process.load
