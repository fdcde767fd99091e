"""The application of ``walstream run``: one cluster into one store, until told to stop."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, closing
from functools import partial

import trio

from walstream.app.base_watch import BaseWatch
from walstream.app.full_disk import with_space
from walstream.app.intake import Intake, report
from walstream.app.page_service import indexed_backups, page_service
from walstream.app.prepare import prepare_store
from walstream.app.reindex import stretches_to_index
from walstream.app.retention_watch import RetentionWatch, WatchedStore
from walstream.app.signals import obey_signals
from walstream.app.store_index import open_index, open_ingest
from walstream.app.threads import closing_in_thread
from walstream.config import RunConfig
from walstream.errors import ConnectionLost
from walstream.pages.service import PageService
from walstream.receive.receiver import Receiver
from walstream.redo.manager import RedoConfig, RedoManager
from walstream.segments.reader import SegmentReader
from walstream.status.prometheus import (
    DrillCollector,
    RedoCollector,
    StatusCollector,
    WindowCollector,
    serve_metrics,
)
from walstream.store.base_backup import BaseBackup
from walstream.store.base_directory import first_needed, of_history
from walstream.store.removed import read_removed
from walstream.store.store import Store
from walstream.store.verifier import default_level
from walstream.store.writer import Writer
from walstream.tasks.supervise import open_bare_nursery
from walstream.tasks.watermark import Watermark
from walstream.wal.model import format_lsn
from walstream.wal.timeline import StartPoint

log = logging.getLogger("walstream")

FLUSH_INTERVAL_S = 0.5
"""Bounds how long WAL that has arrived waits for the index."""


class StoreParts:
    """A store that is written to, and everything of it that has files open.

    Made and closed in a thread. What was opened is closed when the rest cannot be.
    """

    def __init__(self, config: RunConfig, store: Store, backups: list[BaseBackup]) -> None:
        identity = store.identity
        self.store = store
        self.file_mode = store.file_mode
        self.redo = RedoManager(RedoConfig(sandbox=config.sandbox, dump_directory=store.dumps_path))
        with ExitStack() as opened:
            index, self.remakes_index = open_index(store)
            opened.enter_context(closing(index))
            # Each reads with an archive of its own, in a thread of its own.
            archive, source, watched = (
                opened.enter_context(closing(SegmentReader(store.wal_path, identity.segment_size)))
                for _ in range(3)
            )
            backups = of_history(backups, source.current_history())
            if self.remakes_index:
                # What gc kept before the last stretch of WAL comes back with walstream reindex.
                removed = read_removed(store.wal_path)
                backups, _ = stretches_to_index(source, backups, removed)[-1]
            self.backups = indexed_backups(index, backups)
            self.ingest = open_ingest(store, index, self.backups, source)
            last_valid = self.ingest.last_valid
            self.pages = page_service(store, index, self.redo, self.backups, archive, last_valid)
            self.bases = BaseWatch(store, self.pages, watched.current_history, self.backups)
            self.index = index
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Closes the files and gives up the lock."""
        self._opened.close()
        self.store.close()


async def _open_parts(config: RunConfig) -> StoreParts:
    """Returns a store that is ready to be written to; makes it where it is not there.

    Raises:
        WalstreamError: see ``prepare_store``.

    Cancellation: nothing stays open.
    """
    store, backups = await prepare_store(config)
    try:
        return await with_space(partial(StoreParts, config, store, backups))
    except BaseException:
        store.close()
        raise


class Application:
    """One cluster that is streamed into one store; see ``open_application``.

    ``flushed``: WAL before it is on disk. ``ingested``: all records that end at or before it are in
    the index, so ``pages`` answers for them. None of the attributes is ever replaced.
    """

    def __init__(self, config: RunConfig, parts: StoreParts) -> None:
        store, first = parts.store, first_needed(parts.backups)
        self.config = config
        self.flushed = Watermark()
        self.ingested = Watermark(parts.ingest.last_record_end)
        self.writer = Writer(
            store.wal_path,
            start=StartPoint(first.timeline, first.first_needed_lsn),
            synchronous=config.synchronous,
            verify=default_level(),
            allow_rewind=False,
            system_id=store.identity.system_id,
            flushed=self.flushed,
            file_mode=parts.file_mode,
        )
        self._intake = Intake(config, self.writer, flush_interval_s=FLUSH_INTERVAL_S)
        self.receiver: Receiver = self._intake.receiver
        self.redo = parts.redo
        self.pages: PageService = parts.pages
        self._ingest = parts.ingest
        self._remakes_index = parts.remakes_index
        self._bases = parts.bases
        self._watched = WatchedStore(store, parts.index, parts.pages)
        self._status_path = store.status_path
        self._streaming = trio.Event()
        self._stopped = trio.Event()

    def stop(self) -> None:
        """Stops receiving. What was received is still brought to the disk and into the index."""
        self._intake.stop()

    def reconnect(self) -> None:
        """Ends the session in good order and starts another."""
        self.receiver.reconnect()

    def waiting_for(self) -> str:
        """Returns what a stop waits for, in words."""
        indexed = format_lsn(self.ingested.value)
        return f"{self._intake.waiting_for()}, and indexed up to {indexed}"

    async def streaming(self) -> None:
        """Waits until the first session streams, or there will be none.

        Cancellation: nothing is left behind.
        """
        await self._streaming.wait()

    async def stopped(self) -> None:
        """Waits for the end: ``stop`` was called, or the stream ended with ``loop`` off.

        Cancellation: nothing is left behind.
        """
        await self._stopped.wait()

    async def caught_up(self) -> None:
        """Waits until everything that was received is on disk and in the index.

        Cancellation: nothing is left behind.
        """
        await self.writer.flush()
        await self._ingest.caught_up(self.flushed.value)

    async def _run(self) -> None:
        """The nursery tree (docs/architecture.md)."""
        monitor = self._intake.monitor(self.ingested, self.redo)
        async with AsyncExitStack() as stack:
            if self.config.metrics is not None:
                collectors = (
                    StatusCollector(monitor),
                    WindowCollector(monitor),
                    DrillCollector(self.config.store),
                    RedoCollector(self.redo),
                )
                await stack.enter_async_context(serve_metrics(self.config.metrics, collectors))
            async with trio.open_nursery() as nursery:
                await nursery.start(self.redo.run)
                async with trio.open_nursery() as telling:
                    telling.start_soon(
                        report, monitor, self._status_path, self.config.show_progress
                    )
                    watch = RetentionWatch(self._watched, self.config.retention, monitor)
                    telling.start_soon(watch.run)
                    async with trio.open_nursery() as indexing:
                        await indexing.start(self._index)
                        if self._remakes_index:
                            indexing.start_soon(self._tell_when_remade)
                        await self._intake.run(streaming=self._streaming)
                        # Drained: everything received is on disk. Let ingest catch up with it.
                        if not await self._ingest.caught_up_or_full(self.flushed.value):
                            log.warning("the disk is full: the index goes on here next time")
                        indexing.cancel_scope.cancel()
                    telling.cancel_scope.cancel()
                self.redo.shutdown()
        log.info("stopped: WAL is on disk up to %s", format_lsn(self.flushed.value))
        self._streaming.set()
        self._stopped.set()

    async def _tell_when_remade(self) -> None:
        await self.streaming()
        await self.caught_up()
        log.info("the index is made again, up to %s", format_lsn(self.ingested.value))

    async def _index(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Indexes, and has pages start from what base backups there are."""
        async with trio.open_nursery() as nursery:
            task_status.started()
            # The history of WAL is known then: bases of a branch that the server has left are
            # forgotten before anything is indexed on another.
            await self.flushed.wait_past(0)
            await self._bases.look()
            nursery.start_soon(self._bases.run)
            await self._ingest.run(self.flushed, self.ingested)


@asynccontextmanager
async def _running(config: RunConfig, parts: StoreParts) -> AsyncIterator[Application]:
    application = Application(config, parts)
    async with (
        closing_in_thread(parts),
        open_bare_nursery((ConnectionLost,)) as nursery,
    ):
        nursery.start_soon(application._run)
        yield application
        application.stop()


@asynccontextmanager
async def open_application(config: RunConfig) -> AsyncIterator[Application]:
    """Opens a store, or makes it, and streams the cluster into it while the context lasts.

    Making it takes a base backup; everything else begins in the background. At the end of the body
    receiving stops, and what was received is brought to the disk and into the index.

    Raises:
        WalstreamError: see ``prepare_store``, ``Receiver.run``, ``Writer.run`` and ``Ingest.run``;
            the one that tells why it ended. It cancels the body.

    What the body raises leaves as it is, and ends everything at once.

    Cancellation: what the kernel has is flushed; ingest goes on from the index next time.
    """
    async with _running(config, await _open_parts(config)) as application:
        yield application


async def run(config: RunConfig, drain_s: float = math.inf) -> None:
    """Streams a cluster into a store until a signal; the whole of ``walstream run``.

    The first SIGINT or SIGTERM drains it, the second cancels it; while the store is still being
    made the first gives that up. SIGHUP connects anew, so that what libpq reads (service and
    password files) is read again.

    Raises:
        WalstreamError: see ``open_application``.

    Cancellation: as ``open_application``.
    """
    preparing = trio.CancelScope()
    running: list[Application] = []

    def stop() -> None:
        preparing.cancel()
        for application in running:
            application.stop()

    async def reconnect() -> None:  # noqa: ASYNC124
        for application in running:
            application.reconnect()

    def waiting_for() -> str:
        return running[0].waiting_for() if running else "the store is being made"

    async with obey_signals(stop, reconnect, waiting_for, drain_s):
        parts = None
        with preparing:
            parts = await _open_parts(config)
        if parts is not None:
            async with _running(config, parts) as application:
                running.append(application)
                if preparing.cancel_called:
                    application.stop()
                await application.stopped()
