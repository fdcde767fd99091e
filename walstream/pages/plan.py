"""How a page is rebuilt: what it starts from and which records are redone on it.

Page at LSN x means: all records with ``end_lsn <= x``. The plan is made from the index and the base
backups alone; redo is ``service.py``'s business.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from walstream.errors import LsnNotAvailable, NoBaseImage, PageDamaged, PageNotFound
from walstream.index.page_index import MAX_LSN, DatabaseKind, Entry, EntryFlag, PageIndex
from walstream.index.voids import Void
from walstream.segments.reader import SegmentReader
from walstream.store.base_backup_pages import BasePages
from walstream.store.removed import Moments, check_answerable
from walstream.tasks.watermark import Watermark
from walstream.wal.model import BLCKSZ, BufferTag, ForkNumber, RelFileLocator, format_lsn

ZERO_PAGE = bytes(BLCKSZ)
# A page may come from a database that was copied from one that was copied...: so many times.
MAX_COPIES = 200
# What is remembered of forks, each as of one LSN.
KNOWN_FORKS = 1024


class Base(NamedTuple):
    """A base backup that pages may start from.

    ``start_lsn``: redo point of the backup; records that end at or before it are in its pages.
    ``stop_lsn``: the earliest LSN at which the backup and WAL together give a consistent state.
    """

    start_lsn: int
    stop_lsn: int
    pages: BasePages


class Plan(NamedTuple):
    """How a page will be rebuilt: ``entries`` oldest first on top of ``base``.

    ``base`` is a page, or the plan of the page that this one was copied from, or None where the
    first entry makes the page.
    """

    tag: BufferTag
    at_lsn: int
    base: bytes | Plan | None
    entries: tuple[Entry, ...]


class ForkAt(NamedTuple):
    """What the index says of a fork as of an LSN, but for its single blocks.

    ``made_lsn``: its database was made then, or removed; 0 for never. ``void``: the last change
    that made older versions of blocks void. ``last_lsn``: there is no later one that ends at or
    before it.
    """

    size: int | None
    made_lsn: int
    void: Void | None
    last_lsn: int


class Known(NamedTuple):
    """Which LSNs can be asked for: from ``first`` to ``valid``, both inclusive.

    ``last``: end of the newest record; ``branch_end``, ``moments``: see ``Planner``.
    """

    first: int
    last: int
    valid: int
    branch_end: int
    moments: tuple[Moments, ...] = ()

    def check(self, at_lsn: int | None) -> int:
        """See ``Planner.check_lsn``."""
        first, last, valid, branch_end, moments = self
        if at_lsn is None:
            at_lsn = last
            if last < first:
                raise LsnNotAvailable(
                    f"no LSN is available yet: the newest record in the index ends at "
                    f"{format_lsn(last)}, the base backup needs WAL up to {format_lsn(first)}"
                )
        if at_lsn < first:
            raise LsnNotAvailable(
                f"LSN {format_lsn(at_lsn)} is before the store begins: "
                f"the earliest is {format_lsn(first)}"
            )
        if at_lsn > branch_end:
            raise LsnNotAvailable(
                f"LSN {format_lsn(at_lsn)} is of a branch that the server left at "
                f"{format_lsn(branch_end)}: walstream run takes the index back and goes on"
            )
        if at_lsn > valid:
            raise LsnNotAvailable(
                f"LSN {format_lsn(at_lsn)} has not been reached: "
                f"the newest record ends at {format_lsn(last)}"
            )
        if moments:
            check_answerable(moments, at_lsn)
        return at_lsn

    def around(self, lsn: int) -> tuple[int, int]:
        """Returns from where to where every LSN can be asked for, as ``lsn`` can; inclusive."""
        for each in self.moments:
            if each.has(lsn):
                last = self.valid if each.to_lsn is None else min(each.to_lsn, self.valid)
                return max(each.from_lsn, self.first), last
        return self.first, self.valid


class Planner:
    """Plans pages of one store. Any thread may call.

    Args:
        index: of the store; what it knows when it is asked counts, so an index that grows serves.
        archive: where the records of the index are read from.
        bases: the base backups; pages start from the newest one that fits.
        last_valid: up to where ingest in this process has read; None without one.
        branch_end: what the index has from there on is of a branch that the server has left.
        moments: those that gc left; none: all from the oldest base on.
    """

    def __init__(
        self,
        index: PageIndex,
        archive: SegmentReader,
        bases: Sequence[Base],
        last_valid: Watermark | None = None,
        branch_end: int = MAX_LSN,
        moments: Sequence[Moments] = (),
    ) -> None:
        self.index = index
        self.archive = archive
        self.bases: list[Base] = []
        self.moments: tuple[Moments, ...] = ()
        self._replaced = 0
        self.replace_bases(bases, moments)
        self.last_valid = last_valid
        self.branch_end = branch_end
        self._lock = threading.Lock()
        self._forks: OrderedDict[tuple[RelFileLocator, int, int, int], ForkAt] = OrderedDict()

    def replace_bases(
        self, bases: Sequence[Base], moments: Sequence[Moments] | None = None
    ) -> None:
        """From now on pages start from these base backups; for any thread.

        ``moments``: as of the constructor; None: as before.
        """
        changed = moments is not None and tuple(moments) != self.moments
        if moments is not None:
            self.moments = tuple(moments)
        self.bases = sorted(bases, key=lambda base: (base.start_lsn, base.stop_lsn))
        self._replaced += changed

    @property
    def generation(self) -> int:
        """Another one when what was planned before may not be had any more, or be another page."""
        return self.index.taken_back + self._replaced

    @property
    def first_lsn(self) -> int:
        """The earliest LSN that can be asked for (inclusive)."""
        return min((base.stop_lsn for base in self.bases), default=0)

    @property
    def last_record_lsn(self) -> int:
        """End of the newest record in the index, or of the branch that it is of."""
        stored = self.index.meta("last_record_end")
        return min(int(stored), self.branch_end) if stored is not None else 0

    @property
    def last_valid_lsn(self) -> int:
        """Up to where every record is known; at or after ``last_record_lsn``."""
        valid = 0 if self.last_valid is None else self.last_valid.value
        return max(valid, self.last_record_lsn)

    def check_lsn(self, at_lsn: int | None) -> int:
        """Returns the LSN to answer at: the given one, or the newest.

        Raises:
            LsnNotAvailable: before the store begins, or beyond what is indexed, or gc removed what
                it is made from. The newest is before the beginning until the index has reached
                the end of the base backup.
        """
        return self.known().check(at_lsn)

    def known(self) -> Known:
        """Returns which LSNs can be asked for now. Blocks."""
        last = self.last_record_lsn
        valid = 0 if self.last_valid is None else self.last_valid.value
        return Known(self.first_lsn, last, max(valid, last), self.branch_end, self.moments)

    def check_kept(self, at_lsn: int) -> None:
        """Checks that gc left what an LSN is made from.

        Raises:
            LsnNotAvailable: it did not; what can be had is said.
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

    def oldest_start(self, asked_lsn: int) -> int:
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
        floor = max(self.index.voided(tag, lsn), self.oldest_start(asked_lsn))
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

    def fork_at(self, locator: RelFileLocator, fork: int, lsn: int, known_lsn: int) -> ForkAt:
        """Returns what the index says of a fork. Blocks.

        ``known_lsn``: everything up to there was in the index before.
        """
        index = self.index
        key = (locator, fork, lsn, index.taken_back)
        with self._lock:
            found = self._forks.get(key)
            if found is not None:
                self._forks.move_to_end(key)
                return found
        copy = index.database_replaced(locator.spc_oid, locator.db_oid, lsn)
        last_lsn = lsn
        if known_lsn > lsn:
            last_lsn = min(index.next_void(locator, fork, lsn) - 1, known_lsn)
        found = ForkAt(
            index.size_at(locator, fork, lsn),
            0 if copy is None else copy.end_lsn,
            index.newest_void(locator, fork, lsn),
            last_lsn,
        )
        with self._lock:
            self._forks[key] = found
            if len(self._forks) > KNOWN_FORKS:
                self._forks.popitem(last=False)
        return found

    def floor(self, fork: ForkAt, tag: BufferTag, lsn: int, enough: int) -> int:
        """Returns the LSN up to which older versions of a block are void; 0 for none.

        A value at or below ``enough`` may be too low. Blocks.
        """
        void = fork.void
        if void is None or void.end_lsn <= max(fork.made_lsn, enough):
            return fork.made_lsn
        found = void.end_lsn if void.blocks <= tag.block else self.index.voided(tag, lsn)
        return max(found, fork.made_lsn)

    def newest_base(self, lsn: int) -> Base | None:
        """Returns the newest backup that pages as of an LSN can be made from.

        It does not begin before ``oldest_start``: all that pages need from its start on is there.
        """
        for base in reversed(self.bases):
            if base.stop_lsn <= lsn:
                return base
        return None

    def records(self, entries: Iterable[Entry]) -> tuple[tuple[int, bytes], ...]:
        """Returns (end LSN, record) of index entries, read from the segment files.

        Raises:
            WalError: a record cannot be read.
        """
        read = self.archive.read_record
        return tuple((entry.end_lsn, read(entry.start_lsn)) for entry in entries)
