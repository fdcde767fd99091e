"""The application of ``walstream run``: one cluster into one store, until told to stop."""

from __future__ import annotations

import logging
import math
import signal
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import trio
from trio_util import AsyncValue, periodic

from walstream.app.full_disk import with_space
from walstream.app.page_service import base_pages, page_service
from walstream.app.prepare import prepare_store
from walstream.config import RunConfig
from walstream.errors import (
    ConnectionLost,
)
from walstream.index.ingest import Ingest, begin_index
from walstream.index.page_index import PageIndex
from walstream.metrics import StatusCollector, serve_metrics
from walstream.pages.service import PageService
from walstream.progress import Progress
from walstream.receive.receiver import Receiver
from walstream.redo.manager import RedoConfig, RedoManager
from walstream.segments.reader import SegmentReader
from walstream.store.base_backup import BaseBackup
from walstream.store.store import Store
from walstream.store.verifier import default_level
from walstream.store.writer import Writer
from walstream.tasks.supervise import single_error
from walstream.tasks.watermark import Watermark
from walstream.terminal import StatusLine
from walstream.wal.model import format_lsn
from walstream.wal.timeline import StartPoint

log = logging.getLogger("walstream")

FLUSH_INTERVAL_S = 0.5
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _open_index(store: Store, first: BaseBackup) -> PageIndex:
    """Returns the index of a store, begun at its first base backup. Blocks."""
    index = PageIndex(store.index_path)
    try:
        begin_index(index, first.start_lsn, base_pages(store, first).sizes().items())
    except BaseException:
        index.close()
        raise
    return index


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
        with ExitStack() as opened:
            index = None
            with self._preparing:
                store, backups = await prepare_store(self.config)
                opened.enter_context(store)
                index = await with_space(partial(_open_index, store, backups[0]))
                opened.enter_context(closing(index))
            if index is None:
                return
            # Pages and ingest each read with an archive of their own, in threads of their own.
            archive, source = (
                opened.enter_context(
                    closing(SegmentReader(store.wal_path, store.identity.segment_size))
                )
                for _ in range(2)
            )
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
        archive: SegmentReader,
        source: SegmentReader,
        task_status: trio.TaskStatus[None],
    ) -> None:
        config, identity, first = self.config, store.identity, backups[0]
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
