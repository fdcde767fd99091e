"""Chunks of WAL into the open segment files: the queue, the thread, the marks.

One task (``run``) writes. Everything that blocks happens in a thread of its own: a batch of chunks
is verified, written and, where it is time, flushed as one job. While it runs the next batch is
received; while a full segment is made durable, in a second thread, the next one is written. A full
disk pauses the task until there is space; the receiver then stops reading, its status sender does
not. Which files are open, and why, is for ``writer.py`` to say.

While nothing is queued, the thread and its files can be handed over to somebody who reads, writes
and flushes by himself (``hand_over``): a synchronous standby.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, TypeVar

import trio

from walstream.errors import ConnectionLost, NoSpace
from walstream.store.batch import Batch
from walstream.store.file_layer import free_space
from walstream.store.wal_files import WalFiles
from walstream.tasks.auto_reset_event import AutoResetEvent
from walstream.tasks.watermark import Watermark
from walstream.tasks.worker import Worker
from walstream.wal.model import WalChunk

log = logging.getLogger("walstream.writer")

T = TypeVar("T")

# Chunks are at most 128 kB. The queue holds what arrives while one hop runs: about what comes in
# the time of a segment's fsyncs, so that the server is kept busy meanwhile.
QUEUE_BYTES = 16 << 20
FULL_DISK_RETRY_S = (0.2, 5.0)
# A server that shuts down waits for its receivers: one that cannot write lets go of it after this.
FULL_DISK_PATIENCE_S = 10.0
# A flush that takes longer is no longer waited for in line with what arrives.
QUICK_FLUSH_S = 0.1


@dataclass(slots=True)
class WriterState:
    """What an operator wants to know of the writer. Times are ``time.time()``."""

    timeline: int = 0
    segment_size: int = 0
    waiting_for_space: str = ""
    fsyncs: int = 0
    last_fsync_s: float = 0.0
    slowest_fsync_s: float = 0.0
    last_wal_at: float = 0.0
    holes: list[str] = field(default_factory=list)
    set_aside: list[str] = field(default_factory=list)


class HandedOver(NamedTuple):
    """Who has the thread and its files; ``rest`` writes and flushes what he left in them."""

    rest: Batch
    take_back: Callable[[], None]
    ended: Callable[[], None]


class WriteQueue:
    """Takes chunks in order and writes them to the files that ``use`` was given last.

    ``received``, ``written`` and ``flushed`` say how far it is: taken, given to the kernel, on
    disk. Only ``flushed`` is a promise.

    Args:
        synchronous: flush whenever no more input waits.
        sync: False never calls fsync; ``flushed`` then never moves.
        flushed: the mark to use, where its owner shows it to others before there is a writer.
        completer: that of the files; shut down with the queue.
    """

    def __init__(
        self,
        *,
        synchronous: bool,
        sync: bool,
        flushed: Watermark | None = None,
        completer: ThreadPoolExecutor | None = None,
    ) -> None:
        self.received = Watermark()
        self.written = Watermark()
        self.flushed = flushed or Watermark()
        self.state = WriterState()
        self._synchronous = synchronous
        self._sync = sync
        self._worker = Worker("walstream writer")
        self._handed_over: HandedOver | None = None
        self._fsyncs_before = 0
        self._queue: deque[WalChunk] = deque()
        self._queued = 0
        self._event = AutoResetEvent()
        self._room = trio.Event()
        self._idle = trio.Event()
        self._idle.set()
        self._flush_wanted = False
        self._completer = completer
        self._completion: Future[None] | None = None
        self._completed = False
        self._closing = False
        self._closed = trio.Event()
        self._full_since = 0.0
        self.files: WalFiles | None = None
        """What is written to; None until ``use``, and after the end."""

    def use(self, files: WalFiles) -> None:
        """Goes on with these files; the queue is idle."""
        self.files = files
        self._fsyncs_before = self.state.fsyncs
        self.state.timeline = files.timeline
        for mark in (self.received, self.written):
            mark.advance(files.next_lsn)
        if self._sync:
            self.flushed.advance(files.flushed_lsn)

    # -- what is put

    async def put(self, chunk: WalChunk) -> None:  # noqa: ASYNC910
        """Queues WAL; waits while the queue is full. Not a checkpoint while it has room.

        Raises:
            ConnectionLost: the disk is full for so long that the server is to be let go.

        Cancellation: the chunk was not taken.
        """
        while self._queued >= QUEUE_BYTES:
            if self._room.is_set():
                self._room = trio.Event()
            with trio.move_on_after(FULL_DISK_RETRY_S[1]):
                await self._room.wait()
            self._check_patience()
        self._queue.append(chunk)
        self._queued += len(chunk.data)
        self.received.advance(chunk.start_lsn + len(chunk.data))
        self._event.set()

    @property
    def is_quick(self) -> bool:
        """Whether each flush of what is written is worth to be waited for in line."""
        return (
            self._synchronous
            and self._sync
            and self.files is not None
            and self.files.sync_seconds < QUICK_FLUSH_S
        )

    def hand_over(
        self,
        job: Callable[[WalFiles], None],
        *,
        take_back: Callable[[], None],
        ended: Callable[[], None],
    ) -> bool:
        """Runs ``job`` in the thread, with the files; returns False where that cannot be now.

        What is put meanwhile is written after it. ``run`` then goes on with what it left, or
        raises what it raised. ``publish`` moves the marks before that.

        Args:
            job: feeds, writes and flushes as it likes.
            take_back: makes ``job`` return as soon as the disk lets it; called when the queue ends,
                and after ``job``.
            ended: called in the event loop when ``job`` has returned or raised.
        """
        if not self.is_quick or self._queue or self._worker.busy or not self._idle.is_set():
            return False
        assert self.files is not None
        self._worker.begin(partial(job, self.files))
        rest = Batch(self.files, (), flush=True)
        self._handed_over = HandedOver(rest, take_back, ended)
        self._idle = trio.Event()
        self._event.set()
        return True

    def publish(self) -> None:
        """Moves the marks to where the files are, whoever writes to them."""
        if self.files is not None:
            if self.files.next_lsn > self.received.value:
                self.state.last_wal_at = time.time()
            self._publish(self.files)

    def request_flush(self) -> None:
        """Asks for a flush of what was put, soon."""
        if self.flushed.value < self.received.value:
            self._flush_wanted = True
            self._event.set()

    async def flush(self) -> None:
        """Returns when everything put before is on disk (without ``sync``: in the kernel).

        Raises:
            ConnectionLost: as ``put``.

        Cancellation: the flush that was asked for still happens.
        """
        target = self.received.value
        self._check_patience()
        self.request_flush()
        await (self.flushed if self._sync else self.written).wait_for(target)

    # -- the task

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """See ``Writer.run``.

        Cancellation: what the kernel has is flushed, the file is closed; what was queued is
        dropped: it was never reported.
        """
        async with self._worker:
            task_status.started()
            try:
                while True:
                    await self._event.wait()
                    while self._has_work:
                        await self._write_batch()
                    self._idle.set()
                    if self._closing:
                        break
            finally:
                with trio.CancelScope(shield=True):
                    await self.shut()
                    if self._completer is not None:
                        self._completer.shutdown()

    @property
    def _has_work(self) -> bool:
        if self._handed_over or self._queue or self._completed:
            return True
        # A flush that was put off goes on when the segment is complete.
        put_off = self.files is not None and self.files.is_completing and not self._closing
        return self._flush_wanted and not put_off

    def close(self) -> None:
        """Ends ``run`` after everything that was put is on disk.

        Where that waits for space, ``run`` raises ``NoSpace`` instead: what is not on disk was
        never reported as flushed.
        """
        self._closing = True
        self._closed.set()
        self._flush_wanted = True
        self._event.set()

    async def until_idle(self) -> None:  # noqa: ASYNC910
        """Returns when all that was put is written and nobody has the thread.

        Cancellation: nothing happened.
        """
        while self._queue or not self._idle.is_set():
            if self._idle.is_set():
                self._idle = trio.Event()
            self._event.set()
            await self._idle.wait()

    def _next_batch(self, files: WalFiles) -> Batch:
        """Takes all that is queued."""
        batch = Batch(
            files,
            list(self._queue),
            flush=self._flush_wanted or self._synchronous,
            at_once=self._closing,
        )
        if self._queue:
            self.state.last_wal_at = time.time()
        self._queue.clear()
        self._queued = 0
        self._flush_wanted = False
        self._completed = False
        self._room.set()
        return batch

    async def _write_batch(self) -> None:
        """Waits for whom the thread was handed over to, else writes all that is queued."""
        if self._idle.is_set():
            self._idle = trio.Event()
        if self._handed_over is not None:
            batch = self._handed_over.rest
            job: Callable[[], Awaitable[None]] = self._take_back
        elif self.files is not None:
            batch = self._next_batch(self.files)
            job = partial(self._worker.call, batch)
        else:
            self._flush_wanted = self._completed = False
            return  # noqa: ASYNC910
        again: Callable[[], Awaitable[None]] = partial(self._worker.call, batch)
        await self._patiently(job, again, lambda: self._publish(batch.files))
        self._publish(batch.files)
        self._watch(batch.files)
        if batch.flush_put_off:
            self._flush_wanted = True

    def _watch(self, files: WalFiles) -> None:
        """Has ``run`` look at the files when the segment that they complete is on disk."""
        completion = files.completion
        if completion is not None and completion is not self._completion:
            self._completion = completion
            token = trio.lowlevel.current_trio_token()

            def over(_: Future[None]) -> None:
                with suppress(trio.RunFinishedError):
                    token.run_sync_soon(self._note_completion)

            completion.add_done_callback(over)

    def _note_completion(self) -> None:
        self.publish()
        self._completed = True
        self._event.set()

    async def _patiently(
        self,
        job: Callable[[], Awaitable[T]],
        again: Callable[[], Awaitable[T]] | None = None,
        failed: Callable[[], None] = lambda: None,
    ) -> T:
        """Runs ``job``, and ``again`` until there is space for it.

        Raises:
            NoSpace: there is none, and ``close`` was called: a person wants an end.
        """
        retry_s = FULL_DISK_RETRY_S[0]
        while True:  # noqa: ASYNC913 (a job is awaited each time)
            full: NoSpace | None = None
            try:
                result = await job()
            except NoSpace as exc:
                full = exc
            if full is None:
                if self.state.waiting_for_space:
                    log.info("there is space again")
                    self.state.waiting_for_space = ""
                return result
            if not self.state.waiting_for_space:
                self.state.waiting_for_space = str(full)
                self._full_since = trio.current_time()
                space = await self.in_thread(free_space, full.path)
                log.warning("%s, %s; waiting for space", full, space)
            failed()
            job = again or job
            with trio.move_on_after(retry_s):
                await self._closed.wait()
            if self._closing:
                raise full
            retry_s = min(retry_s * 2, FULL_DISK_RETRY_S[1])

    def _check_patience(self) -> None:
        """Raises ConnectionLost where the disk is full for too long to keep a server waiting."""
        error = self.state.waiting_for_space
        if error and trio.current_time() - self._full_since > FULL_DISK_PATIENCE_S:
            raise ConnectionLost(f"{error}; the server is let go until there is space")

    async def _take_back(self) -> None:
        """Ends a ``hand_over``: waits for the thread; asks for a flush where that is to be."""
        assert self._handed_over is not None
        rest, take_back, ended = self._handed_over
        try:
            await self._worker.wait()
        finally:
            take_back()
            with trio.CancelScope(shield=True):
                try:
                    await self._worker.finish()
                finally:
                    self._handed_over = None
                    self._publish(rest.files)
                    ended()
        if rest.files.flushed_lsn < rest.files.written_lsn:
            self._flush_wanted = True

    def _publish(self, files: WalFiles) -> None:
        # Flushed first: where another thread writes meanwhile, no mark passes the one before it.
        flushed, written, received = files.flushed_lsn, files.written_lsn, files.next_lsn
        state = self.state
        state.fsyncs = self._fsyncs_before + files.syncs
        state.last_fsync_s = files.sync_seconds
        state.slowest_fsync_s = max(state.slowest_fsync_s, files.slowest_sync_seconds)
        self.received.advance(received)
        self.written.advance(written)
        self.flushed.advance(flushed)

    async def shut(self) -> None:
        """Ends what is under way and closes the files, without waiting for space.

        Cancellation: takes no effect once the files are being closed.
        """
        files, self.files = self.files, None
        try:
            if self._handed_over is not None:
                with suppress(NoSpace):
                    await self._take_back()
        finally:
            if files is not None:
                with trio.CancelScope(shield=True):
                    await self._worker.call(files.close)
                self._publish(files)
                self._fsyncs_before = self.state.fsyncs

    async def in_thread(self, function: Callable[..., T], *args: object) -> T:
        """Runs ``function`` in the thread, after what is under way; returns what it does.

        Cancellation: before it has begun. Once it has, it is waited for.
        """
        return await self._worker.call(partial(function, *args))

    async def in_thread_patiently(self, function: Callable[..., T], *args: object) -> T:
        """As ``in_thread``, again and again while the disk is full: for what can be repeated.

        Raises:
            NoSpace: the disk is full, and ``close`` was called.

        Cancellation: as ``in_thread``.
        """
        return await self._patiently(partial(self.in_thread, function, *args))
