"""Ingest: flushed WAL goes in, index entries come out.

Reads only WAL that the writer has flushed, so the index never knows a record that a crash could
lose. What a batch adds and how far ingest has come are one atomic write: after a crash ingest goes
on at the last batch.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import trio

from walstream.errors import NoSpace, StoreError, WalError
from walstream.index import keys
from walstream.index.branch import branch_end, encode_history
from walstream.index.changes import Changes
from walstream.index.digest import Digest, Digester
from walstream.index.forks import Forks, encode_forks
from walstream.index.page_index import Batch, PageIndex, SizeChange, SizeKind
from walstream.tasks.supervise import open_bare_nursery
from walstream.tasks.watermark import Watermark
from walstream.wal.columns import RecordColumns
from walstream.wal.model import RelFileLocator, format_lsn
from walstream.wal.relpath import GLOBAL_TABLESPACE
from walstream.wal.scan import WalScanner
from walstream.wal.timeline import TimelineHistory

log = logging.getLogger("walstream.index")

READ_SIZE = 1 << 20
FULL_DISK_RETRY_S = (0.2, 5.0)


class WalSource(Protocol):
    """Where ingest reads WAL from."""

    def read(self, lsn: int, length: int) -> bytes: ...


class Folder(Protocol):
    """Makes derived data of what the index has, in the thread of ingest (``state/folder.py``)."""

    def step(self, upto_lsn: int) -> None: ...
    def taken_back(self) -> None: ...


def begin_index(
    index: PageIndex,
    start_lsn: int,
    base_sizes: Iterable[tuple[tuple[RelFileLocator, int], int]],
    tablespaces: Iterable[int] = (),
) -> None:
    """Makes an empty index ready: the sizes of the base backup, and where WAL begins.

    ``start_lsn`` is the redo point of the base backup: records that begin there or later count. An
    index that begins before it has what is needed: its first base backup was taken away.
    ``tablespaces``: the OIDs of those that hold no relation as well.

    Raises:
        StoreError: the index begins later.
    """
    begun = index.meta("start_lsn")
    if begun is not None:
        if int(begun) > start_lsn:
            raise StoreError(
                f"the index {index.path} begins at {format_lsn(int(begun))}, not at "
                f"{format_lsn(start_lsn)}: run walstream reindex",
                str(index.path),
            )
        return
    batch = Batch()
    sizes = dict(base_sizes)
    for (locator, fork), blocks in sizes.items():
        batch.sizes.append((locator, fork, SizeChange(start_lsn, SizeKind.BASE, blocks)))
    batch.pairs = _lists(sizes, tablespaces, start_lsn)
    position = str(start_lsn).encode()
    batch.meta = {
        "start_lsn": position,
        "last_record_end": position,
        "last_record_start": b"0",
    }
    index.write(batch)


def _lists(
    sizes: Mapping[tuple[RelFileLocator, int], int],
    tablespaces: Iterable[int],
    lsn: int,
    known: Iterable[tuple[int, int]] = (),
) -> list[tuple[bytes, bytes]]:
    """Returns the lists of all forks, databases and tablespaces; empty ones of others ``known``."""
    directories: dict[tuple[int, int], Forks] = {(0, 0): {}}
    directories.update((directory, {}) for directory in known)
    for spc_oid in tablespaces:
        directories[0, 0][spc_oid, 0] = 0
    for (locator, fork), blocks in sizes.items():
        spc_oid, db_oid, rel_number = locator
        directories.setdefault((spc_oid, db_oid), {})[rel_number, fork] = blocks
        directories[0, 0][spc_oid, 0] = 0
        if db_oid and spc_oid != GLOBAL_TABLESPACE:
            directories.setdefault((spc_oid, 0), {})[db_oid, 0] = 0
    return [
        (keys.DIRECTORY_KEY.pack(b"l", *directory, lsn), encode_forks(forks))
        for directory, forks in directories.items()
    ]


def begin_again(
    index: PageIndex,
    start_lsn: int,
    base_sizes: Mapping[tuple[RelFileLocator, int], int],
    tablespaces: Iterable[int] = (),
) -> None:
    """Has an index go on at another base backup, where WAL before it is gone.

    Nothing of before counts for what is there from ``start_lsn`` on: each fork of the base begins
    anew, each that the base does not have was dropped.

    Raises:
        StorageError: the index cannot be read or written.
    """
    batch = Batch()
    for key, blocks in base_sizes.items():
        batch.sizes.append((*key, SizeChange(start_lsn, SizeKind.CREATE, blocks)))
    for key in index.relations():
        if key not in base_sizes:
            batch.sizes.append((*key, SizeChange(start_lsn, SizeKind.DROP, 0)))
    known = {
        keys.DIRECTORY_KEY.unpack(key)[1:3] for kind in (b"d", b"l") for key, _ in index.pairs(kind)
    }
    batch.pairs = _lists(base_sizes, tablespaces, start_lsn, known)
    position = str(start_lsn).encode()
    batch.meta = {"last_record_end": position, "last_record_start": b"0"}
    index.write(batch)


class Ingest:
    """Feeds WAL to the scanner and its records to the index. One owner, in one task.

    ``last_record_end`` and ``last_record_start`` are of the newest record in the index;
    ``last_valid`` is how far WAL has been read: every record that ends at or before it is in the
    index. It may lie within a record.
    """

    def __init__(
        self,
        index: PageIndex,
        source: WalSource,
        version: int,
        segment_size: int,
        system_id: int | None,
        history: Callable[[], TimelineHistory] | None = None,
        folder: Folder | None = None,
    ) -> None:
        self._index = index
        self._source = source
        self._version = version
        self._segment_size = segment_size
        self._system_id = system_id
        self._history = history
        self._folder = folder
        self.last_valid = Watermark()
        self._limiter = trio.CapacityLimiter(1)
        self._in_task = False
        self.waiting_for_space = trio.Event()
        """Set while a full disk keeps the index back; then another event stands here."""
        unfinished = index.taken_back_to()
        if unfinished is not None:
            index.take_back(unfinished)
        self.resume()

    def resume(self) -> None:
        """Begins anew where the index ends.

        Raises:
            StoreError: it has not begun.
            StorageError: it cannot be read.
        """
        resume = self._index.meta("last_record_end")
        if resume is None:
            path = self._index.path
            raise StoreError(
                f"the index {path} has not begun: no base backup was recorded in it", str(path)
            )
        self._changes = Changes(self._index)
        self.last_record_end = int(resume)
        self.last_record_start = int(self._index.meta("last_record_start") or 0)
        self._digester = Digester(self._version, self.last_record_end, self.last_record_start)
        self.last_valid.rewind(self.last_record_end)
        self.read_lsn = self.last_record_end
        self._scanner = WalScanner(
            self._version,
            self._segment_size,
            self.last_record_end,
            system_identifier=self._system_id,
            prev_lsn=self.last_record_start or None,
            keep_records=False,
        )
        self._unwritten = False
        self._damage: WalError | None = None

    def leave_dead_branch(self) -> int | None:
        """Takes the index back to where the history of WAL has left what was indexed. Blocks.

        Returns that LSN, None where all that was indexed is still of the history.

        Raises:
            StoreError: the index cannot be taken back: the base backup is of the dead branch.
            StorageError: the index cannot be read or written.
        """
        lsn = None if self._history is None else branch_end(self._index, self._history())
        if lsn is None:
            return None
        self._index.take_back(lsn)
        self.resume()
        if self._folder is not None:
            self._folder.taken_back()
        return lsn

    @property
    def end_of_wal(self) -> WalError | None:
        """Why reading ended, where it came to bytes that were never written."""
        return self._scanner.end_of_wal

    def advance(self, upto_lsn: int) -> int:
        """Indexes the records that end at or before ``upto_lsn``, at most ``READ_SIZE`` bytes.

        Returns how far WAL has been read. Blocks: call it in a thread.

        Raises:
            WalError: WAL is damaged, or a segment is missing. The records before the damage are
                indexed, and every later call raises the same.
            StorageError: WAL cannot be read.
        """
        if self._damage is not None:
            raise self._damage
        # Whatever was read before, batches end alike: at multiples of READ_SIZE.
        size = min(upto_lsn - self.read_lsn, READ_SIZE - self.read_lsn % READ_SIZE)
        if size <= 0:
            return self.read_lsn
        piece = self._source.read(self.read_lsn, size)
        self._scanner.feed_bytes(self.read_lsn, piece)
        self.read_lsn += size
        try:
            while (columns := self._scanner.poll_columns()) is not None:
                self._add(columns, piece)
        except WalError as error:
            self._damage = error
        if self._unwritten:
            self.write(self._digester.take())
        if self._damage is not None:
            raise self._damage
        return self.read_lsn

    def _add(self, columns: RecordColumns, piece: bytes) -> None:
        """Adds all records of ``columns``."""
        digester = self._digester
        digester.lists.load(columns, piece)
        row = 0
        try:
            while row < columns.count:
                row = digester.add(columns, piece, row)
                if digester.barrier:
                    self.write(digester.take())
        finally:
            if digester.last_end > self.last_record_end:
                self._unwritten = True

    def write(self, digest: Digest) -> None:
        """Adds a digest of the records that follow the last one in the index. Blocks.

        ``resume`` before ``advance`` goes on behind them.

        Raises:
            NoSpace: the disk is full; nothing was written.
            StorageError: the index cannot be read or written.
        """
        batch = self._changes.batch(digest)
        if self._history is not None:
            batch.meta["history"] = encode_history(self._history())
        delay_s = FULL_DISK_RETRY_S[0]
        while True:
            try:
                self._index.write(batch)
            except NoSpace as error:
                if not self._in_task:
                    raise
                # In the task's thread: waits there, and is cancelled with the task.
                trio.from_thread.run(self._wait_for_space, error, delay_s)
                delay_s = min(delay_s * 2, FULL_DISK_RETRY_S[1])
                continue
            break
        self.last_record_end, self.last_record_start = digest.last_end, digest.last_start
        if self.waiting_for_space.is_set():
            log.info("there is space for the index again")
            self.waiting_for_space = trio.Event()
        self._unwritten = False
        if self._folder is not None:
            self._folder.step(self.last_record_end)

    async def _wait_for_space(self, error: NoSpace, delay_s: float) -> None:
        if not self.waiting_for_space.is_set():
            log.warning("%s; waiting for space", error)
            self.waiting_for_space.set()
        await trio.sleep(delay_s)

    async def run(
        self,
        flushed: Watermark,
        ingested: Watermark,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Follows ``flushed`` and advances ``ingested``, until cancelled.

        A full disk is waited for.

        When WAL is first flushed here its history is known: what the index has of a branch that
        the server has left since is taken out of it before anything is added.

        Raises:
            WalError, StorageError: as ``advance``.
            StoreError: as ``leave_dead_branch``.

        Cancellation: a batch that is being written is finished, one that waits for space is dropped
        and made again next time; nothing is lost.
        """
        self._in_task = True
        task_status.started()
        await flushed.wait_past(0)
        end = self.last_record_end
        lsn = await trio.to_thread.run_sync(self.leave_dead_branch, limiter=self._limiter)
        if lsn is not None:
            ingested.rewind(self.last_record_end)
            log.warning(
                "the server's timeline left ours at %s: what was indexed beyond, up to %s, is of a "
                "dead branch and was taken out of the index",
                format_lsn(lsn),
                format_lsn(end),
            )
        while True:
            target = await flushed.wait_past(self.read_lsn)
            while self.read_lsn < target:
                await trio.to_thread.run_sync(self.advance, target, limiter=self._limiter)
                ingested.advance(self.last_record_end)
                self.last_valid.advance(self.read_lsn)

    async def caught_up(self, lsn: int) -> None:
        """Waits until WAL up to ``lsn`` has been read and indexed.

        Cancellation: nothing is left behind.
        """
        await self.last_valid.wait_for(lsn)

    async def caught_up_or_full(self, lsn: int) -> bool:
        """As ``caught_up``; returns False at once where that waits for space on the disk.

        Cancellation: nothing is left behind.
        """
        caught_up = False
        async with open_bare_nursery() as nursery:

            async def watch() -> None:
                while not self.waiting_for_space.is_set():
                    await self.waiting_for_space.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            await self.caught_up(lsn)
            caught_up = True
            nursery.cancel_scope.cancel()
        return caught_up
