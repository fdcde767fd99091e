"""A position in WAL that moves forward and can be waited for. Knows no files and no sockets."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count

import trio


class Watermark:
    """An LSN that only ``advance`` moves, and tasks that wait for it.

    ``rewind`` exists for one case: a dead branch of a timeline was set aside, so that what had
    been reached no longer is. Listeners are called, synchronously, after every change.
    """

    def __init__(self, value: int = 0) -> None:
        self._value = value
        self._waiters: list[tuple[int, int, trio.Event]] = []
        self._ticket = count()
        self.listeners: list[Callable[[], None]] = []

    @property
    def value(self) -> int:
        return self._value

    def __repr__(self) -> str:
        return f"<Watermark {self._value:#x}>"

    def advance(self, value: int) -> None:
        """Moves to ``value`` when that is forward; wakes whoever waits for it."""
        if value <= self._value:
            return
        self._value = value
        while self._waiters and self._waiters[0][0] <= value:
            heapq.heappop(self._waiters)[2].set()
        for listener in self.listeners:
            listener()

    def rewind(self, value: int) -> None:
        """Moves to ``value`` whatever it was."""
        if value >= self._value:
            self.advance(value)
            return
        self._value = value
        for listener in self.listeners:
            listener()

    async def wait_for(self, value: int) -> int:
        """Waits until the position is at or past ``value``; returns the position.

        Cancellation: nothing is left behind.
        """
        if self._value >= value:
            await trio.lowlevel.checkpoint()
            return self._value
        event = trio.Event()
        waiter = (value, next(self._ticket), event)
        heapq.heappush(self._waiters, waiter)
        try:
            await event.wait()
        except trio.Cancelled:
            # An LSN that is far away may be asked for again and again.
            if not event.is_set():
                self._waiters.remove(waiter)
                heapq.heapify(self._waiters)
            raise
        return self._value

    async def wait_past(self, value: int) -> int:
        """Waits until the position is past ``value``; returns the position.

        Cancellation: as ``wait_for``.
        """
        return await self.wait_for(value + 1)
