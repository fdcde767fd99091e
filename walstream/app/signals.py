"""Signals of a program that runs until it is told to stop; the one place for them."""

from __future__ import annotations

import logging
import math
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

from walstream.errors import ConnectionLost, WalstreamError
from walstream.tasks.supervise import open_bare_nursery

log = logging.getLogger("walstream")

ENDING = (signal.SIGINT, signal.SIGTERM)
PATIENCE_S = 10.0


@asynccontextmanager
async def obey_signals(
    stop: Callable[[], None],
    reload: Callable[[], Awaitable[None]],
    waiting_for: Callable[[], str],
    drain_s: float = math.inf,
) -> AsyncIterator[None]:
    """Runs the body; the first SIGINT or SIGTERM calls ``stop``, the second cancels the body.

    So does the end of ``drain_s`` seconds after the first. A thread in a system call cannot be
    cancelled: where a disk hangs, the log says every 10 seconds what is waited for
    (``waiting_for``), and after the second signal a third one kills the process. Nothing is lost
    by that: what was reported as flushed is on disk.

    SIGHUP calls ``reload``; its errors are told, and everything goes on as before.

    Raises what the body raises, bare. Cancellation: as the body's.
    """
    before = {number: signal.getsignal(number) for number in ENDING}
    try:
        async with open_bare_nursery((ConnectionLost,)) as nursery:

            async def remind() -> None:
                while True:
                    await trio.sleep(PATIENCE_S)
                    log.warning("still stopping: %s; another signal does not wait", waiting_for())

            async def watch() -> None:
                stopping = False
                with trio.open_signal_receiver(*ENDING, signal.SIGHUP) as signals:
                    async for number in signals:
                        if number == signal.SIGHUP:
                            await _reload(reload)
                        elif stopping:
                            break
                        else:
                            stopping = True
                            log.info("%s: stopping", signal.Signals(number).name)
                            stop()
                            nursery.start_soon(remind)
                            nursery.cancel_scope.deadline = trio.current_time() + drain_s
                log.warning("stopping at once; if a disk keeps the process, a third signal ends it")
                for number in ENDING:
                    signal.signal(number, signal.SIG_DFL)
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            yield
            nursery.cancel_scope.cancel()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def _reload(reload: Callable[[], Awaitable[None]]) -> None:
    try:
        await reload()
    except WalstreamError as exc:
        log.warning("%s; going on as before", exc)
