"""A bell that one task waits for and anybody rings; rings before the wait are not lost."""

from __future__ import annotations

import trio


class Bell:
    """Level-triggered wake-up of one task: many rings before a ``wait`` are one."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def ring(self) -> None:
        self._event.set()

    async def wait(self) -> None:
        """Returns at once when it rang since the last ``wait``, else when it rings.

        Cancellation: a ring is never lost.
        """
        await self._event.wait()
        self._event = trio.Event()
