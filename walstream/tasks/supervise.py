"""Runs a thing again when it ends: back-off with jitter, and which error is worth it.

Knows nothing of what it runs. ``open_bare_nursery`` and ``single_error`` are the one place where an
exception group of a nursery becomes the one error that its public boundary raises.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio


class Backoff:
    """Delays that grow from ``first_s`` by ``factor`` to ``last_s``, each shortened by jitter.

    The delay counts from the start of the attempt: an attempt that lasted longer than the delay is
    followed at once by the next, after the first delay at least.
    """

    def __init__(
        self,
        first_s: float = 0.1,
        last_s: float = 15.0,
        factor: float = 1.5,
        jitter: float = 0.25,
        rng: random.Random | None = None,
    ) -> None:
        self.first_s = first_s
        self.last_s = last_s
        self.factor = factor
        self.jitter = jitter
        self._rng = rng or random.Random()
        self._next_s = first_s

    def reset(self) -> None:
        """Starts again from the first delay: the attempt has made progress."""
        self._next_s = self.first_s

    def next_delay(self) -> float:
        """Returns the delay before the next attempt, in seconds."""
        delay = self._next_s
        self._next_s = min(self._next_s * self.factor, self.last_s)
        return delay * (1 - self.jitter * self._rng.random())


def leaves(error: BaseException) -> list[BaseException]:
    """Returns the exceptions inside nested groups, in order."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in leaves(inner)]
    return [error]


def single_error(error: BaseException, mild: tuple[type[BaseException], ...] = ()) -> BaseException:
    """Returns the one exception of a nursery that tells why it ended.

    The first one that is neither ``mild`` nor a cancellation; else the first mild one; else the
    first. A nursery whose reader found a broken file and whose sender lost its socket therefore
    reports the file.
    """
    found = leaves(error)
    cancelled: tuple[type[BaseException], ...] = (trio.Cancelled,)
    for kinds in ((*cancelled, *mild), cancelled):
        for leaf in found:
            if not isinstance(leaf, kinds):
                return leaf
    return found[0]


@asynccontextmanager
async def open_bare_nursery(
    mild: tuple[type[BaseException], ...] = (),
) -> AsyncIterator[trio.Nursery]:
    """A nursery for the inside of a public context manager: one bare error leaves it, no group.

    What the body raises leaves as it is, a group of the caller's own too; where a task's error
    has cancelled the body, that error does: ``single_error`` chooses, ``mild`` as there.

    Cancellation: as of a nursery.
    """
    raised: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            try:
                yield nursery
            except BaseException as error:
                raised = error
                raise
    except BaseExceptionGroup as group:
        if raised is None or all(isinstance(leaf, trio.Cancelled) for leaf in leaves(raised)):
            raise single_error(group, mild) from group
    else:
        return
    raise raised


async def keep_running(
    attempt: Callable[[], Awaitable[None]],
    *,
    restart_on: tuple[type[Exception], ...],
    backoff: Backoff,
    on_end: Callable[[Exception | None, float], None] | None = None,
    done: Callable[[], bool] = lambda: False,
    sleep: Callable[[float], Awaitable[object]] = trio.sleep,
) -> None:
    """Runs ``attempt`` again and again: after it returned, and after an error of ``restart_on``.

    A clean end and a failed one wait the same. ``on_end`` is told why an attempt ended and the
    delay in seconds before the next. Any other error is raised. Returns when ``done`` says so.

    Cancellation: the attempt is cancelled, no other is started.
    """
    while True:
        error: Exception | None = None
        started = trio.current_time()
        try:
            await attempt()
        except restart_on as caught:
            error = caught
        if done():
            return  # noqa: ASYNC910 (the attempt was awaited)
        delay = backoff.next_delay()
        lasted = trio.current_time() - started
        delay = max(delay - lasted, min(delay, backoff.first_s / 2))
        if on_end is not None:
            on_end(error, delay)
        await sleep(delay)
        if done():
            return
