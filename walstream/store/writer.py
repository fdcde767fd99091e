"""The writer: takes WAL from a receiver, verifies it, keeps it, and says how far it is on disk.

One task (``run``) owns the open segment. Everything that blocks happens in a thread that is the
writer's own: a batch of chunks is verified, written and, where it is time, flushed as one job.
While it runs the next batch is received. A full disk pauses the writer until there is space; the
receiver then stops reading, its status sender does not.

The commits of a server wait for each flush of its synchronous standby: for those the writer lends
its files and its thread to the receiver (``lend``), while that is up to date.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import trio

from walstream.errors import (
    ServerRefused,
    StoreError,
    WalDivergedError,
    WalError,
    WrongCluster,
)
from walstream.store.compressed import NO_COMPRESSION, Compression, read_prefix
from walstream.store.file_layer import FileLayer, NoSpace, storage_error, write_durably
from walstream.store.proof import Proof, prove
from walstream.store.segment_file import PARTIAL
from walstream.store.start import StartPlan, WalEntry, choose_start, parse_entry
from walstream.store.verify import (
    Expected,
    VerifyLevel,
    default_level,
    make_verifier,
    read_long_header,
)
from walstream.store.wal_files import WalFiles
from walstream.tasks.bell import Bell
from walstream.tasks.watermark import Watermark
from walstream.tasks.worker import Worker
from walstream.wal.layout import LONG_PAGE_HEADER, XLOG_BLCKSZ
from walstream.wal.model import WalChunk, format_lsn
from walstream.wal.segment import (
    history_file_name,
    parse_history_file_name,
    segment_file_name,
)
from walstream.wal.timeline import (
    StartPoint,
    TimelineHistory,
    Upstream,
    WalHole,
    parse_history,
)

log = logging.getLogger("walstream.writer")

T = TypeVar("T")

# Chunks are at most 128 kB. The queue holds what arrives while one hop runs: about what comes in
# the time of a segment's fsyncs, so that the server is kept busy meanwhile.
QUEUE_BYTES = 16 << 20
FULL_DISK_RETRY_S = (0.2, 5.0)
# A flush that takes longer is no longer waited for in line with what arrives.
QUICK_FLUSH_S = 0.1
DEAD_DIRECTORY = "dead"


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


class _Batch:
    """A job for the writer's thread: chunks to verify and write, then perhaps a flush.

    After ``NoSpace`` it can be run again.
    """

    def __init__(self, files: WalFiles, chunks: Sequence[WalChunk], *, flush: bool) -> None:
        self.files = files
        self._chunks = chunks
        self._flush = flush

    def __call__(self) -> None:
        chunks, self._chunks = self._chunks, ()
        self.files.feed(chunks)
        self.files.write()
        if self._flush:
            self.files.flush()


class Writer:
    """Keeps WAL in a directory as PostgreSQL's own segment files; a ``WalSink`` of the receiver.

    ``received``, ``written`` and ``flushed`` say how far it is: taken, given to the kernel, on
    disk. Only ``flushed`` is a promise.

    Args:
        directory: where segments and history files go; it exists and is locked by the caller.
        start: (timeline, LSN) to begin with where the directory is empty.
        synchronous: flush whenever no more input waits.
        sync: False never calls fsync; ``flushed`` then never moves.
        verify: what is checked before it is written; None: ``records`` with compiled kernels,
            else ``headers``.
        compression: of new segments.
        resend: an unfinished segment that was found is asked for from its beginning, so that all
            of it is compared with what the server has.
        allow_rewind: a dead branch is set aside and streaming goes on below what was flushed.
            False raises, for users that have consumed what is now void.
        system_id: the cluster that the directory must belong to; None: what its files say.
        file_mode: permissions of new files.
    """

    def __init__(
        self,
        directory: Path,
        *,
        start: StartPoint | None = None,
        synchronous: bool = False,
        sync: bool = True,
        verify: VerifyLevel | None = None,
        compression: Compression = NO_COMPRESSION,
        resend: bool = True,
        allow_rewind: bool = True,
        system_id: int | None = None,
        files: FileLayer | None = None,
        file_mode: int = 0o600,
    ) -> None:
        self.directory = directory
        self.received = Watermark()
        self.written = Watermark()
        self.flushed = Watermark()
        self.state = WriterState()
        self._start = start
        self._synchronous = synchronous
        self._sync = sync
        self._verify: VerifyLevel = verify or default_level()
        self._compression = compression
        self._resend = resend
        self._allow_rewind = allow_rewind
        self._system_id = system_id
        self._layer = files or FileLayer()
        self._file_mode = file_mode
        self._worker = Worker("walstream writer")
        self._lent: tuple[_Batch, Borrower] | None = None
        self._fsyncs_before = 0
        self._queue: deque[WalChunk] = deque()
        self._queued = 0
        self._bell = Bell()
        self._room = trio.Event()
        self._idle = trio.Event()
        self._idle.set()
        self._flush_wanted = False
        self._closing = False
        self._files: WalFiles | None = None
        self._upstream: Upstream | None = None
        self._history: TimelineHistory | None = None
        self._holes: list[WalHole] = []

    # -- the sink

    async def put(self, chunk: WalChunk) -> None:  # noqa: ASYNC910
        """Queues WAL; waits while the queue is full. Not a checkpoint while it has room.

        Cancellation: the chunk was not taken.
        """
        while self._queued >= QUEUE_BYTES:
            if self._room.is_set():
                self._room = trio.Event()
            await self._room.wait()
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
        self._lent = (_Batch(self._files, (), flush=True), borrower)
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

        Cancellation: the flush that was asked for still happens.
        """
        target = self.received.value
        self.request_flush()
        await (self.flushed if self._sync else self.written).wait_for(target)

    async def begin(self, upstream: Upstream) -> StartPoint:
        """Compares the directory with a server; returns where streaming is to go on.

        After the first time the open position is kept and only checked: streaming goes on at the
        page of ``flushed``, and what is sent again is compared.

        Raises:
            WrongCluster: the directory belongs to another cluster.
            StoreError: its segments have another size or version.
            ServerRefused: the directory is ahead of the server.
            WalDivergedError: our timeline ended before what we hold, and ``allow_rewind`` is off.
            StorageError: a system call failed.

        Cancellation: nothing was begun.
        """
        await self._until_idle()
        if self._files is not None:
            start = await self._go_on(upstream)
            if start is not None:
                return start
        previous = self.flushed.value
        plan, files = await self._in_thread(self._prepare, upstream)
        if plan.start_lsn < previous - previous % upstream.segment_size:
            if not self._allow_rewind:
                raise WalDivergedError(
                    f"the server's timeline {upstream.timeline} left ours before "
                    f"{format_lsn(previous)}; what was read beyond that is void",
                    plan.start_lsn,
                )
            for mark in (self.received, self.written, self.flushed):
                mark.rewind(plan.start_lsn)
        self._upstream = upstream
        self._adopt(files)
        self._report(plan)
        return StartPoint(plan.timeline, self._resume_lsn(files, whole=self._resend))

    async def follow(self, timeline: int, switch_lsn: int, history_text: str) -> StartPoint:
        """Ends the timeline: keeps the new one's history file, then moves to its first segment.

        Raises:
            WalError: the history file is malformed or tells of another switch point.
            WalDivergedError: we hold WAL past the switch point.
            StorageError: a system call failed.

        Cancellation: the history file may have been written.
        """
        await self._until_idle()
        assert self._files is not None
        assert self._upstream is not None
        history = parse_history(timeline, history_text)
        if self._files.next_lsn > switch_lsn:
            raise WalDivergedError(
                f"timeline {timeline} begins at {format_lsn(switch_lsn)}, timeline "
                f"{self._files.timeline} was received to {format_lsn(self._files.next_lsn)}",
                switch_lsn,
            )
        await self._in_thread(self._end_timeline, timeline, history_text)
        size = self._upstream.segment_size
        self._upstream = self._upstream._replace(
            history=history, history_text=history_text, timeline=timeline
        )
        start_lsn = switch_lsn - switch_lsn % size
        upstream = self._upstream
        self._adopt(await self._in_thread(self._open, upstream, timeline, start_lsn, None))
        return StartPoint(timeline, start_lsn)

    def _resume_lsn(self, files: WalFiles, *, whole: bool) -> int:
        """Returns what to ask for: a whole segment or page more than is needed is compared."""
        assert self._upstream is not None
        lsn = files.next_lsn
        size = self._upstream.segment_size
        if not files.comparable:
            return lsn
        return lsn - lsn % size if whole else lsn - lsn % XLOG_BLCKSZ

    def holes(self) -> list[WalHole]:
        """Returns what is missing between the files that are held, as of the last ``begin``."""
        return list(self._holes)

    async def fill(self, hole: WalHole, chunks: trio.MemoryReceiveChannel[WalChunk]) -> None:
        """Writes what comes from ``chunks`` into the segments of a hole, verified as always.

        Returns when the hole is filled or ``chunks`` ends.

        Raises:
            WalError, WrongCluster, StorageError: as ``run``.

        Cancellation: whole segments are kept, the last one stays ``.partial``.
        """
        assert self._upstream is not None
        files = await self._in_thread(
            self._open, self._upstream, hole.timeline, hole.begin, None, None
        )

        def take(chunk: WalChunk) -> None:
            data = chunk.data[: max(0, hole.end - chunk.start_lsn)]
            files.feed([chunk._replace(data=data)])
            files.write()

        try:
            async with chunks:
                async for chunk in chunks:
                    await self._in_thread(take, chunk)
                    if files.written_lsn >= hole.end:
                        break
        finally:
            with trio.CancelScope(shield=True):
                await self._in_thread(files.close)
        if files.written_lsn >= hole.end:
            log.info("WAL that was missing was sent again: %s", describe(hole))
            self._holes.remove(hole)
            self.state.holes = [describe(hole) for hole in self._holes]

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
        """Ends ``run`` after everything that was put is on disk."""
        self._closing = True
        self._flush_wanted = True
        self._bell.ring()

    async def _until_idle(self) -> None:  # noqa: ASYNC910
        while self._queue or not self._idle.is_set():
            if self._idle.is_set():
                self._idle = trio.Event()
            self._bell.ring()
            await self._idle.wait()

    def _next_batch(self, files: WalFiles) -> _Batch:
        """Takes all that is queued."""
        batch = _Batch(files, list(self._queue), flush=self._flush_wanted or self._synchronous)
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
        retry_s = FULL_DISK_RETRY_S[0]
        while True:
            try:
                await job()
            except NoSpace as exc:
                if not self.state.waiting_for_space:
                    log.warning("%s; waiting for space", exc)
                self.state.waiting_for_space = str(exc)
                self._publish(batch.files)
                await trio.sleep(retry_s)
                retry_s = min(retry_s * 2, FULL_DISK_RETRY_S[1])
                job = partial(self._worker.call, batch)
                continue
            break
        if self.state.waiting_for_space:
            log.info("there is space again")
            self.state.waiting_for_space = ""
        self._publish(batch.files)

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

    # -- positions

    def _adopt(self, files: WalFiles) -> None:
        self._files = files
        self._fsyncs_before = self.state.fsyncs
        self.state.timeline = files.timeline
        assert self._upstream is not None
        self.state.segment_size = self._upstream.segment_size
        for mark in (self.received, self.written):
            mark.advance(files.next_lsn)
        if self._sync:
            self.flushed.advance(files.flushed_lsn)

    async def _go_on(self, upstream: Upstream) -> StartPoint | None:
        """Returns where to go on after a lost connection; None: the directory has to be planned."""
        files, before = self._files, self._upstream
        assert files is not None
        assert before is not None
        if upstream.system_id != before.system_id:
            raise WrongCluster(
                f"the server's system identifier is {upstream.system_id}, "
                f"before it was {before.system_id}"
            )
        if (upstream.version, upstream.segment_size) != (before.version, before.segment_size):
            raise StoreError(
                f"the server is PostgreSQL {upstream.version} with segments of "
                f"{upstream.segment_size} bytes, before it was {before.version} with "
                f"{before.segment_size}"
            )
        await self._in_thread(files.flush)
        self._publish(files)
        part = upstream.history.part_of(files.timeline)
        if part is None or files.next_lsn > part.end or upstream.timeline < files.timeline:
            await self._shut()
            return None
        self._upstream = before._replace(flush_lsn=upstream.flush_lsn)
        return StartPoint(files.timeline, self._resume_lsn(files, whole=False))

    def _report(self, plan: StartPlan) -> None:
        self._holes = list(plan.holes)
        self.state.holes = [describe(hole) for hole in plan.holes]
        for hole in plan.holes:
            log.warning(
                "WAL is missing from %s: %s; asking the server for it (an archive or a copy of "
                "pg_wal may have it too)",
                self.directory,
                describe(hole),
            )
        for entry in plan.dead:
            log.warning("%s is of a branch the server has left: set aside", entry.name)
        self.state.set_aside += [entry.name for entry in plan.dead]

    # -- in the thread

    def _prepare(self, upstream: Upstream) -> tuple[StartPlan, WalFiles]:
        """Scans the directory, refuses another cluster's, sets dead branches aside, proves."""
        entries = scan_directory(self.directory, upstream.segment_size)
        followed = max(
            (parse_history_file_name(path.name) or 0 for path in self.directory.iterdir()),
            default=0,
        )
        if followed > upstream.timeline:
            raise ServerRefused(
                f"the directory has followed timeline {followed}, the server is on "
                f"{upstream.timeline}: it is behind, or it is the old primary; connect to the new "
                "one"
            )
        self._check_cluster(entries, upstream)
        if upstream.history_text is not None:
            self._keep_history(upstream.timeline, upstream.history_text)
        plan = choose_start(entries, upstream, empty_start=self._start)
        self._set_aside(plan.dead)
        held = {
            (entry.timeline, entry.segment_number): entry.name
            for entry in entries
            if entry.complete and entry not in plan.dead
        }
        before = self._segment_before(held, upstream, plan.start_lsn)
        if not plan.partials:
            proof = None
            if before and self._verify == "records":
                proof = self._prove(before, upstream, plan.start_lsn - upstream.segment_size)
                if proof.error is not None:
                    raise WalError(
                        f"{before[0]} is damaged, move it away to have it sent again: "
                        f"{proof.error}",
                        proof.error.lsn,
                    )
            return plan, self._open(upstream, plan.timeline, plan.start_lsn, proof)
        first = plan.start_lsn - len(before) * upstream.segment_size
        proof, best = max(
            (
                (self._prove([*before, self.directory / entry.name], upstream, first), entry)
                for entry in plan.partials
            ),
            key=lambda pair: pair[0].end_lsn,
        )
        part = upstream.history.part_of(plan.timeline)
        if part is not None and proof.end_lsn > part.end:
            # Records past the switch point: the server's timeline left ours before them.
            self._set_aside(plan.partials)
            replanned, files = self._prepare(upstream)
            return replanned._replace(dead=plan.dead + plan.partials + replanned.dead), files
        files = self._open(upstream, plan.timeline, plan.start_lsn, proof, best)
        used = segment_file_name(plan.timeline, best.segment_number, upstream.segment_size)
        used += self._compression.suffix + PARTIAL
        for entry in plan.partials:
            if entry.name != used:
                self._layer.unlink(self.directory / entry.name)
        return plan, files

    def _segment_before(
        self, held: dict[tuple[int, int], str], upstream: Upstream, start_lsn: int
    ) -> list[Path]:
        """Returns the file of the segment before ``start_lsn``, if it is held, as a list."""
        number = start_lsn // upstream.segment_size - 1
        for part in reversed(upstream.history.parts):
            name = held.get((part.timeline, number))
            if name is not None and part.begin < start_lsn:
                return [self.directory / name]
        return []

    def _prove(self, paths: list[Path], upstream: Upstream, first_lsn: int) -> Proof:
        return prove(
            paths,
            first_lsn,
            version=upstream.version,
            segment_size=upstream.segment_size,
            system_id=upstream.system_id,
        )

    def _open(
        self,
        upstream: Upstream,
        timeline: int,
        segment_lsn: int,
        proof: Proof | None,
        partial: WalEntry | None = None,
    ) -> WalFiles:
        """Opens the segment that begins at ``segment_lsn``, with what is proven of ``partial``."""
        start_lsn = segment_lsn
        prefix = decoder = None
        prev_lsn = 0
        if partial is None:
            decoder = proof.decoder if proof is not None else None
        elif (
            proof is not None and segment_lsn < proof.end_lsn < segment_lsn + upstream.segment_size
        ):
            start_lsn, prev_lsn = proof.end_lsn, proof.prev_lsn
            if (self._compression.method, partial.compression) != ("none", "none"):
                prefix = read_prefix(self.directory / partial.name, start_lsn - segment_lsn)
        timelines = tuple(p.timeline for p in upstream.history.parts if p.timeline <= timeline)
        expected = Expected(upstream.system_id, upstream.version, upstream.segment_size, timelines)
        return WalFiles(
            self._layer,
            self.directory,
            upstream.segment_size,
            timeline,
            start_lsn,
            make_verifier(self._verify, expected, start_lsn, prev_lsn, decoder),
            prefix=prefix,
            compression=self._compression,
            sync=self._sync,
            zero_fill=self._synchronous,
            mode=self._file_mode,
        )

    def _check_cluster(self, entries: list[WalEntry], upstream: Upstream) -> None:
        if self._system_id not in (None, upstream.system_id):
            raise WrongCluster(
                f"{self.directory} belongs to the cluster with system identifier "
                f"{self._system_id}, the server's is {upstream.system_id}"
            )
        newest = sorted(entries, key=lambda e: (e.timeline, e.segment_number), reverse=True)
        for entry in newest:
            if entry.compression != "none":
                continue
            header = read_long_header(read_start(self.directory / entry.name))
            if header is None:
                continue
            if header.system_id != upstream.system_id:
                raise WrongCluster(
                    f"{self.directory / entry.name} is of the cluster with system identifier "
                    f"{header.system_id}, the server's is {upstream.system_id}"
                )
            if header.version != upstream.version:
                raise StoreError(
                    f"{self.directory / entry.name} is of PostgreSQL {header.version}, "
                    f"the server is {upstream.version}"
                )
            return

    def _keep_history(self, timeline: int, text: str) -> None:
        path = self.directory / history_file_name(timeline)
        content = text.encode()
        try:
            stored = path.read_bytes() if path.exists() else None
        except OSError as exc:
            raise storage_error("read", path, exc) from exc
        if stored is None:
            write_durably(self._layer, path, content, self._file_mode)
        elif parse_history(timeline, stored.decode("utf-8", "replace")) != parse_history(
            timeline, text
        ):
            raise WalDivergedError(
                f"{path} tells of another timeline {timeline} than the server's: "
                "two servers were promoted to the same timeline"
            )

    def _end_timeline(self, timeline: int, text: str) -> None:
        assert self._files is not None
        self._keep_history(timeline, text)
        self._files.close()

    def _set_aside(self, dead: tuple[WalEntry, ...]) -> None:
        if not dead:
            return
        place = self.directory / DEAD_DIRECTORY
        try:
            place.mkdir(exist_ok=True, mode=0o700)
            for entry in dead:
                target = place / entry.name
                number = 0
                while target.exists():
                    number += 1
                    target = place / f"{entry.name}.{number}"
                self._layer.rename(self.directory / entry.name, target)
            self._layer.fsync_directory(place)
            self._layer.fsync_directory(self.directory)
        except OSError as exc:
            raise storage_error("set aside into", place, exc) from exc


def describe(hole: WalHole) -> str:
    """Returns a hole in words."""
    return f"{format_lsn(hole.begin)} to {format_lsn(hole.end)} on timeline {hole.timeline}"


def scan_directory(directory: Path, segment_size: int) -> list[WalEntry]:
    """Returns the segment files of a directory.

    Raises:
        StorageError: it cannot be read.
    """
    found = []
    try:
        for path in directory.iterdir():
            if path.name[:1].isalnum() and path.is_file():
                entry = parse_entry(path.name, path.stat().st_size, segment_size)
                if entry is not None:
                    found.append(entry)
    except OSError as exc:
        raise storage_error("read", directory, exc) from exc
    return sorted(found)


def read_start(path: Path) -> bytes:
    """Returns the first bytes of a file, enough for a long page header.

    Raises:
        StorageError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(LONG_PAGE_HEADER)
    except OSError as exc:
        raise storage_error("read", path, exc) from exc
