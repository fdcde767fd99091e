"""Builds the objects of a store and runs them together: the nursery tree, and nothing else."""

from __future__ import annotations

import logging
import math
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from datetime import tzinfo
from functools import partial
from pathlib import Path
from typing import Any

import trio
from trio_util import AsyncValue, periodic

from walstream.config import RunConfig
from walstream.datadir.past import Past
from walstream.errors import (
    ConnectionLost,
    NameNotFound,
    NoSpace,
    ServerRefused,
    StorageError,
    StoreError,
    WalstreamError,
)
from walstream.index.ingest import Ingest, begin_index
from walstream.index.moment import Moment, MomentText, parse_moment
from walstream.index.page_index import PageIndex
from walstream.metrics import StatusCollector, serve_metrics
from walstream.pages.service import Base, ClusterFacts, PageService
from walstream.progress import Progress, show_backup
from walstream.redo.manager import RedoConfig, RedoManager
from walstream.replication.backup import take_base_backup
from walstream.replication.libpq import ReplicationConnection, connect
from walstream.replication.receiver import Receiver
from walstream.replication.upstream import read_upstream
from walstream.rows.cluster import ClusterAt
from walstream.rows.diff import TableDiff, diff_tables
from walstream.state.cluster import StateSource, cluster_state
from walstream.store.archive import WalArchive
from walstream.store.base import BackupWriter, BaseBackup, list_base_backups, remove_unfinished
from walstream.store.base_pages import BasePages
from walstream.store.directory import Store, StoreIdentity
from walstream.store.file_layer import free_space
from walstream.store.verify import default_level
from walstream.store.writer import Writer
from walstream.tasks.supervise import single_error
from walstream.tasks.watermark import Watermark
from walstream.terminal import StatusLine
from walstream.wal.model import BLCKSZ, RelFileLocator, format_lsn
from walstream.wal.timeline import StartPoint

log = logging.getLogger("walstream")

FLUSH_INTERVAL_S = 0.5
FULL_DISK_RETRY_S = 1.0
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
WAL_LEVELS = ("replica", "logical")


def base_pages(store: Store, backup: BaseBackup) -> BasePages:
    """Returns the pages of a backup of a store."""
    return BasePages(backup.path, checksums=store.identity.checksums, needs_manifest=True)


def page_service(
    store: Store,
    index: PageIndex,
    redo: RedoManager,
    backups: list[BaseBackup],
    archive: WalArchive,
    last_valid: Watermark | None = None,
) -> PageService:
    """Returns the page service of an opened store; ``archive`` is the caller's to close."""
    identity = store.identity
    return PageService(
        index,
        archive,
        [Base(backup.start_lsn, backup.stop_lsn, base_pages(store, backup)) for backup in backups],
        ClusterFacts(identity.version, identity.stamp_hints, identity.checksums),
        redo,
        last_valid,
    )


@asynccontextmanager
async def open_pages(path: Path, *, sandbox: bool = True) -> AsyncIterator[PageService]:
    """Opens a store for reading, next to a ``walstream run`` that may write to it.

    What it sees of the index is what was there when it was opened.

    Raises:
        StoreError: no store, or one without a base backup.

    What is raised in the context leaves as it is, not in a group.

    Cancellation: the redo children are killed and reaped.
    """
    store = Store.open(path, lock=False)
    backups = list_base_backups(store.base_path)
    if not backups:
        raise StoreError(f"store {path} has no base backup yet: let walstream run finish one")
    redo = RedoManager(
        RedoConfig(sandbox=sandbox, warm_spare=False, dump_directory=store.dumps_path)
    )
    with (
        closing(PageIndex(store.index_path, read_only=True)) as index,
        closing(WalArchive(store.wal_path, store.identity.segment_size)) as archive,
    ):
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(redo.run)
                yield page_service(store, index, redo, backups, archive)
                redo.shutdown()
        except BaseExceptionGroup as group:
            raise single_error(group) from group


@asynccontextmanager
async def open_past(path: Path, *, sandbox: bool = True) -> AsyncIterator[Past]:
    """Opens a store for its moments, next to a ``walstream run`` that may write to it.

    Raises:
        StoreError: no store, or one without a base backup.

    Cancellation: the redo children are killed and reaped.
    """
    async with open_pages(path, sandbox=sandbox) as pages:
        yield Past(pages, list_base_backups(Store.open(path, lock=False).base_path))


@dataclass(frozen=True, slots=True)
class OpenCluster:
    """A cluster as of a moment and its page service.

    ``first_source``: what is beside the pages, from the oldest backup on.
    """

    cluster: ClusterAt
    moment: Moment
    pages: PageService
    first_source: StateSource


@asynccontextmanager
async def open_cluster(
    path: Path, asked: MomentText, *, zone: tzinfo | None = None, sandbox: bool = True
) -> AsyncIterator[OpenCluster]:
    """Opens a store as of a moment: the databases, tables and rows of then.

    ``zone`` is what timestamps with time zone are printed in; None is UTC.

    Raises:
        StoreError: no store, or one without a base backup.
        LsnNotAvailable: the store does not have that moment.
        WalError, StorageError: what is beside the pages cannot be read.

    Cancellation: the redo children are killed and reaped.
    """
    failed: WalstreamError | None = None
    async with open_past(path, sandbox=sandbox) as past:
        # What is wrong with the question leaves when the redo children have ended in good order.
        try:
            moment = await past.moment(asked)
            source = past.source(moment.lsn)
            state = await trio.to_thread.run_sync(cluster_state, source, moment.lsn)
            maps = state.relation_maps
            cluster = ClusterAt(past.pages, moment.lsn, state.transactions, maps, zone)
            yield OpenCluster(cluster, moment, past.pages, past.source(past.backups[0].stop_lsn))
        except WalstreamError as error:
            failed = error
    if failed is not None:
        raise failed


async def diff_moments(
    path: Path, table: str, database: str | None, before: MomentText, after: MomentText
) -> TableDiff:
    """Returns what changed in a table from one moment to another.

    Raises:
        NameNotFound, NoRows: there is no such table at one of them, or its columns differ.
        WalstreamError: see ``open_cluster``.

    Cancellation: as ``open_cluster``.
    """
    async with open_cluster(path, before) as old, open_cluster(path, after) as new:
        first = await old.cluster.table(table, database)
        second = await new.cluster.table(table, database)
        return await diff_tables(first, second)


async def find_relation(path: Path, name: str, at_lsn: int | None) -> tuple[RelFileLocator, int]:
    """Returns the file and fork of ``[db.]schema.name`` as of an LSN, default the newest.

    Raises:
        NameNotFound: no such relation then, or it has no file.
        WalstreamError: see ``open_cluster``.

    Cancellation: as ``open_cluster``.
    """
    asked = "latest" if at_lsn is None else format_lsn(at_lsn)
    async with open_cluster(path, parse_moment(asked)) as opened:
        found = await opened.cluster.find(name)
        locator = found.catalog.locator(found.relation)
        if locator is None:
            raise NameNotFound(f"{name} has no file of its own")
        return locator, 0


async def server_identity(connection: ReplicationConnection) -> StoreIdentity:
    """Returns what binds a store to the server at the other end.

    Raises:
        ServerRefused: wal_level is too low, or the block size is not 8192 bytes.

    Cancellation: the connection is in the middle of a query: close it.
    """
    upstream = await read_upstream(connection, None)
    level = await connection.show("wal_level")
    if level not in WAL_LEVELS:
        raise ServerRefused(
            f"wal_level is {level}: set wal_level = replica on the server and restart it"
        )
    block_size = int(await connection.show("block_size"))
    if block_size != BLCKSZ:
        raise ServerRefused(f"block_size is {block_size}: walstream reads {BLCKSZ} only")
    return StoreIdentity(
        upstream.system_id,
        upstream.version,
        upstream.segment_size,
        block_size,
        await connection.show("data_checksums") == "on",
        await connection.show("wal_log_hints") == "on",
    )


async def prepare_store(config: RunConfig) -> tuple[Store, list[BaseBackup]]:
    """Opens the store, or makes it: identity, slot, base backup. Returns it locked.

    A store whose base backup was interrupted gets a new one.

    Raises:
        ConnectionLost, ServerRefused, ProtocolError, StoreError, StorageError.

    Cancellation: an unfinished backup is removed; the slot stays.
    """
    with ExitStack() as unfinished:
        store = None
        if Store.exists(config.store):
            store = Store.open(config.store)
            unfinished.callback(store.close)
            backups = list_base_backups(store.base_path)
            if backups:
                unfinished.pop_all()
                return store, backups
        with await connect(
            config.conninfo, receive_timeout_s=config.receive_timeout_s
        ) as connection:
            identity = await server_identity(connection)
            if store is None:
                store = Store.create(
                    config.store, identity, group_access=await _group_access(config, connection)
                )
                unfinished.callback(store.close)
            else:
                store.check(identity)
            remove_unfinished(store.base_path)
            if config.slot is not None:
                await connection.create_physical_slot(config.slot, if_not_exists=True)
            log.info("taking a base backup into %s", store.base_path)
            writer = BackupWriter(
                store.base_path, file_mode=store.file_mode, wait_for_space=_WaitForSpace()
            )
            await _take_backup(connection, writer, config.show_progress)
        backups = list_base_backups(store.base_path)
        unfinished.pop_all()
        return store, backups


class _WaitForSpace:
    """Waits a moment in a thread of Trio's; says once that it does. Cancelled with its task."""

    def __init__(self) -> None:
        self._said = False

    def __call__(self, error: NoSpace) -> None:
        if not self._said:
            self._said = True
            log.warning("%s, %s; waiting for space", error, free_space(error.path))
        trio.from_thread.run(trio.sleep, FULL_DISK_RETRY_S)


async def _take_backup(
    connection: ReplicationConnection, writer: BackupWriter, terminal: bool
) -> None:
    with StatusLine(terminal) as line:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(show_backup, lambda: writer.bytes_written, line)
                await take_base_backup(connection, writer)
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise single_error(group) from group
    log.info("the base backup is complete: %.0f MB", writer.bytes_written / 1e6)


async def _group_access(config: RunConfig, connection: ReplicationConnection) -> bool:
    """Whether a new store is readable by its group: as the server's data directory is."""
    return config.group_access or await connection.show("data_directory_mode") == "0750"


class Application:
    """One cluster: receiver, writer, ingest, redo and pages, in one nursery.

    After ``run`` has reported started: ``pages`` answers, ``flushed`` and ``ingested`` tell how far
    it is. ``stop`` drains; cancelling ``run`` does not wait for what the server has still to send.
    """

    receiver: Receiver
    writer: Writer
    _ingest: Ingest
    pages: PageService
    redo: RedoManager

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.conninfo = AsyncValue(config.conninfo)
        self.flushed = Watermark()
        self.ingested = Watermark()
        self._preparing = trio.CancelScope()
        self._intake = trio.CancelScope()
        self._started = False

    def stop(self) -> None:
        """Stops receiving; ``run`` returns when what was received is on disk and indexed.

        While the store is still being made, that is given up.
        """
        self._preparing.cancel()
        if self._started:
            self.receiver.stop()

    def reconnect(self) -> None:
        """Ends the session in good order and starts another."""
        if self._started:
            self.receiver.reconnect()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Runs until ``stop``, the end of the stream with ``loop`` off, or a fatal error.

        Raises:
            WalstreamError: see ``Receiver.run``, ``Writer.run`` and ``Ingest.run``; the one that
                tells why it ended, not a group.

        Cancellation: what the kernel has is flushed; ingest goes on from the index next time.
        """
        prepared = None
        with self._preparing:
            prepared = await prepare_store(self.config)
        if prepared is None:
            return
        store, backups = prepared
        with (
            store,
            closing(PageIndex(store.index_path)) as index,
            closing(WalArchive(store.wal_path, store.identity.segment_size)) as archive,
            closing(WalArchive(store.wal_path, store.identity.segment_size)) as source,
        ):
            try:
                await self._run(store, index, backups, archive, source, task_status)
            except BaseExceptionGroup as group:
                raise single_error(group, (ConnectionLost,)) from group

    async def caught_up(self) -> None:
        """Waits until everything that was received is on disk and in the index.

        Cancellation: nothing is left behind.
        """
        await self.writer.flush()
        await self._ingest.caught_up(self.flushed.value)

    async def _run(
        self,
        store: Store,
        index: PageIndex,
        backups: list[BaseBackup],
        archive: WalArchive,
        source: WalArchive,
        task_status: trio.TaskStatus[None],
    ) -> None:
        config, identity, first = self.config, store.identity, backups[0]
        begin_index(index, first.start_lsn, base_pages(store, first).sizes().items())
        self.writer = Writer(
            store.wal_path,
            start=StartPoint(first.timeline, first.start_lsn),
            synchronous=config.synchronous,
            verify=default_level(),
            allow_rewind=False,
            system_id=identity.system_id,
            flushed=self.flushed,
            file_mode=store.file_mode,
        )
        self.receiver = Receiver(
            self.conninfo,
            self.writer,
            slot=config.slot,
            status_interval_s=config.status_interval_s,
            receive_timeout_s=config.receive_timeout_s,
            loop=config.loop,
        )
        self.redo = RedoManager(RedoConfig(sandbox=config.sandbox, dump_directory=store.dumps_path))
        self._ingest = ingest = Ingest(
            index,
            source,
            identity.version,
            identity.segment_size,
            identity.system_id,
            source.current_history,
        )
        self.pages = page_service(store, index, self.redo, backups, archive, ingest.last_valid)
        self.ingested.advance(ingest.last_record_end)
        self._started = True
        async with trio.open_nursery() as nursery:
            await nursery.start(self.redo.run)
            async with trio.open_nursery() as indexing:
                await indexing.start(partial(ingest.run, self.flushed, self.ingested))
                async with trio.open_nursery() as intake:
                    await intake.start(self.writer.run)
                    intake.start_soon(self._receive, task_status)
                    intake.start_soon(self._accompany, store.status_path)
                # Drained: everything received is on disk. Let ingest catch up with it.
                if not await ingest.caught_up_or_full(self.flushed.value):
                    log.warning("the disk is full: the index goes on here at the next start")
                indexing.cancel_scope.cancel()
            self.redo.shutdown()
        log.info("stopped: WAL is on disk up to %s", format_lsn(self.flushed.value))

    async def _receive(self, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(self.receiver.run)
            task_status.started()
        self.writer.close()
        self._intake.cancel()

    async def _accompany(self, status_path: Path) -> None:
        """Flushes and reports while WAL comes in."""
        with self._intake:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._flush_regularly)
                nursery.start_soon(self._report, status_path)

    async def _flush_regularly(self) -> None:
        """Bounds how long WAL that has arrived waits for the index."""
        async for _ in periodic(FLUSH_INTERVAL_S):
            self.writer.request_flush()

    async def _report(self, status_path: Path) -> None:
        """Keeps the status file up to date, and a line on a terminal."""

        def more() -> dict[str, Any]:
            redo = [f"{child.kind} {child.role}: {child.sandbox}" for child in self.redo.status()]
            return {"indexed_lsn": format_lsn(self.ingested.value), "redo_children": redo}

        progress = Progress(self.receiver, self.writer, more)
        with ExitStack() as stack:
            if self.config.metrics is not None:
                collectors = (StatusCollector(progress.snapshot), self.redo.collector())
                stack.enter_context(serve_metrics(self.config.metrics, collectors))
            line = stack.enter_context(StatusLine(self.config.show_progress))
            await progress.run(status_path, line)


def reindex(path: Path, report: Callable[[int, int], None]) -> int:
    """Makes the index of a store again; returns the end of the newest record. Blocks.

    ``report(done, total)`` is called as it goes, in bytes of WAL.

    Raises:
        StoreError: not a store, in use, or without a base backup.
        WalError: WAL is damaged before its end, or a segment is missing. The old index stays.
        StorageError: WAL cannot be read, or the index not be written or put in its place.
    """
    with Store.open(path) as store:
        backups = list_base_backups(store.base_path)
        if not backups:
            raise StoreError(f"store {path} has no base backup: let walstream run finish one")
        identity, first = store.identity, backups[0]
        fresh = store.path / "index.new"
        shutil.rmtree(fresh, ignore_errors=True)
        try:
            with (
                closing(WalArchive(store.wal_path, identity.segment_size)) as archive,
                closing(PageIndex(fresh)) as index,
            ):
                end_lsn = archive.end_lsn()
                begin_index(index, first.start_lsn, base_pages(store, first).sizes().items())
                ingest = Ingest(
                    index,
                    archive,
                    identity.version,
                    identity.segment_size,
                    identity.system_id,
                    archive.current_history,
                )
                start = ingest.read_lsn
                while ingest.read_lsn < end_lsn and ingest.end_of_wal is None:
                    ingest.advance(end_lsn)
                    report(ingest.read_lsn - start, end_lsn - start)
            replace_directory(fresh, store.index_path)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        return ingest.last_record_end


def replace_directory(fresh: Path, path: Path) -> None:
    """Puts ``fresh`` in the place of the directory ``path``.

    Raises:
        StorageError: the old one cannot be removed, or the new one not renamed.
    """
    try:
        if path.exists():
            shutil.rmtree(path)
        fresh.rename(path)
    except OSError as exc:
        raise StorageError(f"cannot replace {path}: {exc.strerror}", str(path)) from exc


async def run_until_signalled(application: Application, drain_s: float = math.inf) -> None:
    """Runs an application; the first SIGINT or SIGTERM drains it, the second cancels it.

    SIGHUP connects anew, so that what libpq reads (service and password files) is read again.

    Raises:
        WalstreamError: see ``Application.run``.

    Cancellation: as ``Application.run``.
    """
    try:
        async with trio.open_nursery() as nursery:

            async def watch_signals() -> None:
                stopping = False
                with trio.open_signal_receiver(*SIGNALS) as signals:
                    async for number in signals:
                        if number == signal.SIGHUP:
                            application.reconnect()
                        elif stopping:
                            nursery.cancel_scope.cancel()
                        else:
                            stopping = True
                            log.info("%s: stopping", signal.Signals(number).name)
                            application.stop()
                            nursery.cancel_scope.deadline = trio.current_time() + drain_s

            nursery.start_soon(watch_signals)
            await application.run()
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise single_error(group, (ConnectionLost,)) from group
