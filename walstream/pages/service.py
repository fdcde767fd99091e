"""GetPage@LSN: the plan for a page (base and records), its redo, and the checks around it.

Page at LSN x means: all records with ``end_lsn <= x``. The plan is made from the index alone, the
records are then read from the segment files, the redo child does the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, takewhile
from typing import NamedTuple, Protocol, TypeVar

import trio

from walstream.errors import LsnNotAvailable, NoBaseImage, PageDamaged, PageNotFound
from walstream.index.page_index import (
    MAX_LSN,
    DatabaseKind,
    Entry,
    EntryFlag,
    PageIndex,
)
from walstream.redo.protocol import RedoRequest
from walstream.redo.rules.checksum import with_checksum
from walstream.rmgr import describe, operation_name
from walstream.rmgr.rmgrlist import rmgr_name
from walstream.segments.reader import SegmentReader
from walstream.store.base_backup_pages import BasePages
from walstream.store.removed import Moments, check_answerable
from walstream.tasks.watermark import Watermark
from walstream.wal.model import BLCKSZ, BufferTag, ForkNumber, RawRecord, format_lsn
from walstream.wal.record import decode_wal_record

T = TypeVar("T")

ZERO_PAGE = bytes(BLCKSZ)
# A page may come from a database that was copied from one that was copied...: so many times.
MAX_COPIES = 200


class Redo(Protocol):
    """What the service needs of a redo manager."""

    async def redo(self, request: RedoRequest, *, version: int, stamp_hints: bool) -> bytes:
        """See ``RedoManager.redo``.

        Cancellation: the reply is dropped; nobody else notices.
        """


class Base(NamedTuple):
    """A base backup that pages may start from.

    ``start_lsn``: redo point of the backup; records that end at or before it are in its pages.
    ``stop_lsn``: the earliest LSN at which the backup and WAL together give a consistent state.
    """

    start_lsn: int
    stop_lsn: int
    pages: BasePages


class ClusterFacts(NamedTuple):
    """What redo must know of the cluster. ``stamp_hints``: checksums or wal_log_hints are on."""

    version: int
    stamp_hints: bool
    checksums: bool


class Plan(NamedTuple):
    """How a page will be rebuilt: ``entries`` oldest first on top of ``base``.

    ``base`` is a page, or the plan of the page that this one was copied from, or None where the
    first entry makes the page.
    """

    tag: BufferTag
    at_lsn: int
    base: bytes | Plan | None
    entries: tuple[Entry, ...]


class Gathered(NamedTuple):
    """The bytes that a plan needs: a page to start from, and what is redone on it, in order.

    More than one step where the page is one of a copied database. ``base`` is None where the first
    record of the first step makes the page.
    """

    base: bytes | None
    steps: tuple[RedoRequest, ...]


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
    ) -> None:
        self.index = index
        self.archive = archive
        self.bases: list[Base] = []
        self.moments: tuple[Moments, ...] = ()
        self.replace_bases(bases, moments)
        self.facts = facts
        self._redo = redo
        self._last_valid = last_valid
        self._branch_end = branch_end
        # The archive and the bases serve one thread at a time.
        self._limiter = trio.CapacityLimiter(1)

    def replace_bases(
        self, bases: Sequence[Base], moments: Sequence[Moments] | None = None
    ) -> None:
        """From now on pages start from these base backups; for any thread.

        ``moments``: as of the constructor; None: as before.
        """
        if moments is not None:
            self.moments = tuple(moments)
        self.bases = sorted(bases, key=lambda base: (base.start_lsn, base.stop_lsn))

    async def leave_bases(self, bases: Sequence[Base], moments: Sequence[Moments]) -> None:
        """Starts pages from these base backups only; when it returns, no other is read any more.

        Cancellation: waits for the page that is being read.
        """
        self.replace_bases(bases, moments)
        await self._in_thread(lambda: None)

    @property
    def first_lsn(self) -> int:
        """The earliest LSN that can be asked for (inclusive)."""
        return min((base.stop_lsn for base in self.bases), default=0)

    @property
    def last_record_lsn(self) -> int:
        """End of the newest record in the index, or of the branch that it is of."""
        stored = self.index.meta("last_record_end")
        return min(int(stored), self._branch_end) if stored is not None else 0

    @property
    def last_valid_lsn(self) -> int:
        """Up to where every record is known; at or after ``last_record_lsn``."""
        valid = 0 if self._last_valid is None else self._last_valid.value
        return max(valid, self.last_record_lsn)

    async def wait_for_lsn(self, lsn: int, wait_s: float) -> None:
        """Waits until everything up to ``lsn`` is known, at most ``wait_s`` seconds.

        An LSN within a record is reached when the bytes before it are: no wait for the record's
        end. Without ingest in this process there is nothing to wait for.

        Cancellation: nothing is left behind.
        """
        await trio.lowlevel.checkpoint()
        if self._last_valid is not None and lsn > self.last_valid_lsn:
            with trio.move_on_after(wait_s):
                await self._last_valid.wait_for(lsn)

    def check_lsn(self, at_lsn: int | None) -> int:
        """Returns the LSN to answer at: the given one, or the newest.

        Raises:
            LsnNotAvailable: before the store begins, or beyond what is indexed. The newest is
                before the beginning until the index has reached the end of the base backup.
        """
        last = self.last_record_lsn
        if at_lsn is None:
            at_lsn = last
            if last < self.first_lsn:
                raise LsnNotAvailable(
                    f"no LSN is available yet: the newest record in the index ends at "
                    f"{format_lsn(last)}, the base backup needs WAL up to "
                    f"{format_lsn(self.first_lsn)}"
                )
        if at_lsn < self.first_lsn:
            raise LsnNotAvailable(
                f"LSN {format_lsn(at_lsn)} is before the store begins: "
                f"the earliest is {format_lsn(self.first_lsn)}"
            )
        if at_lsn > self._branch_end:
            raise LsnNotAvailable(
                f"LSN {format_lsn(at_lsn)} is of a branch that the server left at "
                f"{format_lsn(self._branch_end)}: walstream run takes the index back and goes on"
            )
        if at_lsn > self.last_valid_lsn:
            raise LsnNotAvailable(
                f"LSN {format_lsn(at_lsn)} has not been reached: "
                f"the newest record ends at {format_lsn(last)}"
            )
        self.check_kept(at_lsn)
        return at_lsn

    def check_kept(self, at_lsn: int) -> None:
        """Checks that gc left what an LSN is made from.

        Raises:
            LsnNotAvailable: it did not.
        """
        if self.moments:
            check_answerable(self.moments, at_lsn)

    def check_kept_range(self, from_lsn: int, to_lsn: int) -> None:
        """Checks that gc left what every LSN from one to another is made from.

        Raises:
            LsnNotAvailable: it did not; what can be had is said.
        """
        self.check_kept(from_lsn)
        self.check_kept(to_lsn)
        if not self.moments or any(
            each.has(from_lsn) and each.has(to_lsn) for each in self.moments
        ):
            return
        known = ", ".join(map(str, self.moments))
        raise LsnNotAvailable(
            f"not every moment from {format_lsn(from_lsn)} to {format_lsn(to_lsn)} can be had, "
            f"walstream gc removed what some are made from: the moments that can be had are {known}"
        )

    def _oldest_start(self, asked_lsn: int) -> int:
        """Returns where the oldest base begins that pages as of an LSN may be made from."""
        for moments in self.moments:
            if moments.has(asked_lsn):
                return moments.base_lsn
        return self.bases[0].start_lsn if self.bases else 0

    def plan(self, tag: BufferTag, at_lsn: int | None = None) -> Plan:
        """Returns how the page will be rebuilt. Blocks: it reads the index and the base backup.

        Raises:
            LsnNotAvailable: see ``check_lsn``.
            PageNotFound: no such relation or block at that LSN.
            NoBaseImage: nothing to start redo from.
            PageDamaged: the only page to start from is not what the base backup brought.
        """
        lsn = self.check_lsn(at_lsn)
        size = self.index.size_at(tag.locator, tag.fork, lsn)
        fork = ForkNumber(tag.fork).name.lower()
        if size is None:
            raise PageNotFound(
                f"relation {tag.locator} fork {fork} does not exist at {format_lsn(lsn)}"
            )
        if tag.block >= size:
            raise PageNotFound(
                f"block {tag.block} is beyond the end of relation {tag.locator} fork {fork}: "
                f"it has {size} blocks at {format_lsn(lsn)}"
            )
        return self._plan(tag, lsn, lsn)

    def _plan(self, tag: BufferTag, lsn: int, asked_lsn: int, copies: int = 0) -> Plan:
        """Returns the plan for a page as of ``lsn``, which is for one as of ``asked_lsn``."""
        # The index may go back further than WAL: gc leaves nothing before the oldest base.
        floor = max(self.index.voided(tag, lsn), self._oldest_start(asked_lsn))
        copy = self.index.database_replaced(tag.spc_oid, tag.db_oid, lsn)
        if copy is not None and copy.end_lsn > floor:
            floor = copy.end_lsn
        else:
            copy = None
        bases = self._usable_bases(lsn, asked_lsn, floor)
        damage: list[PageDamaged] = []
        chain: list[Entry] = []
        base = next(bases, None)
        for entry in self.index.entries(tag, lsn):
            if entry.end_lsn <= floor:
                break
            # A record before the start of a backup is in its pages. Some changes are made whatever
            # the page's LSN, so replaying it on them would undo what came later.
            while base is not None and entry.end_lsn <= base.start_lsn:
                page = self._base_page(base, tag, damage)
                if page is not None:
                    return Plan(tag, lsn, page, tuple(reversed(chain)))
                base = next(bases, None)
            chain.append(entry)
            if entry.flags & EntryFlag.INIT:
                return Plan(tag, lsn, None, tuple(reversed(chain)))
        chain.reverse()
        while base is not None:
            page = self._base_page(base, tag, damage)
            if page is not None:
                return Plan(tag, lsn, page, tuple(chain))
            base = next(bases, None)
        if damage:
            raise damage[0]
        if copy is not None and copy.kind == DatabaseKind.COPY:
            # CREATE DATABASE by file copy: the page is the source's page before that moment.
            if copies == MAX_COPIES:
                raise NoBaseImage(
                    f"no base for block {tag.block} of {tag.locator}: its database is the copy of "
                    f"a copy, more than {MAX_COPIES} times"
                )
            source = tag._replace(spc_oid=copy.source_spc_oid, db_oid=copy.source_db_oid)
            source_plan = self._plan(source, copy.end_lsn - 1, asked_lsn, copies + 1)
            return Plan(tag, lsn, source_plan, tuple(chain))
        if chain and tag.fork != ForkNumber.VM:
            raise NoBaseImage(
                f"no base for block {tag.block} of {tag.locator}: the oldest of "
                f"{len(chain)} records, ending at {format_lsn(chain[0].end_lsn)}, "
                "does not initialise the page and no base backup has it"
            )
        # Extended, never written: all zeros, as PostgreSQL would read it.
        return Plan(tag, lsn, ZERO_PAGE, tuple(chain))

    def _base_page(self, base: Base, tag: BufferTag, damage: list[PageDamaged]) -> bytes | None:
        """Returns a page of a backup, None where it has none or a damaged one, kept in ``damage``.

        An older image or backup may make the page without it.
        """
        try:
            return base.pages.read(tag)
        except PageDamaged as error:
            damage.append(error)
            return None

    def _usable_bases(self, lsn: int, asked_lsn: int, floor: int) -> Iterator[Base]:
        """Yields the bases that a page as of ``lsn`` can be made from, newest first.

        For the source of a copied database ``lsn``, the moment of the copy, may lie within the
        backup. As PostgreSQL's recovery does we then take the page that was backed up; it is right
        once all WAL up to the end of the backup counts, which ``asked_lsn`` says.
        """
        for base in reversed(self.bases):
            if floor <= base.start_lsn <= lsn and base.stop_lsn <= asked_lsn:
                yield base

    def records(self, entries: Iterable[Entry]) -> tuple[tuple[int, bytes], ...]:
        """Returns (end LSN, record) of index entries, read from the segment files.

        Raises:
            WalError: a record cannot be read.
        """
        read = self.archive.read_record
        return tuple((entry.end_lsn, read(entry.start_lsn)) for entry in entries)

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
        await self.wait_for_lsn(at_lsn or 0, wait_s)
        page = await self._rebuild(await self._in_thread(self._gather, tag, at_lsn))
        # Redo leaves pd_checksum stale, as PostgreSQL does until a page is written out.
        return with_checksum(page, tag.block) if self.facts.checksums else page

    def _gather(self, tag: BufferTag, at_lsn: int | None) -> Gathered:
        """Returns all that redo of a page needs, read from the disk. Blocks."""
        steps: list[RedoRequest] = []
        plan: bytes | Plan | None = self.plan(tag, at_lsn)
        while isinstance(plan, Plan):
            base = plan.base if isinstance(plan.base, bytes) else None
            if plan.entries:
                steps.append(RedoRequest(plan.tag, base, self.records(plan.entries)))
            plan = plan.base
        return Gathered(plan, tuple(reversed(steps)))

    async def _rebuild(self, gathered: Gathered) -> bytes:
        page = gathered.base
        for step in gathered.steps:
            page = await self._redo.redo(
                step._replace(base_page=page),
                version=self.facts.version,
                stamp_hints=self.facts.stamp_hints,
            )
        assert page is not None
        return page

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
