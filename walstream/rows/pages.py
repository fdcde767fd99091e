"""The blocks of a relation at an LSN, many at once but in order; and which could not be had."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

import trio

from walstream.errors import (
    NoBaseImage,
    PageNotFound,
    RedoError,
    StorageError,
    WalError,
    WalstreamError,
)
from walstream.pages.service import PageService
from walstream.tasks.supervise import open_bare_nursery
from walstream.wal.model import BufferTag, RelFileLocator

# Blocks that are rebuilt at a time, and how many such batches are ready ahead of the reader.
BATCH = 64
AHEAD = 1
CACHED_PAGES = 512

# What costs the rows of one page, not the answer.
PAGE_ERRORS = (PageNotFound, NoBaseImage, RedoError, WalError, StorageError)


class Block(NamedTuple):
    """A block; ``page`` is None where it could not be rebuilt, ``error`` says why."""

    number: int
    page: bytes | None
    error: WalstreamError | None


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

    async def _batch(self, locator: RelFileLocator, numbers: Sequence[int]) -> list[Block]:
        found: list[Block] = [Block(number, None, None) for number in numbers]

        async def read(place: int, number: int) -> None:
            try:
                tag = BufferTag(*locator, 0, number)
                page = await self.service.get_page(tag, self.lsn)
                found[place] = Block(number, page, None)
            except PAGE_ERRORS as error:
                found[place] = Block(number, None, error)

        async with open_bare_nursery() as nursery:
            for place, number in enumerate(numbers):
                nursery.start_soon(read, place, number)
        return found

    @asynccontextmanager
    async def scan(
        self, locator: RelFileLocator, numbers: Sequence[int] | None = None
    ) -> AsyncIterator[trio.MemoryReceiveChannel[list[Block]]]:
        """Gives a channel of batches of blocks in order: all, or those of ``numbers``.

        Cancellation: nothing is left behind; what is being rebuilt is given up.
        """
        wanted = range(self.blocks(locator) or 0) if numbers is None else numbers
        send, receive = trio.open_memory_channel[list[Block]](AHEAD)

        async def read_ahead() -> None:
            with send:
                for at in range(0, len(wanted), BATCH):
                    await send.send(await self._batch(locator, wanted[at : at + BATCH]))

        with receive:
            async with open_bare_nursery() as nursery:
                nursery.start_soon(read_ahead)
                yield receive
                nursery.cancel_scope.cancel()
