"""The index: which records changed a block, how long a relation was, what else happened.

Keeps positions, never records: everything here can be made again from WAL (``walstream reindex``).
RocksDB underneath; nothing else imports it. ``keys.py`` says how it is stored.
"""

from __future__ import annotations

import contextlib
import errno
import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from enum import IntEnum, IntFlag
from heapq import merge
from pathlib import Path
from typing import Any, NamedTuple

from rocksdict import AccessType, DBCompressionType, Options, Rdict, WriteBatch

from walstream.errors import NoSpace, ReadError, StoreError, WriteError
from walstream.index import keys
from walstream.index.chains import Chains
from walstream.index.voids import Void, VoidReader, find_void, next_void
from walstream.wal.model import BufferTag, RelFileLocator, format_lsn

FORMAT = 3
# strerror of ENOSPC and EDQUOT, which is all that RocksDB hands on.
_FULL = tuple(os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT))


MAX_LSN = (1 << 64) - 1
STEPS_BEFORE_SEEK = 4
DELETES_AT_ONCE = 10_000


class EntryFlag(IntFlag):
    """What an entry means to a search from newer to older.

    INIT: the record alone makes the page (will-init, or an image to restore): stop here.
    IMPLICIT: the record changes the block without naming it (visibility map bits).
    """

    INIT = 1
    IMPLICIT = 2


class Entry(NamedTuple):
    """One record that changed a block."""

    end_lsn: int
    start_lsn: int
    flags: int


class SizeKind(IntEnum):
    """Why a relation fork has the size it has."""

    BASE = 0
    CREATE = 1
    EXTEND = 2
    TRUNCATE = 3
    DROP = 4


# Kinds that can make older versions of a block void; few, where extensions are many.
VOIDING = frozenset((SizeKind.CREATE, SizeKind.TRUNCATE, SizeKind.DROP))


class SizeChange(NamedTuple):
    """From ``end_lsn`` on the fork has ``blocks`` blocks."""

    end_lsn: int
    kind: SizeKind
    blocks: int


class DatabaseKind(IntEnum):
    """What happened to a database directory, or to a tablespace. Each voids what it held."""

    COPY = 1
    DROP = 2
    CREATE = 3


class DatabaseChange(NamedTuple):
    """A database directory was copied from another, created, or dropped."""

    end_lsn: int
    kind: DatabaseKind
    source_spc_oid: int
    source_db_oid: int


class Event(NamedTuple):
    """A record that changes no page through a block reference; its body is read from WAL."""

    end_lsn: int
    start_lsn: int
    rmgr_id: int
    info: int
    xid: int


class Wall(NamedTuple):
    """A record beyond which nothing can be rebuilt from what was before it (``WallKind``)."""

    end_lsn: int
    start_lsn: int
    rmgr_id: int
    kind: int


class Mark(NamedTuple):
    """A record, and the newest xid of all up to it (0: none); there is one every 256 KB of WAL."""

    end_lsn: int
    start_lsn: int
    newest_xid: int


class Batch:
    """Changes that become visible together with ``meta`` values, in one atomic write.

    ``pairs`` are keys and values in stored form already (``postings.py`` makes them): the posting
    lists, and most of the rest.
    """

    def __init__(self) -> None:
        self.pairs: list[tuple[bytes, bytes]] = []
        self.sizes: list[tuple[RelFileLocator, int, SizeChange]] = []
        self.events: list[Event] = []
        self.databases: list[tuple[int, int, DatabaseChange]] = []
        self.meta: dict[str, bytes] = {}


def stored_format(path: Path) -> int | None:
    """Returns the format of an index that no one writes to, None where that cannot be told."""
    try:
        found = _open(path, read_only=True)
        try:
            return int(found.get(b"mformat"))
        finally:
            found.close()
    except Exception as error:  # as rocksdict raises it, whatever it is
        if type(error) not in (Exception, TypeError, ValueError):
            raise
        return None


def _open(path: Path, *, read_only: bool) -> Any:
    options = Options(raw_mode=True)
    options.create_if_missing(not read_only)
    options.set_keep_log_file_num(2)
    options.set_compression_type(DBCompressionType.zstd())
    access = AccessType.read_only() if read_only else AccessType.read_write()
    return Rdict(str(path), options, access_type=access)


class PageIndex:
    """The index of one store.

    One process writes; others may open it with ``read_only`` and see what was written when they
    opened it.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Opens the index, making it where there is none.

        Raises:
            StoreError: it cannot be opened (another writer, not an index, another format).
            NoSpace: the disk is full.
        """
        self.path = path
        self.read_only = read_only
        # How often something was taken back: what was known of it before may be wrong.
        self.taken_back = 0
        self._damaged_by_space = False
        if read_only and not (path / "CURRENT").exists():
            raise StoreError(
                f"there is no index in {path} yet: walstream run makes it when the base backup is "
                "complete, walstream reindex makes it again",
                str(path),
            )
        try:
            with self._reported():
                self._db: Any = self._open()
        except NoSpace:
            raise
        except ReadError as error:
            raise StoreError(self._why_not_open(str(error.__cause__)), str(path)) from error
        try:
            self._check_format()
        except BaseException:
            self.close()
            raise

    def _why_not_open(self, reason: str) -> str:
        # RocksDB's own words; it has no codes for Python.
        if "lock" in reason.lower():
            return f"cannot open the index {self.path}: another process writes to it: {reason}"
        if reason.startswith("Corruption"):
            return f"the index {self.path} is damaged: run walstream reindex: {reason}"
        return f"cannot open the index {self.path}: {reason}"

    def _check_format(self) -> None:
        stored = self.meta("format")
        if stored is None and not self.read_only:
            if next(self.scan(b"", b""), None) is not None:
                raise StoreError(
                    f"index {self.path}: it has entries and no format: run walstream reindex",
                    str(self.path),
                )
            with self._reported():
                self._db[b"mformat"] = str(FORMAT).encode()
        elif stored is None:
            raise StoreError(
                f"the index {self.path} is being made: nothing is in it yet; try again in a moment "
                "(walstream status tells how far walstream run is)",
                str(self.path),
            )
        elif stored != str(FORMAT).encode():
            raise StoreError(
                f"index {self.path}: expected format {FORMAT}, got {stored!r}: "
                "it was made by another release: run walstream reindex",
                str(self.path),
            )
        if self.read_only and (lsn := self.taken_back_to()) is not None:
            raise StoreError(
                f"the index {self.path} is being taken back to {format_lsn(lsn)}, where the server "
                "left its timeline; try again",
                str(self.path),
            )

    def close(self) -> None:
        """Closes the database; the object is not usable afterwards.

        What a full disk keeps from its tables is in its log, and found when it is opened again.
        """
        with contextlib.suppress(NoSpace), self._reported():
            self._db.close()

    def _reopen(self) -> None:
        """Opens the database again: after a write that failed it takes no other."""
        self.close()
        with self._reported():
            self._db = self._open()

    def _open(self) -> Any:
        return _open(self.path, read_only=self.read_only)

    @contextlib.contextmanager
    def _reported(self, kind: type[ReadError | WriteError] = ReadError) -> Iterator[None]:
        """Turns what RocksDB reports into ``kind``: rocksdict raises it as Exception itself."""
        try:
            yield
        except Exception as error:
            if type(error) is not Exception:
                raise
            if any(words in str(error) for words in _FULL):
                kind = NoSpace
            raise kind(f"index {self.path}: {error}", str(self.path)) from error

    def _ended(self, iterator: Any) -> None:
        """Raises ReadError where an iterator ended by damage, which looks like any other end."""
        try:
            iterator.status()
        except Exception:  # told by ``_reported``, which costs more than all of this
            with self._reported():
                raise

    # -- writing

    def write(self, batch: Batch) -> None:
        """Writes a batch atomically. Entries of a block must be newer than those it has.

        Raises:
            NoSpace: the disk is full; nothing was written, the same batch can be written later.
            WriteError: it could not be written.
        """
        if self._damaged_by_space:
            self._reopen()
            self._damaged_by_space = False
        out = WriteBatch(raw_mode=True)
        put = out.put
        for stored_key, stored_value in batch.pairs:
            put(stored_key, stored_value)
        voids: dict[bytes, list[Void]] = {}
        for locator, fork, change in batch.sizes:
            value = keys.SIZE.pack(change.kind, change.blocks)
            put(keys.SIZE_KEY.pack(b"s", *locator, fork, change.end_lsn), value)
            if change.kind in VOIDING:
                prefix = keys.SIZE_PREFIX.pack(b"v", *locator, fork)
                fresh = voids.setdefault(prefix, [])
                void = next_void(change, self._void_reader(prefix, fresh))
                fresh.append(void)
                value = keys.VOID.pack(change.kind, change.blocks, *void[2:])
                put(prefix + change.end_lsn.to_bytes(8, "big"), value)
        for event in batch.events:
            put(
                keys.EVENT_KEY.pack(b"e", event.end_lsn),
                keys.EVENT.pack(event.start_lsn, event.rmgr_id, event.info, event.xid),
            )
        for spc_oid, db_oid, database in batch.databases:
            put(
                keys.DIRECTORY_KEY.pack(b"a", spc_oid, db_oid, database.end_lsn),
                keys.DATABASE.pack(database.kind, database.source_spc_oid, database.source_db_oid),
            )
        for name, value in batch.meta.items():
            put(b"m" + name.encode(), value)
        try:
            with self._reported(WriteError):
                self._db.write(out)
        except NoSpace:
            self._damaged_by_space = True
            raise

    # -- taking back

    def taken_back_to(self) -> int | None:
        """Returns the LSN that ``take_back`` goes to, where it has begun and not ended."""
        stored = self.meta("take_back")
        return None if stored is None else int(stored)

    def check_branch(self, lsn: int) -> int:
        """Returns where the index begins, which is on the branch that the server left at ``lsn``.

        Raises:
            StoreError: it begins after that.
        """
        begun = int(self.meta("start_lsn") or 0)
        if lsn < begun:
            raise StoreError(
                f"the index {self.path} begins at {format_lsn(begun)}, after "
                f"{format_lsn(lsn)}, where the server's timeline left what was indexed: the base "
                "backup is of a dead branch; make a new store",
                str(self.path),
            )
        return begun

    def take_back(self, lsn: int) -> None:
        """Removes all that the index knows of records that end after ``lsn``. Blocks.

        Then it is as if WAL had only been indexed to the last mark up to there: from it on
        indexing goes on. Interrupted, it must be done again, with the same LSN, before anything
        else is written (see ``taken_back_to``).

        Raises:
            StoreError: the index begins after ``lsn``.
            StorageError: it could not be read or written.
        """
        begun = self.check_branch(lsn)
        self.taken_back += 1
        with self._reported(WriteError):
            self._db[b"mtake_back"] = str(lsn).encode()
        mark = self.last_mark(lsn) or Mark(begun, 0, 0)
        out, waiting = WriteBatch(raw_mode=True), 0
        for key, value in self.scan(b"", b""):
            if key[:1] == b"m":
                continue
            # Every key but those of values by name ends with the LSN.
            base = int.from_bytes(key[-8:], "big")
            kept = _kept(key[:1], value, mark.end_lsn - base)
            if base > mark.end_lsn:
                out.delete(key)
            elif kept < len(value):
                out.put(key, value[:kept])
            else:
                continue
            waiting += 1
            if waiting >= DELETES_AT_ONCE:
                with self._reported(WriteError):
                    self._db.write(out)
                out, waiting = WriteBatch(raw_mode=True), 0
        out.put(b"mlast_record_end", str(mark.end_lsn).encode())
        out.put(b"mlast_record_start", str(mark.start_lsn).encode())
        if mark.newest_xid:
            out.put(b"mnewest_xid", str(mark.newest_xid).encode())
        else:
            out.delete(b"mnewest_xid")
        out.delete(b"mtake_back")
        with self._reported():
            self._db.write(out)
        self.taken_back += 1

    # -- forgetting

    def pairs(self, space: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yields the stored keys of one kind (``keys.py``) and their values, ascending."""
        return self.scan(space, space)

    def remove(self, stored_keys: Sequence[bytes]) -> None:
        """Removes keys in one atomic write.

        Raises:
            WriteError: it could not be written.
        """
        out = WriteBatch(raw_mode=True)
        for key in stored_keys:
            out.delete(key)
        with self._reported(WriteError):
            self._db.write(out)

    def note(self, name: str, value: bytes) -> None:
        """Keeps a value by name, as ``meta`` gives it.

        Raises:
            WriteError: it could not be written.
        """
        with self._reported(WriteError):
            self._db[b"m" + name.encode()] = value

    # -- reading

    def meta(self, name: str) -> bytes | None:
        """Returns a value that was written with a batch, or None."""
        try:
            value = self._db.get(b"m" + name.encode())
        except Exception:  # told by ``_reported``, which costs more than all of this
            with self._reported():
                raise
        assert value is None or isinstance(value, bytes)
        return value

    def entries(self, tag: BufferTag, upto_lsn: int = MAX_LSN) -> Iterator[Entry]:
        """Yields the entries of a block with ``end_lsn <= upto_lsn``, newest first."""
        prefix = keys.BLOCK.pack(b"b", *tag)
        for base, postings in self.scan_back(prefix, upto_lsn):
            for above, length, flags in reversed(list(keys.ENTRY.iter_unpack(postings))):
                end_lsn = base + above
                if end_lsn <= upto_lsn:
                    yield Entry(end_lsn, end_lsn - length, flags)

    def find_chain(
        self, chains: Chains, tag: BufferTag, floor_lsn: int, upto_lsn: int, look_on: bool
    ) -> int:
        """Adds a block's chain to ``chains``: its records with ``floor < end_lsn <= upto``.

        It begins with the last that makes the page. Returns its number. With ``look_on``
        ``next_of`` is right, too.
        """
        iterator = self._db.iter()
        prefix = keys.BLOCK.pack(b"b", *tag)
        number = chains.find(iterator, prefix, floor_lsn, upto_lsn, look_on)
        self._ended(iterator)
        return number

    def find_chains(
        self,
        chains: Chains,
        locator: RelFileLocator,
        fork: int,
        blocks: Sequence[int],
        floors: Sequence[int],
        upto_lsn: int,
        limit: int,
    ) -> int:
        """Adds the chains of many blocks of a fork in one pass, until they have much WAL.

        Args:
            blocks: ascending, none twice.
            floors: of each; see ``find_chain``.
            limit: bytes of WAL.

        Returns:
            how many blocks were done.
        """
        iterator = self._db.iter()
        prefix = keys.SIZE_PREFIX.pack(b"b", *locator, fork)
        done = chains.scan(iterator, prefix, blocks, floors, upto_lsn, limit)
        self._ended(iterator)
        return done

    def sizes(
        self, locator: RelFileLocator, fork: int, upto_lsn: int = MAX_LSN
    ) -> Iterator[SizeChange]:
        """Yields the size changes of a fork with ``end_lsn <= upto_lsn``, newest first."""
        return self._size_changes(b"s", locator, fork, upto_lsn)

    def voided(self, tag: BufferTag, upto_lsn: int = MAX_LSN) -> int:
        """Returns the end LSN of the last change that made older versions of a block void.

        That is the fork's creation or removal, or a truncation at or below the block; 0 for none.
        """
        prefix = keys.SIZE_PREFIX.pack(b"v", *tag.locator, tag.fork)
        return find_void(tag.block, self._void_reader(prefix, ()), upto_lsn)

    def cuts(
        self, locator: RelFileLocator, fork: int, after_lsn: int, upto_lsn: int
    ) -> tuple[int, int | None]:
        """Returns what was cut off a fork in ``(after_lsn, upto_lsn]``.

        The end LSN of its last creation or removal there (0: there is none), and the blocks that
        the deepest truncation since then left (None: there is none).
        """
        read = self._void_reader(keys.SIZE_PREFIX.pack(b"v", *locator, fork), ())
        left = None
        void = read(upto_lsn)
        while void is not None and void.end_lsn > after_lsn:
            if void.blocks < 0:
                return void.end_lsn, left
            left = void.blocks
            # Older ones that cut deeper: as far back as the jump goes, or step by step.
            next_lsn = void.jump if void.jump > after_lsn else void.parent
            void = read(next_lsn) if next_lsn > after_lsn else None
        return 0, left

    def newest_void(self, locator: RelFileLocator, fork: int, upto_lsn: int) -> Void | None:
        """Returns the last change of a fork that made older versions of some block void."""
        return self._void_reader(keys.SIZE_PREFIX.pack(b"v", *locator, fork), ())(upto_lsn)

    def next_void(self, locator: RelFileLocator, fork: int, after_lsn: int) -> int:
        """Returns the end LSN of the first change after an LSN that makes a fork's blocks void.

        Or of what happened to its whole database; MAX_LSN for none.
        """
        spc_oid, db_oid, _ = locator
        prefixes = [keys.SIZE_PREFIX.pack(b"v", *locator, fork)]
        prefixes += [keys.DIRECTORY_KEY.pack(b"a", spc_oid, db, 0)[:-8] for db in {db_oid, 0}]
        found = MAX_LSN
        iterator = self._db.iter()
        for prefix in prefixes:
            iterator.seek(prefix + (after_lsn + 1).to_bytes(8, "big"))
            if iterator.valid() and (key := iterator.key()).startswith(prefix):
                found = min(found, int.from_bytes(key[-8:], "big"))
        self._ended(iterator)
        return found

    def _void_reader(self, prefix: bytes, fresh: Sequence[Void]) -> VoidReader:
        """Returns what finds the newest voiding change up to an LSN: ``fresh``, then stored."""

        def read(upto_lsn: int) -> Void | None:
            at = bisect_right(fresh, upto_lsn, key=lambda void: void.end_lsn)
            if at:
                return fresh[at - 1]
            for end_lsn, value in self.scan_back(prefix, upto_lsn):
                kind, blocks, *links = keys.VOID.unpack(value)
                return Void(end_lsn, blocks if kind == SizeKind.TRUNCATE else -1, *links)
            return None

        return read

    def _size_changes(
        self, space: bytes, locator: RelFileLocator, fork: int, upto_lsn: int
    ) -> Iterator[SizeChange]:
        prefix = keys.SIZE_PREFIX.pack(space, *locator, fork)
        for end_lsn, value in self.scan_back(prefix, upto_lsn):
            kind, blocks = keys.SIZE.unpack_from(value)
            yield SizeChange(end_lsn, SizeKind(kind), blocks)

    def database_changes(
        self, spc_oid: int, db_oid: int, upto_lsn: int = MAX_LSN
    ) -> Iterator[DatabaseChange]:
        """Yields what happened to a database directory up to an LSN (inclusive), newest first.

        What happened to its whole tablespace (kept under database 0) happened to it too.
        """
        own = self._directory_changes(spc_oid, db_oid, upto_lsn)
        whole = self._directory_changes(spc_oid, 0, upto_lsn) if db_oid else iter(())
        return merge(own, whole, key=lambda change: change.end_lsn, reverse=True)

    def _directory_changes(
        self, spc_oid: int, db_oid: int, upto_lsn: int
    ) -> Iterator[DatabaseChange]:
        prefix = keys.DIRECTORY_KEY.pack(b"a", spc_oid, db_oid, 0)[:-8]
        for end_lsn, value in self.scan_back(prefix, upto_lsn):
            kind, spc, db = keys.DATABASE.unpack(value)
            yield DatabaseChange(end_lsn, DatabaseKind(kind), spc, db)

    def database_replaced(
        self, spc_oid: int, db_oid: int, upto_lsn: int = MAX_LSN
    ) -> DatabaseChange | None:
        """Returns the newest change of a database directory up to an LSN, None for none.

        Whatever it is, all that the directory held before is void: it was removed, or made anew,
        empty or as a copy. An OID may be used again.
        """
        return next(self.database_changes(spc_oid, db_oid, upto_lsn), None)

    def size_at(self, locator: RelFileLocator, fork: int, at_lsn: int = MAX_LSN) -> int | None:
        """Returns the blocks of a fork at an LSN, or None where it did not exist then."""
        while True:
            newest = next(self.sizes(locator, fork, at_lsn), None)
            change = self.database_replaced(locator.spc_oid, locator.db_oid, at_lsn)
            if change is None or (newest is not None and change.end_lsn < newest.end_lsn):
                return None if newest is None or newest.kind == SizeKind.DROP else newest.blocks
            if change.kind != DatabaseKind.COPY:
                return None
            locator = RelFileLocator(
                change.source_spc_oid, change.source_db_oid, locator.rel_number
            )
            # Before the copy: what a copy of a database from itself says would not end.
            at_lsn = change.end_lsn - 1

    def events(self, after_lsn: int = 0, upto_lsn: int = MAX_LSN) -> Iterator[Event]:
        """Yields the events with ``after_lsn < end_lsn <= upto_lsn``, oldest first.

        Ends of transactions are none of them (``ends.py``).
        """
        for key, value in self.scan(b"e", keys.EVENT_KEY.pack(b"e", after_lsn + 1)):
            end_lsn = int.from_bytes(key[1:], "big")
            if end_lsn > upto_lsn:
                return
            yield Event(end_lsn, *keys.EVENT.unpack(value))

    def first_wall(self, after_lsn: int, upto_lsn: int) -> Wall | None:
        """Returns the first record in ``(after_lsn, upto_lsn]`` that cannot be rebuilt across."""
        for key, value in self.scan(b"w", keys.WALL_KEY.pack(b"w", after_lsn + 1)):
            end_lsn = int.from_bytes(key[1:], "big")
            return Wall(end_lsn, *keys.WALL.unpack(value)) if end_lsn <= upto_lsn else None
        return None

    def last_mark(self, upto_lsn: int = MAX_LSN) -> Mark | None:
        """Returns the newest mark at or before an LSN."""
        for end_lsn, value in self.scan_back(b"h", upto_lsn):
            return Mark(end_lsn, *keys.MARK.unpack(value))
        return None

    def relations(self) -> Iterator[tuple[RelFileLocator, int]]:
        """Yields every relation fork that the index has a size of, once, in key order."""
        for prefix in self._prefixes(b"s", 14):
            _, spc, db, rel, fork = keys.SIZE_PREFIX.unpack(prefix)
            yield RelFileLocator(spc, db, rel), fork

    def forks(self, locator: RelFileLocator) -> Iterator[int]:
        """Yields the forks of a relation that the index has a size of, ascending."""
        for prefix in self._prefixes(keys.SIZE_PREFIX.pack(b"s", *locator, 0)[:13], 14):
            yield prefix[13]

    def blocks(self, locator: RelFileLocator, fork: int) -> Iterator[int]:
        """Yields the blocks of a fork that any record changed, once, ascending."""
        for prefix in self._prefixes(keys.SIZE_PREFIX.pack(b"b", *locator, fork), 18):
            yield int.from_bytes(prefix[14:], "big")

    def _prefixes(self, prefix: bytes, length: int) -> Iterator[bytes]:
        """Yields the first ``length`` bytes of the keys with that prefix, once, ascending.

        Does not walk the keys between: a fork has one for each change of its size.
        """
        iterator = self._db.iter()
        iterator.seek(prefix)
        while iterator.valid():
            key = iterator.key()
            if not key.startswith(prefix):
                return
            found = key[:length]
            yield found
            # Few keys: stepping is cheaper than seeking.
            for _ in range(STEPS_BEFORE_SEEK):
                iterator.next()
                if not iterator.valid() or not iterator.key().startswith(found):
                    break
            else:
                iterator.seek(found + b"\xff" * 9)
        self._ended(iterator)

    def changed_blocks(
        self, locator: RelFileLocator, fork: int, after_lsn: int, upto_lsn: int
    ) -> Iterator[int]:
        """Yields the blocks of a fork with an entry in ``(after_lsn, upto_lsn]``, ascending, once.

        It may yield more: a block of which one posting list reaches from before to after the range.
        """
        prefix = keys.SIZE_PREFIX.pack(b"b", *locator, fork)
        previous = None
        for key, value in self.scan(prefix, prefix):
            block = int.from_bytes(key[14:18], "big")
            first = int.from_bytes(key[18:], "big")
            if block == previous or first > upto_lsn:
                continue
            above, _, _ = keys.ENTRY.unpack_from(value, len(value) - keys.ENTRY.size)
            if first + above > after_lsn:
                previous = block
                yield block

    def lists_from(self, prefix: bytes, lsn: int) -> Iterator[tuple[int, bytes]]:
        """Yields (LSN, value) of the keys prefix + LSN, ascending.

        The first is the last at or before ``lsn``, where there is one.
        """
        first = next(self.scan_back(prefix, lsn), (lsn, b""))[0]
        for key, value in self.scan(prefix, prefix + first.to_bytes(8, "big")):
            yield int.from_bytes(key[-8:], "big"), value

    def scan_back(self, prefix: bytes, upto_lsn: int) -> Iterator[tuple[int, bytes]]:
        """Yields (LSN, value) of the keys prefix + LSN up to ``upto_lsn``, newest first."""
        for key, value in self.scan_down(prefix, prefix + upto_lsn.to_bytes(8, "big")):
            yield int.from_bytes(key[-8:], "big"), value

    def scan_down(self, prefix: bytes, last: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yields (key, value) of the keys with that prefix up to ``last``, descending."""
        iterator = self._db.iter()
        iterator.seek_for_prev(last)
        while iterator.valid():
            key = iterator.key()
            if not key.startswith(prefix):
                return
            yield key, iterator.value()
            iterator.prev()
        self._ended(iterator)

    def scan(self, prefix: bytes, start: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yields (key, value) of the keys with that prefix from ``start`` on, ascending."""
        iterator = self._db.iter()
        iterator.seek(start)
        while iterator.valid():
            key = iterator.key()
            if not key.startswith(prefix):
                return
            yield key, iterator.value()
            iterator.next()
        self._ended(iterator)


def _kept(space: bytes, value: bytes, room: int) -> int:
    """Returns how much of a value stays whose key ends with an LSN ``room`` before the last kept.

    Lists are cut before the first entry that lies further on.
    """
    if room < 0:
        return 0
    kept = 0
    if space == b"b":
        for above, _, _ in keys.ENTRY.iter_unpack(value):
            if above > room:
                return kept
            kept += keys.ENTRY.size
    elif space == b"c":
        above = 0
        for step, *_ in keys.END.iter_unpack(value):
            above += step
            if above > room:
                return kept
            kept += keys.END.size
    elif space == b"d":
        kept = keys.COUNT.size
        for above, *_ in keys.CHANGE.iter_unpack(value[kept:]):
            if above > room:
                return kept
            kept += keys.CHANGE.size
    elif space == b"x":
        for _, above in keys.XID.iter_unpack(value):
            if above > room:
                return kept
            kept += keys.XID.size
    return len(value)
