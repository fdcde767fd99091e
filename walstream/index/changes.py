"""What one record means to the index: blocks, implicit visibility map bits, sizes, events.

Turns a record that was taken apart into entries of a ``Batch``. Knows record bodies only as far as
they say which blocks, relations and databases change (heapam_xlog.h, storage_xlog.h, xact.h,
dbcommands_xlog.h); the bodies themselves are parsed in ``rmgr/``. Every record may be added here;
the plain ones, nearly all, are added by ``postings.py`` faster and with the same result.
"""

from __future__ import annotations

from enum import IntEnum

from walstream.errors import RecordError
from walstream.index.page_index import (
    Batch,
    DatabaseChange,
    DatabaseKind,
    EntryFlag,
    Event,
    PageIndex,
    SizeChange,
    SizeKind,
    TimePoint,
)
from walstream.index.postings import PostingLists
from walstream.rmgr import database, storage, tablespace, xact
from walstream.rmgr.heap.effects import new_heap_block, old_heap_block, visibility_clears
from walstream.rmgr.heap.layout import HEAPBLOCKS_PER_PAGE
from walstream.rmgr.rmgrlist import RMGRS
from walstream.wal.layout import (
    BKPBLOCK_WILL_INIT,
    RM_DBASE_ID,
    RM_HEAP2_ID,
    RM_HEAP_ID,
    RM_SMGR_ID,
    RM_TBLSPC_ID,
    RM_XACT_ID,
    RM_XLOG_ID,
    XLR_RMGR_INFO_MASK,
)
from walstream.wal.model import ForkNumber, RelFileLocator
from walstream.wal.opcodes import XLOG_FPI, XLOG_FPI_FOR_HINT, XLOG_RESTORE_POINT
from walstream.wal.record import RecordReader

# Resource managers that change pages through block references; all others are events.
PAGE_RMGRS = frozenset(rmgr.id for rmgr in RMGRS if rmgr.changes_pages)

MAX_BLOCKS = 0xFFFFFFFF
FORKS = frozenset(ForkNumber)
MAX_DATABASES = 1000


class TimeKind(IntEnum):
    """What happened at a ``TimePoint``."""

    COMMIT = 0
    ABORT = 1
    RESTORE_POINT = 2


TIME_KINDS = {
    xact.COMMIT: TimeKind.COMMIT,
    xact.COMMIT_PREPARED: TimeKind.COMMIT,
    xact.ABORT: TimeKind.ABORT,
    xact.ABORT_PREPARED: TimeKind.ABORT,
}

# What the body of a record says to the index; an int is the time of a restore point.
Body = (
    xact.XactDrops
    | storage.StorageCreate
    | storage.StorageTruncate
    | database.DatabaseCreate
    | database.DatabaseDrop
    | tablespace.TablespaceCreate
    | tablespace.TablespaceDrop
    | int
    | None
)


class RecordIndexer:
    """Collects the changes of records into a batch; keeps the fork sizes that it needs for that.

    One owner; records must come in LSN order. When ``barrier`` is set, the batch must be written
    before the next record is added: what follows depends on what the index then knows.
    """

    def __init__(self, index: PageIndex, version: int) -> None:
        self._index = index
        self._version = version
        self.lists = PostingLists()
        self.batch = Batch()
        self.barrier = False
        self._databases: dict[tuple[int, int], DatabaseChange | None] = {}

    def take_batch(self) -> Batch:
        """Returns what was collected and starts anew."""
        batch, self.batch = self.batch, Batch()
        batch.pairs = self.lists.take()
        self.barrier = False
        return batch

    def add(self, start_lsn: int, end_lsn: int, record: bytes, reader: RecordReader) -> None:
        """Adds one record that ``reader`` has taken apart.

        Raises:
            RecordError: the body of a record that the index must understand is too short.
                Nothing was added.
        """
        rmgr, info = reader.rmgr, reader.info
        body = self._parse(record, reader)
        for i in range(reader.block_count):
            (_, spc, db, rel, fork, block, flags, _, _, _, image_length, _, _, _, apply) = (
                reader.block(i)
            )
            makes_page = flags & BKPBLOCK_WILL_INIT or (image_length and apply)
            flag = EntryFlag.INIT if makes_page else 0
            self.lists.add_entry(spc, db, rel, fork, block, end_lsn, start_lsn, flag)
            key = (spc, db, rel, fork)
            if block >= self._size(key):
                self._set_size(key, end_lsn, SizeKind.EXTEND, min(block + 1, MAX_BLOCKS))
        if rmgr in PAGE_RMGRS:
            if rmgr in (RM_HEAP_ID, RM_HEAP2_ID) and reader.block_count:
                self._clear_visibility(start_lsn, end_lsn, record, reader)
        elif rmgr != RM_XLOG_ID or info & XLR_RMGR_INFO_MASK not in (XLOG_FPI, XLOG_FPI_FOR_HINT):
            self._event(start_lsn, end_lsn, reader, body)

    def _parse(self, record: bytes, reader: RecordReader) -> Body:
        """Returns the body of a record whose body matters, else None."""
        rmgr, info = reader.rmgr, reader.info
        data = record[reader.main_at : reader.main_at + reader.main_length]
        if rmgr == RM_XACT_ID and info & xact.OP_MASK in TIME_KINDS:
            return xact.parse_drops(data, info, self._version)
        if rmgr == RM_SMGR_ID:
            change = storage.parse_storage(data, info)
            if isinstance(change, storage.StorageCreate) and change.fork not in FORKS:
                raise RecordError(f"fork of a new file: expected 0 to 3, got {change.fork}")
            return change
        if rmgr == RM_DBASE_ID:
            return database.parse_database(data, info, self._version)
        if rmgr == RM_TBLSPC_ID:
            return tablespace.parse_tablespace(data, info)
        if (
            rmgr == RM_XLOG_ID
            and info & XLR_RMGR_INFO_MASK == XLOG_RESTORE_POINT
            and len(data) >= 8
        ):
            return int.from_bytes(data[:8], "little", signed=True)
        return None

    def _size(self, key: tuple[int, int, int, int]) -> int:
        """Returns the blocks of a fork now, -1 where it does not exist."""
        size: int = self.lists.size(*key)
        if size < -1:
            size = self._stored_size(key)
            self.lists.set_size(*key, size)
        return size

    def _stored_size(self, key: tuple[int, int, int, int]) -> int:
        """Returns the blocks of a fork as the index has them, -1 where it does not exist."""
        locator = RelFileLocator(*key[:3])
        replaced = self._replaced(locator)
        if replaced is not None and replaced.kind == DatabaseKind.COPY:
            size = self._index.size_at(locator, key[3])
            return -1 if size is None else size
        newest = next(self._index.sizes(locator, key[3]), None)
        if newest is None or newest.kind == SizeKind.DROP:
            return -1
        if replaced is not None and replaced.end_lsn >= newest.end_lsn:
            return -1
        return newest.blocks

    def _replaced(self, locator: RelFileLocator) -> DatabaseChange | None:
        """Returns what last happened to the database of a relation; asked for once."""
        key = (locator.spc_oid, locator.db_oid)
        if key not in self._databases:
            if len(self._databases) > MAX_DATABASES:
                self._databases.clear()
            self._databases[key] = self._index.database_replaced(*key)
        return self._databases[key]

    def _forks_to_drop(self, locator: RelFileLocator) -> list[int]:
        """Returns the forks of a relation that exist now; most have few of the four."""
        replaced = self._replaced(locator)
        if replaced is not None and replaced.kind == DatabaseKind.COPY:
            stored: set[int] = set(FORKS)
        else:
            stored = set(self._index.forks(locator))
        return [
            fork
            for fork in ForkNumber
            if (fork in stored or self.lists.size(*locator, fork) >= -1)
            and self._size((*locator, fork)) >= 0
        ]

    def _set_size(
        self, key: tuple[int, int, int, int], end_lsn: int, kind: SizeKind, blocks: int
    ) -> None:
        self.lists.set_size(*key, -1 if kind == SizeKind.DROP else blocks)
        change = SizeChange(end_lsn, kind, blocks)
        self.batch.sizes.append((RelFileLocator(*key[:3]), key[3], change))

    def _clear_visibility(
        self, start_lsn: int, end_lsn: int, record: bytes, reader: RecordReader
    ) -> None:
        main_data = record[reader.main_at : reader.main_at + reader.main_length]
        new, old = visibility_clears(reader.rmgr, reader.info, main_data)
        for bits, find in ((new, new_heap_block), (old, old_heap_block)):
            i = find(reader) if bits else -1
            if i >= 0:
                _, spc, db, rel, _, block = reader.block(i)[:6]
                key = (spc, db, rel, int(ForkNumber.VM), block // HEAPBLOCKS_PER_PAGE)
                if self.lists.newest(*key) != end_lsn:
                    self.lists.add_entry(*key, end_lsn, start_lsn, EntryFlag.IMPLICIT)

    def _event(self, start_lsn: int, end_lsn: int, reader: RecordReader, body: Body) -> None:
        rmgr, info, xid = reader.rmgr, reader.info, reader.xid
        self.batch.events.append(Event(end_lsn, start_lsn, rmgr, info, xid))
        if isinstance(body, xact.XactDrops):
            self._transaction_end(start_lsn, end_lsn, xid, info, body)
        elif isinstance(body, storage.StorageCreate | storage.StorageTruncate):
            self._storage(start_lsn, end_lsn, body)
        elif isinstance(body, database.DatabaseCreate | database.DatabaseDrop):
            self._database(end_lsn, body)
        elif isinstance(body, tablespace.TablespaceCreate | tablespace.TablespaceDrop):
            self._tablespace(end_lsn, body)
        elif body is not None:
            self._time(body, end_lsn, start_lsn, 0, TimeKind.RESTORE_POINT)

    def _time(self, time_us: int, end_lsn: int, start_lsn: int, xid: int, kind: TimeKind) -> None:
        # A clock before 2000 would not sort; PostgreSQL's own check is no stricter.
        point = TimePoint(max(time_us, 0), end_lsn, start_lsn, xid, kind)
        self.batch.times.append(point)

    def _transaction_end(
        self, start_lsn: int, end_lsn: int, xid: int, info: int, end: xact.XactDrops
    ) -> None:
        kind = TIME_KINDS[info & xact.OP_MASK]
        self._time(end.time_us, end_lsn, start_lsn, end.twophase_xid or xid, kind)
        for locator in end.dropped:
            for fork in self._forks_to_drop(locator):
                self._set_size((*locator, int(fork)), end_lsn, SizeKind.DROP, 0)

    def _storage(
        self,
        start_lsn: int,
        end_lsn: int,
        change: storage.StorageCreate | storage.StorageTruncate,
    ) -> None:
        if isinstance(change, storage.StorageCreate):
            key = (*change.locator, change.fork)
            self._set_size(key, end_lsn, SizeKind.CREATE, 0)
        else:
            main = (*change.locator, int(ForkNumber.MAIN))
            if change.flags & storage.TRUNCATE_HEAP and self._size(main) > change.blocks:
                self._set_size(main, end_lsn, SizeKind.TRUNCATE, change.blocks)
            visibility = (*change.locator, int(ForkNumber.VM))
            if change.flags & storage.TRUNCATE_VM and self._size(visibility) >= 0:
                # visibilitymap_prepare_truncate: the last page stays when it is in part used, and
                # the bits beyond the cut are cleared.
                page, rest = divmod(change.blocks, HEAPBLOCKS_PER_PAGE)
                pages = page + (1 if rest else 0)
                if rest and self._size(visibility) > page:
                    flag = EntryFlag.IMPLICIT
                    self.lists.add_entry(*visibility, page, end_lsn, start_lsn, flag)
                if self._size(visibility) > pages:
                    self._set_size(visibility, end_lsn, SizeKind.TRUNCATE, pages)

    def _database(
        self, end_lsn: int, change: database.DatabaseCreate | database.DatabaseDrop
    ) -> None:
        found = self.batch.databases
        if isinstance(change, database.DatabaseDrop):
            gone = DatabaseChange(end_lsn, DatabaseKind.DROP, 0, 0)
            found.extend((spc_oid, change.db_oid, gone) for spc_oid in change.spc_oids)
        else:
            made = DatabaseChange(end_lsn, DatabaseKind.CREATE, 0, 0)
            if change.source_db_oid is not None and change.source_spc_oid is not None:
                made = DatabaseChange(
                    end_lsn, DatabaseKind.COPY, change.source_spc_oid, change.source_db_oid
                )
            found.append((change.spc_oid, change.db_oid, made))
        self.lists.forget_sizes(change.db_oid)
        self._databases.clear()
        self.barrier = True

    def _tablespace(
        self, end_lsn: int, change: tablespace.TablespaceCreate | tablespace.TablespaceDrop
    ) -> None:
        # Database directories come and go in a tablespace without a record of their own.
        dropped = isinstance(change, tablespace.TablespaceDrop)
        kind = DatabaseKind.DROP if dropped else DatabaseKind.CREATE
        self.batch.databases.append((change.spc_oid, 0, DatabaseChange(end_lsn, kind, 0, 0)))
        self.lists.forget_all()
        self._databases.clear()
        self.barrier = True
