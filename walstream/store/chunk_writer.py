"""Chunks of WAL into the open segment files: the queue, the thread, the marks.

One task (``run``) writes. Everything that blocks happens in a thread of its own: a batch of chunks
is verified, written and, where it is time, flushed as one job. While it runs the next batch is
received. A full disk pauses the task until there is space; the receiver then stops reading, its
status sender does not. Which files are open, and why, is for ``writer.py`` to say.

The commits of a server wait for each flush of its synchronous standby: for those the files and the
thread are lent to the receiver (``lend``), while that is up to date.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, TypeVar

import trio

from walstream.errors import ConnectionLost, NoSpace
from walstream.store.file_layer import free_space
from walstream.store.wal_files import WalFiles
from walstream.tasks.bell import Bell
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


class Borrower(Protocol):
    """What ``Writer.lend`` lends to."""

    def __call__(self, files: WalFiles) -> None:
        """Feeds, writes and flushes as it likes; runs in the writer's thread."""

    def recall(self) -> None:
        """Makes the call return soon; safe at any time."""

    def ended(self) -> None:
        """Hears, in the event loop, that the call has returned or raised."""


class Batch:
    """A job for the writer's thread: chunks to verify and write, then perhaps a flush.

    After ``NoSpace`` it can be run again.
    """

    def __init__(self, files: WalFiles, chunks: Sequence[WalChunk], *, flush: bool = False) -> None:
        self.files = files
        self._chunks = chunks
        self._flush = flush

    def __call__(self) -> None:
        chunks, self._chunks = self._chunks, ()
        self.files.feed(chunks)
        self.files.write()
        if self._flush:
            self.files.flush()


class ChunkWriter:
    """Takes chunks in order and writes them to whatever files are open; base of ``Writer``.

    ``received``, ``written`` and ``flushed`` say how far it is: taken, given to the kernel, on
    disk. Only ``flushed`` is a promise.

    Args:
        synchronous: flush whenever no more input waits.
        sync: False never calls fsync; ``flushed`` then never moves.
        flushed: the mark to use, where its owner shows it to others before there is a writer.
    """

    def __init__(self, *, synchronous: bool, sync: bool, flushed: Watermark | None = None) -> None:
        self.received = Watermark()
        self.written = Watermark()
        self.flushed = flushed or Watermark()
        self.state = WriterState()
        self._synchronous = synchronous
        self._sync = sync
        self._worker = Worker("walstream writer")
        self._lent: tuple[Batch, Borrower] | None = None
        self._fsyncs_before = 0
        self._queue: deque[WalChunk] = deque()
        self._queued = 0
        self._bell = Bell()
        self._room = trio.Event()
        self._idle = trio.Event()
        self._idle.set()
        self._flush_wanted = False
        self._closing = False
        self._closed = trio.Event()
        self._full_since = 0.0
        self._files: WalFiles | None = None

    def _adopt(self, files: WalFiles) -> None:
        """Goes on with these files."""
        self._files = files
        self._fsyncs_before = self.state.fsyncs
        self.state.timeline = files.timeline
        for mark in (self.received, self.written):
            mark.advance(files.next_lsn)
        if self._sync:
            self.flushed.advance(files.flushed_lsn)

    # -- the sink

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
        self._bell.ring()

    @property
    def lends(self) -> bool:
        """Whether ``lend`` is worth a try: a synchronous writer on a disk that is quick."""
        return (
            self._synchronous
            and self._sync
            and self._files is not None
            and self._files.sync_seconds < QUICK_FLUSH_S
        )

    def lend(self, borrower: Borrower) -> bool:
        """Runs ``borrower`` in the writer's thread; returns False where that cannot be now.

        Until its ``ended`` nothing may be put, unless it was recalled. ``run`` then goes on with
        what it left, or raises what it raised. ``publish_lent`` tells the watermarks before that.
        """
        if not self.lends or self._queue or self._worker.busy or not self._idle.is_set():
            return False
        assert self._files is not None
        self._worker.begin(partial(borrower, self._files))
        self._lent = (Batch(self._files, (), flush=True), borrower)
        self._idle = trio.Event()
        self._bell.ring()
        return True

    def publish_lent(self) -> None:
        """Tells how far what was lent is."""
        if self._lent is not None:
            self.state.last_wal_at = time.time()
            self._publish(self._lent[0].files)

    def request_flush(self) -> None:
        """Asks for a flush of what was put, soon."""
        if self.flushed.value < self.received.value:
            self._flush_wanted = True
            self._bell.ring()

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
        """Writes what is put until ``close``; then flushes, closes the file and returns.

        Raises:
            WalError, WrongCluster: the WAL is wrong; nothing of the batch it came in was written.
            StorageError: a system call failed, fsync among them; the directory is as it is after a
                crash, and a new writer can take it up.

        Cancellation: what the kernel has is flushed, the file is closed; what was queued is
        dropped: it was never reported.
        """
        async with self._worker:
            task_status.started()
            try:
                while True:
                    await self._bell.wait()
                    while self._lent or self._queue or self._flush_wanted:
                        await self._write_batch()
                    self._idle.set()
                    if self._closing:
                        break
            finally:
                with trio.CancelScope(shield=True):
                    await self._shut()

    def close(self) -> None:
        """Ends ``run`` after everything that was put is on disk.

        Where that waits for space, ``run`` raises ``NoSpace`` instead: what is not on disk was
        never reported as flushed.
        """
        self._closing = True
        self._closed.set()
        self._flush_wanted = True
        self._bell.ring()

    async def _until_idle(self) -> None:  # noqa: ASYNC910
        while self._queue or not self._idle.is_set():
            if self._idle.is_set():
                self._idle = trio.Event()
            self._bell.ring()
            await self._idle.wait()

    def _next_batch(self, files: WalFiles) -> Batch:
        """Takes all that is queued."""
        batch = Batch(files, list(self._queue), flush=self._flush_wanted or self._synchronous)
        if self._queue:
            self.state.last_wal_at = time.time()
        self._queue.clear()
        self._queued = 0
        self._flush_wanted = False
        self._room.set()
        return batch

    async def _write_batch(self) -> None:
        """Waits for what was lent, else writes all that is queued."""
        if self._idle.is_set():
            self._idle = trio.Event()
        if self._lent is not None:
            batch = self._lent[0]
            job: Callable[[], Awaitable[None]] = self._take_back
        elif self._files is not None:
            batch = self._next_batch(self._files)
            job = partial(self._worker.call, batch)
        else:
            self._flush_wanted = False
            return  # noqa: ASYNC910
        again: Callable[[], Awaitable[None]] = partial(self._worker.call, batch)
        await self._patiently(job, again, lambda: self._publish(batch.files))
        self._publish(batch.files)

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
                space = await self._in_thread(free_space, full.path)
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
        """Ends a ``lend``: waits for the thread; asks for a flush where that is still to be."""
        assert self._lent is not None
        batch, borrower = self._lent
        try:
            await self._worker.wait()
        finally:
            borrower.recall()
            with trio.CancelScope(shield=True):
                try:
                    await self._worker.finish()
                finally:
                    self._lent = None
                    self._publish(batch.files)
                    borrower.ended()
        if batch.files.flushed_lsn < batch.files.written_lsn:
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

    async def _shut(self) -> None:
        """Ends what is under way and closes the files, without waiting for space."""
        files, self._files = self._files, None
        try:
            if self._lent is not None:
                with suppress(NoSpace):
                    await self._take_back()
        finally:
            if files is not None:
                with trio.CancelScope(shield=True):
                    await self._worker.call(files.close)
                self._publish(files)
                self._fsyncs_before = self.state.fsyncs

    async def _in_thread(self, function: Callable[..., T], *args: object) -> T:
        return await self._worker.call(partial(function, *args))

    async def _in_thread_patiently(self, function: Callable[..., T], *args: object) -> T:
        """As ``_in_thread``, again and again while the disk is full: for what can be repeated."""
        return await self._patiently(partial(self._in_thread, function, *args))
