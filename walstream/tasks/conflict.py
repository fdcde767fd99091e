"""Misuse is an error, not a race: two tasks at once in what is for one."""

from __future__ import annotations

from types import TracebackType

import trio


class ConflictDetector:
    """``with detector:`` for one task at a time; not a lock: the second one is told."""

    def __init__(self, message: str) -> None:
        self._message = message
        self._held = False

    def __enter__(self) -> None:
        """Raises trio.BusyResourceError where another task is inside."""
        if self._held:
            raise trio.BusyResourceError(self._message)
        self._held = True

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._held = False
