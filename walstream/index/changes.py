"""What a digest means to the sizes of forks: the part of ingest that knows what was before.

Takes what ``digest.py`` says of a stretch of WAL and adds how relation forks grew, were cut, made
and removed (storage_xlog.h, xact.h), and what became of databases and tablespaces.
"""

from __future__ import annotations

from walstream.index import keys
from walstream.index.digest import Digest, Operation
from walstream.index.ends import decode_ends, latest_time
from walstream.index.forks import (
    ForkChange,
    apply_changes,
    changes_since_list,
    encode_changes,
    encode_forks,
    forks_at,
)
from walstream.index.page_index import (
    Batch,
    DatabaseChange,
    DatabaseKind,
    PageIndex,
    SizeChange,
    SizeKind,
)
from walstream.rmgr import database, storage, tablespace, xact
from walstream.rmgr.heap.layout import HEAPBLOCKS_PER_PAGE
from walstream.wal.model import ForkNumber, RelFileLocator
from walstream.wal.relpath import GLOBAL_TABLESPACE

MAX_DATABASES = 1000
MAX_FORKS = 65536
# A directory's forks are listed anew after as many changes as it has forks, and at least so many.
CHANGES_PER_LIST = 256

ForkKey = tuple[int, int, int, int]


class Changes:
    """Makes a ``Batch`` of each digest; keeps the fork sizes that it needs for that.

    One owner; digests must come in LSN order, and each batch be written before the next one is
    made: what it says is looked up in the index.
    """

    def __init__(self, index: PageIndex) -> None:
        self._index = index
        self._batch = Batch()
        # By database, so that one can be forgotten without a look at the others.
        self._sizes: dict[int, dict[ForkKey, int]] = {}
        self._size_count = 0
        self._absent: list[ForkKey] = []
        self._databases: dict[tuple[int, int], DatabaseChange | None] = {}
        self._directories: dict[int, set[int]] = {}
        self._fork_changes: dict[tuple[int, int], list[ForkChange]] = {}
        # By directory: changes since its last list, and how many forks that has.
        self._since_list: dict[tuple[int, int], tuple[int, int]] = {}
        self._newest_time = latest_time(index)
        self._newest_xid = int(index.meta("newest_xid") or 0)

    def batch(self, digest: Digest) -> Batch:
        """Returns all that a digest adds to the index, with how far that has come."""
        batch = self._batch = Batch()
        batch.pairs = digest.pairs
        operations = iter(digest.operations)
        operation = next(operations, None)
        for spc, db, rel, fork, end_lsn, blocks in keys.GROWTH.iter_unpack(digest.growth):
            while operation is not None and operation.end_lsn < end_lsn:
                self._operate(operation)
                operation = next(operations, None)
            key = (spc, db, rel, fork)
            if blocks > self._size(key):
                self._set_size(key, end_lsn, SizeKind.EXTEND, blocks)
        while operation is not None:
            self._operate(operation)
            operation = next(operations, None)
        self._mark(digest)
        self._list_forks(digest.last_end)
        self._forget_absent()
        batch.meta = {
            "last_record_end": str(digest.last_end).encode(),
            "last_record_start": str(digest.last_start).encode(),
        }
        if self._newest_xid:
            batch.meta["newest_xid"] = str(self._newest_xid).encode()
        return batch

    # -- marks

    def _mark(self, digest: Digest) -> None:
        """Adds the marks of times and xids."""
        pairs = self._batch.pairs
        if digest.newest_time > self._newest_time:
            before = self._newest_time
            later = (e for e in decode_ends(digest.ends_lsn, digest.ends) if e.time_us > before)
            first = next(later)
            pairs.append((keys.TIME_KEY.pack(b"t", first.time_us, first.end_lsn), b""))
            self._newest_time = digest.newest_time
        for end_lsn, start_lsn, xid in digest.marks:
            newest = newer_xid(self._newest_xid, xid)
            pairs.append((keys.MARK_KEY.pack(b"h", end_lsn), keys.MARK.pack(start_lsn, newest)))
        self._newest_xid = newer_xid(self._newest_xid, digest.newest_xid)

    # -- sizes

    def _size(self, key: ForkKey) -> int:
        """Returns the blocks of a fork now, -1 where it does not exist."""
        size = self._sizes.get(key[1], {}).get(key)
        if size is None:
            size = self._stored_size(key)
            self._remember(key, size)
        return size

    def _remember(self, key: ForkKey, size: int) -> None:
        of_database = self._sizes.setdefault(key[1], {})
        if key not in of_database:
            self._size_count += 1
        of_database[key] = size
        if size == -1:
            self._absent.append(key)

    def _forget_absent(self) -> None:
        """Forgets the forks that are gone: once the batch is written the index knows of them."""
        for key in self._absent:
            of_database = self._sizes.get(key[1], {})
            if of_database.get(key) == -1:
                of_database.pop(key)
                self._size_count -= 1
        self._absent = []

    def _forget_sizes(self) -> None:
        self._sizes.clear()
        self._size_count = 0

    def _stored_size(self, key: ForkKey) -> int:
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
        known = self._sizes.get(locator.db_oid, {})
        if replaced is not None and replaced.kind == DatabaseKind.COPY:
            stored: set[int] = set(ForkNumber)
        else:
            stored = set(self._index.forks(locator))
        return [
            int(fork)
            for fork in ForkNumber
            if (fork in stored or (*locator, int(fork)) in known)
            and self._size((*locator, int(fork))) >= 0
        ]

    def _set_size(self, key: ForkKey, end_lsn: int, kind: SizeKind, blocks: int) -> None:
        self._remember(key, -1 if kind == SizeKind.DROP else blocks)
        spc, db, rel, fork = key
        if kind in (SizeKind.CREATE, SizeKind.EXTEND):
            self._imply_directory(spc, db, end_lsn)
        change = SizeChange(end_lsn, kind, blocks)
        self._batch.sizes.append((RelFileLocator(spc, db, rel), fork, change))
        self._note(spc, db, ForkChange(end_lsn, rel, fork, kind, blocks))

    def _note(self, spc_oid: int, db_oid: int, change: ForkChange) -> None:
        self._fork_changes.setdefault((spc_oid, db_oid), []).append(change)

    def _imply_directory(self, spc_oid: int, db_oid: int, end_lsn: int) -> None:
        """Adds a database's directory in a tablespace, which appears with its first file there."""
        if spc_oid == GLOBAL_TABLESPACE or db_oid == 0:
            return
        known = self._directories.get(spc_oid)
        if known is None:
            if len(self._directories) > MAX_DATABASES:
                self._directories.clear()
            known = {oid for oid, _ in forks_at(self._index, spc_oid, 0)}
            for change in self._fork_changes.get((spc_oid, 0), ()):
                known.discard(change.rel_number)
                if change.kind != SizeKind.DROP:
                    known.add(change.rel_number)
            self._directories[spc_oid] = known
        if db_oid not in known:
            known.add(db_oid)
            self._note(spc_oid, 0, ForkChange(end_lsn, db_oid, 0, SizeKind.CREATE, 0))

    # -- lists of all forks

    def _list_forks(self, last_end: int) -> None:
        """Adds the changes of each directory's forks, and where it is time for it their list."""
        pairs = self._batch.pairs
        for (spc_oid, db_oid), changes in self._fork_changes.items():
            key = (spc_oid, db_oid)
            found = self._since_list.get(key)
            if found is None:
                found = changes_since_list(self._index, spc_oid, db_oid)
            count, length = found
            lsn_key = keys.DIRECTORY_KEY.pack(b"d", spc_oid, db_oid, changes[0].end_lsn)
            pairs.append((lsn_key, encode_changes(count, changes)))
            count += len(changes)
            if count > max(CHANGES_PER_LIST, length):
                forks = forks_at(self._index, spc_oid, db_oid)
                apply_changes(forks, changes)
                list_key = keys.DIRECTORY_KEY.pack(b"l", spc_oid, db_oid, changes[-1].end_lsn)
                pairs.append((list_key, encode_forks(forks)))
                count, length = 0, len(forks)
            if len(self._since_list) > MAX_DATABASES:
                self._since_list.clear()
            self._since_list[key] = (count, length)
        self._fork_changes = {}
        if self._size_count > MAX_FORKS:
            self._forget_sizes()

    # -- operations

    def _operate(self, operation: Operation) -> None:
        end_lsn, body = operation
        if isinstance(body, xact.XactDrops):
            for locator in body.dropped:
                for fork in self._forks_to_drop(locator):
                    self._set_size((*locator, fork), end_lsn, SizeKind.DROP, 0)
        elif isinstance(body, storage.StorageCreate):
            self._set_size((*body.locator, body.fork), end_lsn, SizeKind.CREATE, 0)
        elif isinstance(body, storage.StorageTruncate):
            self._truncate(end_lsn, body)
        elif isinstance(body, database.DatabaseCreate | database.DatabaseDrop):
            self._database(end_lsn, body)
        else:
            self._tablespace(end_lsn, body)

    def _truncate(self, end_lsn: int, change: storage.StorageTruncate) -> None:
        main = (*change.locator, int(ForkNumber.MAIN))
        if change.flags & storage.TRUNCATE_HEAP and self._size(main) > change.blocks:
            self._set_size(main, end_lsn, SizeKind.TRUNCATE, change.blocks)
        visibility = (*change.locator, int(ForkNumber.VM))
        # The last page stays when it is in part used (visibilitymap_prepare_truncate).
        pages = -(-change.blocks // HEAPBLOCKS_PER_PAGE)
        if change.flags & storage.TRUNCATE_VM and self._size(visibility) > pages:
            self._set_size(visibility, end_lsn, SizeKind.TRUNCATE, pages)

    def _database(
        self, end_lsn: int, change: database.DatabaseCreate | database.DatabaseDrop
    ) -> None:
        found = self._batch.databases
        if isinstance(change, database.DatabaseDrop):
            gone = DatabaseChange(end_lsn, DatabaseKind.DROP, 0, 0)
            for spc_oid in change.spc_oids:
                found.append((spc_oid, change.db_oid, gone))
                row = ForkChange(end_lsn, change.db_oid, 0, SizeKind.DROP, 0)
                self._note(spc_oid, 0, row)
        else:
            made = DatabaseChange(end_lsn, DatabaseKind.CREATE, 0, 0)
            if change.source_db_oid is not None and change.source_spc_oid is not None:
                made = DatabaseChange(
                    end_lsn, DatabaseKind.COPY, change.source_spc_oid, change.source_db_oid
                )
            found.append((change.spc_oid, change.db_oid, made))
            row = ForkChange(end_lsn, change.db_oid, 0, SizeKind.CREATE, 0)
            self._note(change.spc_oid, 0, row)
        self._size_count -= len(self._sizes.pop(change.db_oid, ()))
        self._databases.clear()
        self._directories.clear()

    def _tablespace(
        self, end_lsn: int, change: tablespace.TablespaceCreate | tablespace.TablespaceDrop
    ) -> None:
        # Database directories come and go in a tablespace without a record of their own.
        dropped = isinstance(change, tablespace.TablespaceDrop)
        kind = DatabaseKind.DROP if dropped else DatabaseKind.CREATE
        self._batch.databases.append((change.spc_oid, 0, DatabaseChange(end_lsn, kind, 0, 0)))
        size = SizeKind.DROP if dropped else SizeKind.CREATE
        self._note(0, 0, ForkChange(end_lsn, change.spc_oid, 0, size, 0))
        self._forget_sizes()
        self._databases.clear()
        self._directories.clear()


def newer_xid(a: int, b: int) -> int:
    """Returns the newer of two xids, on the circle of xids; 0 is none."""
    if not a or not b:
        return a or b
    return b if (b - a) & 0xFFFFFFFF < 1 << 31 else a
