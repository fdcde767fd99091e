"""Rebuilt pages that are remembered, each for the LSNs at which it is right; and one flight a page.

A page that was built at an LSN is right from the end of the last record that changed it up to the
next change, as far as that is known.
"""

from __future__ import annotations

import threading
from bisect import bisect_right, insort
from collections import OrderedDict
from collections.abc import Awaitable, Callable

import trio

from walstream.wal.model import BLCKSZ, BufferTag

# What a page costs beside its bytes: keys, list and bytes objects.
OVERHEAD = 400


class PageCache:
    """Pages by block and range of LSNs, those used last; any thread may call.

    Args:
        size: bytes that it may take, 0 for none.
    """

    def __init__(self, size: int) -> None:
        self._most = size // (BLCKSZ + OVERHEAD)
        self._lock = threading.Lock()
        # The last LSN at which a page is right, and the page, by the first; least used first.
        self._pages: OrderedDict[tuple[BufferTag, int], tuple[int, bytes]] = OrderedDict()
        self._starts: dict[BufferTag, list[int]] = {}
        self._generation = 0

    def __len__(self) -> int:
        return len(self._pages)

    def get(self, tag: BufferTag, lsn: int, generation: int) -> bytes | None:
        """Returns the page as of an LSN, None where it is not known.

        ``generation``: of the index; what was remembered before another one is forgotten.
        """
        with self._lock:
            if generation != self._generation:
                self._forget(generation)
            starts = self._starts.get(tag)
            if starts is None:
                return None
            at = bisect_right(starts, lsn)
            if at == 0:
                return None
            key = (tag, starts[at - 1])
            last, page = self._pages[key]
            if lsn > last:
                return None
            self._pages.move_to_end(key)
            return page

    def extend(self, tag: BufferTag, first: int, last: int, generation: int) -> bytes | None:
        """Returns the page that is right from ``first`` on, and up to ``last`` from now on.

        None where it is not known.
        """
        with self._lock:
            if generation != self._generation:
                self._forget(generation)
            found = self._pages.get((tag, first))
            if found is None:
                return None
            if last > found[0]:
                self._pages[tag, first] = (last, found[1])
            self._pages.move_to_end((tag, first))
            return found[1]

    def put(self, tag: BufferTag, first: int, last: int, page: bytes, generation: int) -> None:
        """Remembers a page that is right from ``first`` to ``last``, both inclusive.

        Not where the index is of another generation than the page.
        """
        if not self._most:
            return
        with self._lock:
            if generation != self._generation:
                return
            key = (tag, first)
            if key not in self._pages:
                insort(self._starts.setdefault(tag, []), first)
            self._pages[key] = (last, page)
            self._pages.move_to_end(key)
            while len(self._pages) > self._most:
                (old, start), _ = self._pages.popitem(last=False)
                starts = self._starts[old]
                starts.remove(start)
                if not starts:
                    del self._starts[old]

    def _forget(self, generation: int) -> None:
        self._pages.clear()
        self._starts.clear()
        self._generation = generation


class Flights:
    """Work that several tasks want at the same time is done once."""

    def __init__(self) -> None:
        self._flights: dict[tuple[BufferTag, int, int], _Flight] = {}

    async def share(
        self, key: tuple[BufferTag, int, int], work: Callable[[], Awaitable[bytes]]
    ) -> bytes:
        """Returns what ``work`` returns, here or in another task that is at the same.

        ``key``: block, LSN and the generation of the index.

        Errors are not shared: who waited for work that failed does it himself.

        Cancellation: ``work`` is cancelled; the next that waits for it does it again.
        """
        while (flight := self._flights.get(key)) is not None:
            await flight.landed.wait()
            if flight.page is not None:
                return flight.page
            if flight.failed:
                return await work()
        flight = self._flights[key] = _Flight()
        try:
            flight.page = await work()
        except Exception:
            flight.failed = True
            raise
        finally:
            del self._flights[key]
            flight.landed.set()
        return flight.page


class _Flight:
    """``page`` is there when it landed well; it did not where it was cancelled, or ``failed``."""

    __slots__ = ("failed", "landed", "page")

    def __init__(self) -> None:
        self.landed = trio.Event()
        self.page: bytes | None = None
        self.failed = False
