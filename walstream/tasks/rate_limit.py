"""A bound on how much is done in a second."""

from __future__ import annotations

import trio

BURST_S = 0.1


class RateLimit:
    """Lets at most ``per_second`` units through in a second, over all tasks; None: no bound."""

    def __init__(self, per_second: int | None) -> None:
        self._per_second = per_second
        self._free_at = 0.0

    async def take(self, units: int) -> None:
        """Waits until so many units may be done.

        Cancellation: they count as done.
        """
        await trio.lowlevel.checkpoint()
        if self._per_second is None:
            return
        self._free_at = max(self._free_at, trio.current_time()) + units / self._per_second
        await trio.sleep_until(self._free_at - BURST_S)
