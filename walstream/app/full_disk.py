"""Waiting for space: what a full disk keeps from being written is tried again, until cancelled."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import trio

from walstream.errors import NoSpace
from walstream.store.file_layer import free_space

log = logging.getLogger("walstream")

T = TypeVar("T")

RETRY_S = 1.0


class WaitForSpace:
    """Waits a moment, in a thread of Trio's; says once that it does. Cancelled with its task."""

    def __init__(self) -> None:
        self._said = False

    def __call__(self, error: NoSpace) -> None:
        if not self._said:
            self._said = True
            log.warning("%s, %s; waiting for space", error, free_space(error.path))
        trio.from_thread.run(trio.sleep, RETRY_S)


async def with_space(write: Callable[[], T]) -> T:
    """Returns what ``write`` returns, called in a thread and again for as long as the disk is full.

    ``write`` must leave nothing behind when it raises NoSpace.

    Cancellation: a call that has begun is finished, its result is given.
    """
    wait = WaitForSpace()

    def attempt() -> T:
        while True:
            try:
                return write()
            except NoSpace as error:
                wait(error)

    return await trio.to_thread.run_sync(attempt)
