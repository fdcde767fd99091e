"""Many pages of one relation, in order: what ``PageService.get_pages`` does.

Three stages run at the same time, each on another chunk of blocks: a thread gathers
(``gather.py``), redo children rebuild, another thread stamps the pages and cuts them apart. The
event loop only moves whole batches.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple, Protocol, TypeVar

import trio

from walstream.errors import (
    NoBaseImage,
    PageDamaged,
    PageNotFound,
    RedoError,
    StorageError,
    WalError,
    WalstreamError,
)
from walstream.pages.gather import CHUNK_BLOCKS, Chunk, Gatherer
from walstream.pages.requests import block_numbers
from walstream.redo.batch import BatchReply, RequestBatch
from walstream.redo.protocol import RedoRequest
from walstream.redo.rules.checksum import stamp_pages
from walstream.tasks.supervise import open_bare_nursery
from walstream.wal.model import BufferTag, RelFileLocator

T = TypeVar("T")

# Batches that are with redo children at the same time, and pages that are read one by one.
BATCHES_AT_ONCE = 4
SINGLE_AT_ONCE = 64

# The first blocks come soon: most reading of a table ends with it.
FIRST_BLOCKS = 64

# What costs one page, not the others.
PAGE_ERRORS = (PageNotFound, NoBaseImage, PageDamaged, RedoError, WalError, StorageError)


class Redo(Protocol):
    """What the service needs of a redo manager."""

    async def redo(self, request: RedoRequest, *, version: int, stamp_hints: bool) -> bytes:
        """See ``RedoManager.redo``.

        Cancellation: the reply is dropped; nobody else notices.
        """

    async def redo_batch(
        self, batch: RequestBatch, *, version: int, stamp_hints: bool
    ) -> BatchReply:
        """See ``RedoManager.redo_batch``.

        Cancellation: the replies are dropped; nobody else notices.
        """


class ClusterFacts(NamedTuple):
    """What redo must know of the cluster. ``stamp_hints``: checksums or wal_log_hints are on."""

    version: int
    stamp_hints: bool
    checksums: bool


class Block(NamedTuple):
    """A block; ``page`` is None where it could not be rebuilt, ``error`` says why."""

    number: int
    page: bytes | None
    error: WalstreamError | None

    def rebuilt(self) -> bytes:
        """Returns the page; raises why it could not be rebuilt."""
        if self.page is None:
            assert self.error is not None
            raise self.error
        return self.page


class _Work(NamedTuple):
    """A chunk, the replies to its batches, and the errors of single pages by their places."""

    chunk: Chunk
    replies: list[BatchReply | None]
    errors: dict[int, WalstreamError]


class BulkPages:
    """Reads many blocks at a time.

    Args:
        gatherer: says what pages need.
        redo: who rebuilds pages.
        facts: of the cluster.
        get_page: gives one page.
        limiter: of the threads.
    """

    def __init__(
        self,
        gatherer: Gatherer,
        redo: Redo,
        facts: ClusterFacts,
        get_page: Callable[[BufferTag, int], Awaitable[bytes]],
        limiter: trio.CapacityLimiter,
    ) -> None:
        self._gatherer = gatherer
        self._redo = redo
        self._facts = facts
        self._get_page = get_page
        self._limiter = limiter

    @asynccontextmanager
    async def read(
        self, locator: RelFileLocator, fork: int, blocks: Sequence[int], lsn: int
    ) -> AsyncIterator[trio.MemoryReceiveChannel[list[Block]]]:
        """See ``PageService.get_pages``; the LSN was checked.

        Cancellation: nothing is left behind.
        """
        send_chunk, chunks = trio.open_memory_channel[Chunk](0)
        send_work, works = trio.open_memory_channel[_Work](0)
        send, receive = trio.open_memory_channel[list[Block]](0)

        async def gather() -> None:
            with send_chunk:
                at = 0
                size = FIRST_BLOCKS
                while at < len(blocks):
                    wanted = blocks[at : at + size]
                    size = CHUNK_BLOCKS
                    chunk = await self._in_thread(self._gatherer.chunk, locator, fork, wanted, lsn)
                    at += len(chunk.blocks)
                    await send_chunk.send(chunk)

        async def rebuild() -> None:
            with chunks, send_work:
                async for chunk in chunks:
                    await send_work.send(await self._rebuild(locator, fork, chunk, lsn))

        async def finish() -> None:
            with works, send:
                async for work in works:
                    found = await self._in_thread(_finish, work, self._facts.checksums)
                    await send.send(found)

        with receive:
            async with open_bare_nursery(mild=(trio.BrokenResourceError,)) as nursery:
                nursery.start_soon(gather)
                nursery.start_soon(rebuild)
                nursery.start_soon(finish)
                yield receive
                nursery.cancel_scope.cancel()

    async def _in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        return await trio.to_thread.run_sync(work, *arguments, limiter=self._limiter)

    async def _rebuild(self, locator: RelFileLocator, fork: int, chunk: Chunk, lsn: int) -> _Work:
        """Returns a chunk with all that redo gives for it."""
        work = _Work(chunk, [None] * len(chunk.batches), {})
        batches = iter(range(len(chunk.batches)))
        single = iter(chunk.single)

        async def send_batches() -> None:
            for number in batches:
                batch = chunk.batches[number][1]
                try:
                    work.replies[number] = await self._redo.redo_batch(
                        batch, version=self._facts.version, stamp_hints=self._facts.stamp_hints
                    )
                except PAGE_ERRORS as error:
                    for place in chunk.batches[number][0]:
                        work.errors[place] = error

        async def read_single() -> None:
            for place in single:
                tag = BufferTag(*locator, fork, chunk.blocks[place])
                try:
                    chunk.pages[place] = await self._get_page(tag, lsn)
                except PAGE_ERRORS as error:
                    work.errors[place] = error

        async with open_bare_nursery() as nursery:
            for _ in range(min(BATCHES_AT_ONCE, len(chunk.batches))):
                nursery.start_soon(send_batches)
            for _ in range(min(SINGLE_AT_ONCE, len(chunk.single))):
                nursery.start_soon(read_single)
        return work


def _finish(work: _Work, checksums: bool) -> list[Block]:
    """Returns the blocks of a chunk, with their checksums."""
    chunk, replies, errors = work
    pages = chunk.pages
    for (places, _), reply in zip(chunk.batches, replies, strict=True):
        if reply is None:
            continue
        if checksums:
            stamp_pages(reply.pages, block_numbers([chunk.blocks[place] for place in places]))
        for number, place in enumerate(places):
            error = reply.errors.get(number)
            if error is None:
                pages[place] = reply.page(number)
            else:
                errors[place] = error
    return [
        Block(number, page, errors.get(place))
        for place, (number, page) in enumerate(zip(chunk.blocks, pages, strict=True))
    ]
