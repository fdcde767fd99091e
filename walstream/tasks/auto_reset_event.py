"""An event that resets itself: one task waits for it again and again, anybody sets it."""

from __future__ import annotations

import trio


class AutoResetEvent:
    """Wakes one task; set many times before a ``wait``, it is set once. It is never lost."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def set(self) -> None:
        self._event.set()

    async def wait(self) -> None:
        """Returns at once when it was set since the last ``wait``, else when it is set.

        Cancellation: the event stays as it is.
        """
        await self._event.wait()
        self._event = trio.Event()
