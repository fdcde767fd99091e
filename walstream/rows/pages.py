"""The blocks of a relation at an LSN, many at once but in order; and which could not be had."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import trio

from walstream.pages.service import Block, PageService
from walstream.wal.model import BufferTag, RelFileLocator

CACHED_PAGES = 512


class RelationPages:
    """Reads relations of one store as of ``lsn`` (inclusive)."""

    def __init__(self, service: PageService, lsn: int) -> None:
        self.service = service
        self.lsn = lsn
        self._cache: OrderedDict[tuple[RelFileLocator, int], bytes] = OrderedDict()

    def blocks(self, locator: RelFileLocator) -> int | None:
        """Returns how many blocks the main fork has, or None where there is no such file."""
        return self.service.index.size_at(locator, 0, self.lsn)

    async def page(self, locator: RelFileLocator, block: int) -> bytes:
        """Returns one block; those read last are remembered.

        Raises:
            PageError, RedoError, WalError, StorageError: see ``PageService.get_page``.

        Cancellation: nothing is left behind.
        """
        key = (locator, block)
        page = self._cache.get(key)
        if page is not None:
            self._cache.move_to_end(key)
            return page
        page = await self.service.get_page(BufferTag(*locator, 0, block), self.lsn)
        self._cache[key] = page
        if len(self._cache) > CACHED_PAGES:
            self._cache.popitem(last=False)
        return page

    @asynccontextmanager
    async def scan(
        self, locator: RelFileLocator, numbers: Sequence[int] | None = None
    ) -> AsyncIterator[trio.MemoryReceiveChannel[list[Block]]]:
        """Gives a channel of batches of blocks in order: all, or those of ``numbers``.

        Cancellation: nothing is left behind; what is being rebuilt is given up.
        """
        wanted = range(self.blocks(locator) or 0) if numbers is None else numbers
        async with self.service.get_pages(locator, 0, wanted, self.lsn) as batches:
            yield batches
