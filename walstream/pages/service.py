"""GetPage@LSN: the plan for a page (base and records), its redo, and the checks around it.

Page at LSN x means: all records with ``end_lsn <= x``. The plan is made from the index alone, the
records are then read from the segment files, the redo child does the rest.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import islice, pairwise, takewhile
from typing import NamedTuple, TypeVar

import trio

from walstream.errors import PageNotFound
from walstream.index.page_index import MAX_LSN, Entry, EntryFlag, PageIndex
from walstream.pages.bulk import PAGE_ERRORS as PAGE_ERRORS
from walstream.pages.bulk import Block as Block
from walstream.pages.bulk import BulkPages, Redo
from walstream.pages.bulk import ClusterFacts as ClusterFacts
from walstream.pages.cache import Flights, PageCache
from walstream.pages.gather import Gatherer
from walstream.pages.plan import Base as Base
from walstream.pages.plan import Planner
from walstream.redo.rules.checksum import with_checksum
from walstream.rmgr import describe, operation_name
from walstream.rmgr.rmgrlist import rmgr_name
from walstream.segments.reader import SegmentReader
from walstream.store.removed import Moments
from walstream.tasks.desk import Desk
from walstream.tasks.watermark import Watermark
from walstream.wal.model import BufferTag, ForkNumber, RawRecord, RelFileLocator
from walstream.wal.record import decode_wal_record

T = TypeVar("T")

CACHE_BYTES = 32 << 20
BULK_THREADS = 4


class BlockChange(NamedTuple):
    """One record in the history of a block, described as pg_waldump does.

    ``makes_page``: it needs no earlier version. ``implicit``: it changes visibility map bits
    without naming the map's block.
    """

    start_lsn: int
    end_lsn: int
    xid: int
    rmgr: str
    op: str
    length: int
    makes_page: bool
    implicit: bool
    description: str


class PageService:
    """Answers "this block as of that LSN" for one store.

    Args:
        index: of the store; what it knows when it is asked counts, so an index that grows serves.
        archive: where the records of the index are read from.
        bases: the base backups; pages start from the newest one that fits.
        facts: see there.
        redo: who rebuilds pages.
        last_valid: up to where ingest in this process has read; None without one.
        branch_end: what the index has from there on is of a branch that the server has left.
        moments: those that gc left; none: all from the oldest base on.
        cache_bytes: for rebuilt pages that are remembered.
    """

    def __init__(
        self,
        index: PageIndex,
        archive: SegmentReader,
        bases: Sequence[Base],
        facts: ClusterFacts,
        redo: Redo,
        last_valid: Watermark | None = None,
        branch_end: int = MAX_LSN,
        moments: Sequence[Moments] = (),
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.planner = Planner(index, archive, bases, last_valid, branch_end, moments)
        self.index = index
        self.archive = archive
        self.facts = facts
        self._redo = redo
        self._last_valid = last_valid
        self._branch_end = branch_end
        self.gatherer = Gatherer(self.planner, cache := PageCache(cache_bytes))
        self._cache = cache
        self._flights = Flights()
        self._desk = Desk(self.gatherer.gather)
        # Of what takes long, one at a time; and so many chunks of blocks.
        self._limiter = trio.CapacityLimiter(1)
        self._bulk_limiter = trio.CapacityLimiter(BULK_THREADS)

    @property
    def bases(self) -> list[Base]:
        """The base backups that pages start from, oldest first."""
        return self.planner.bases

    @property
    def moments(self) -> tuple[Moments, ...]:
        """The moments that gc left; none: all from the oldest base on."""
        return self.planner.moments

    def replace_bases(
        self, bases: Sequence[Base], moments: Sequence[Moments] | None = None
    ) -> None:
        """From now on pages start from these base backups; for any thread.

        ``moments``: as of the constructor; None: as before.
        """
        self.planner.replace_bases(bases, moments)

    async def leave_bases(self, bases: Sequence[Base], moments: Sequence[Moments]) -> None:
        """Starts pages from these base backups only; when it returns, no other is read any more.

        Cancellation: waits for the pages that are being read.
        """
        self.replace_bases(bases, moments)
        await trio.to_thread.run_sync(self.gatherer.settle)

    @property
    def first_lsn(self) -> int:
        """The earliest LSN that can be asked for (inclusive)."""
        return self.planner.first_lsn

    @property
    def last_record_lsn(self) -> int:
        """End of the newest record in the index, or of the branch that it is of."""
        return self.planner.last_record_lsn

    @property
    def last_valid_lsn(self) -> int:
        """Up to where every record is known; at or after ``last_record_lsn``."""
        return self.planner.last_valid_lsn

    async def wait_for_lsn(self, lsn: int, wait_s: float) -> None:
        """Waits until everything up to ``lsn`` is known, at most ``wait_s`` seconds.

        An LSN within a record is reached when the bytes before it are: no wait for the record's
        end. Without ingest in this process there is nothing to wait for.

        Cancellation: nothing is left behind.
        """
        await trio.lowlevel.checkpoint()
        if self._last_valid is not None and lsn > self._last_valid.value:
            with trio.move_on_after(wait_s):
                await self._last_valid.wait_for(lsn)

    async def get_page(
        self, tag: BufferTag, at_lsn: int | None = None, *, wait_s: float = 0.0
    ) -> bytes:
        """Returns the 8192 bytes of a block as of ``at_lsn`` (inclusive), default the newest.

        An LSN that has not been reached is waited for, at most ``wait_s`` seconds.

        Raises:
            PageError: no such LSN, block or base.
            RedoError: redo failed.
            WalError: a record of the chain cannot be read.

        Cancellation: nothing is left behind; the redo child drops the reply.
        """
        if at_lsn is None:
            # Never what somebody else began to read: it may be older than what is known by now.
            return await self._read(tag, None)
        generation = self.planner.generation
        page = self._cache.get(tag, at_lsn, generation)
        if page is not None:
            await trio.lowlevel.checkpoint()
            return page
        if self._last_valid is not None and at_lsn > self._last_valid.value:
            await self.wait_for_lsn(at_lsn, wait_s)
        key = (tag, at_lsn, generation)
        return await self._flights.share(key, partial(self._read, tag, at_lsn))

    async def _read(self, tag: BufferTag, at_lsn: int | None) -> bytes:
        """Returns a page that is not in the cache, and puts it there."""
        gathered = await self._desk.ask((tag, at_lsn))
        page = gathered.base
        for step in gathered.steps:
            page = await self._redo.redo(
                step if page is None else step._replace(base_page=page),
                version=self.facts.version,
                stamp_hints=self.facts.stamp_hints,
            )
        assert page is not None
        # Redo leaves pd_checksum stale, as PostgreSQL does until a page is written out.
        if self.facts.checksums:
            page = with_checksum(page, tag.block)
        _, _, first_lsn, last_lsn, generation = gathered
        self._cache.put(tag, first_lsn, last_lsn, page, generation)
        return page

    @asynccontextmanager
    async def get_pages(
        self,
        locator: RelFileLocator,
        fork: int,
        blocks: Sequence[int],
        at_lsn: int | None = None,
        *,
        wait_s: float = 0.0,
    ) -> AsyncIterator[trio.MemoryReceiveChannel[list[Block]]]:
        """Gives a channel of lists of blocks of a fork as of ``at_lsn``, in the order asked for.

        Each page is what ``get_page`` gives, and each error what it raises; a page that cannot be
        rebuilt leaves the others. Memory is bounded, however many blocks there are; pages that are
        read so are not remembered.

        Args:
            blocks: their numbers, ascending, none twice.
            wait_s: see ``get_page``.

        Raises:
            ValueError: the blocks do not ascend.
            LsnNotAvailable: no such LSN.
            StorageError: the index cannot be read.

        Cancellation: nothing is left behind; what is being rebuilt is given up.
        """
        if not _ascend(blocks):
            raise ValueError("blocks: expected ascending numbers, none twice")
        await self.wait_for_lsn(at_lsn or 0, wait_s)
        lsn = await self._in_thread(self.planner.check_lsn, at_lsn)
        bulk = BulkPages(self.gatherer, self._redo, self.facts, self.get_page, self._bulk_limiter)
        async with bulk.read(locator, fork, blocks, lsn) as received:
            yield received

    async def _in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        """Runs what reads the disk in a thread: only one at a time, and never in the event loop."""
        return await trio.to_thread.run_sync(work, *arguments, limiter=self._limiter)

    async def read_history(
        self,
        tag: BufferTag,
        from_lsn: int = 0,
        to_lsn: int | None = None,
        limit: int | None = None,
    ) -> list[BlockChange]:
        """Returns what ``history`` returns, read in a thread.

        Raises:
            WalError: a record cannot be read.

        Cancellation: waits for the thread; nothing is left behind.
        """
        return await self._in_thread(self.history, tag, from_lsn, to_lsn, limit)

    def history(
        self,
        tag: BufferTag,
        from_lsn: int = 0,
        to_lsn: int | None = None,
        limit: int | None = None,
    ) -> list[BlockChange]:
        """Returns the records that changed a block with ``from_lsn < end_lsn <= to_lsn``.

        Oldest first; with ``limit`` only the newest so many. Blocks: it reads the disk.

        Raises:
            WalError: a record cannot be read.
            PageNotFound: there never was such a block, as far as the store goes back.
        """
        if next(iter(self.index.entries(tag, MAX_LSN)), None) is None:
            self._check_existed(tag)
        upto = self._branch_end if to_lsn is None else min(to_lsn, self._branch_end)
        newest_first = takewhile(
            lambda entry: entry.end_lsn > from_lsn, self.index.entries(tag, upto)
        )
        entries = list(islice(newest_first, limit))
        return [self._change(entry) for entry in reversed(entries)]

    def _check_existed(self, tag: BufferTag) -> None:
        """Raises PageNotFound for a block without any record that is in no base either."""
        moments = {base.stop_lsn for base in self.bases} | {self.last_valid_lsn}
        sizes = [self.index.size_at(tag.locator, tag.fork, lsn) for lsn in moments]
        fork = ForkNumber(tag.fork).name.lower()
        if all(size is None for size in sizes):
            raise PageNotFound(f"there never was a relation {tag.locator} fork {fork}")
        if all(tag.block >= (size or 0) for size in sizes):
            raise PageNotFound(f"relation {tag.locator} fork {fork} never had a block {tag.block}")

    def _change(self, entry: Entry) -> BlockChange:
        raw = RawRecord(entry.start_lsn, entry.end_lsn, self.archive.read_record(entry.start_lsn))
        version = self.facts.version
        record = decode_wal_record(raw, version)
        return BlockChange(
            entry.start_lsn,
            entry.end_lsn,
            record.xid,
            rmgr_name(record.rmgr_id),
            operation_name(version, record.rmgr_id, record.info),
            record.total_length,
            bool(entry.flags & EntryFlag.INIT),
            bool(entry.flags & EntryFlag.IMPLICIT),
            describe(record, version),
        )


def _ascend(numbers: Sequence[int]) -> bool:
    if isinstance(numbers, range):
        return numbers.step > 0
    return all(one < other for one, other in pairwise(numbers))
