"""What blocks at its end is ended in a thread."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar

import trio


class Closes(Protocol):
    """What has a ``close`` that blocks."""

    def close(self) -> None: ...


T = TypeVar("T", bound=Closes)


@asynccontextmanager
async def closing_in_thread(opened: T) -> AsyncIterator[T]:
    """Closes what the context was given when it ends, however it ends.

    Cancellation: waits for the thread.
    """
    try:
        yield opened
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(opened.close)
