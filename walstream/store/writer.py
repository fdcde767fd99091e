"""The writer: keeps WAL from a receiver in a directory, and says how far it is on disk.

What a server and a directory have in common decides where to go on: at the first connection
(``segment_directory.py`` looks into the files), after a lost one, at the end of a timeline, and
where WAL is missing in the middle. Writing itself is done by its ``WriteQueue``.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import trio

from walstream.errors import StoreError, WalDivergedError, WrongCluster
from walstream.segments.compression import NO_COMPRESSION, Compression
from walstream.store.batch import Batch
from walstream.store.file_layer import FileLayer
from walstream.store.segment_directory import SegmentDirectory, Survey
from walstream.store.start_plan import StartPlan, check_reached
from walstream.store.verifier import VerifyLevel, default_level
from walstream.store.wal_files import WalFiles
from walstream.store.write_queue import WriteQueue
from walstream.tasks.watermark import Watermark
from walstream.wal.layout import XLOG_BLCKSZ
from walstream.wal.model import WalChunk, format_lsn
from walstream.wal.timeline import (
    StartPoint,
    StoredWal,
    TimelineHistory,
    Upstream,
    WalHole,
    parse_history,
)

log = logging.getLogger("walstream.writer")


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
        allow_rewind: a dead branch is set aside and streaming goes on below what was flushed.
            False raises, for users that have consumed what is now void.
        system_id: the cluster that the directory must belong to; None: what its files say.
        file_mode: permissions of new files.
        flushed: the mark to use, where its owner shows it to others before there is a writer.
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
        allow_rewind: bool = True,
        system_id: int | None = None,
        files: FileLayer | None = None,
        file_mode: int = 0o600,
        flushed: Watermark | None = None,
    ) -> None:
        self.directory = directory
        # A synchronous standby waits for each flush: for it there is nothing to do meanwhile.
        completer = None
        if sync and not synchronous:
            completer = ThreadPoolExecutor(1, thread_name_prefix="walstream fsync")
        self.queue = WriteQueue(
            synchronous=synchronous, sync=sync, flushed=flushed, completer=completer
        )
        self.received = self.queue.received
        self.written = self.queue.written
        self.flushed = self.queue.flushed
        self.state = self.queue.state
        self._allow_rewind = allow_rewind
        self._segments = SegmentDirectory(
            directory,
            files or FileLayer(),
            start=start,
            system_id=system_id,
            verify=verify or default_level(),
            compression=compression,
            sync=sync,
            zero_fill=synchronous,
            file_mode=file_mode,
            completer=completer,
        )
        self._upstream: Upstream | None = None
        self._survey: Survey | None = None
        self._history: TimelineHistory | None = None
        self._holes: list[WalHole] = []

    # -- WAL

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Writes what is put until ``close``; then flushes, closes the file and returns.

        Raises:
            WalError, WrongCluster: the WAL is wrong; nothing of the batch it came in was written.
            StorageError: a system call failed, fsync among them; the directory is as it is after a
                crash, and a new writer can take it up.

        Cancellation: what the kernel has is flushed, the file is closed; what was queued is
        dropped: it was never reported.
        """
        await self.queue.run(task_status=task_status)

    def close(self) -> None:
        """Ends ``run`` after everything that was put is on disk.

        Where that waits for space, ``run`` raises ``NoSpace`` instead: what is not on disk was
        never reported as flushed.
        """
        self.queue.close()

    async def put(self, chunk: WalChunk) -> None:
        """Queues WAL; waits while the queue is full. Not a checkpoint while it has room.

        Raises:
            ConnectionLost: the disk is full for so long that the server is to be let go.

        Cancellation: the chunk was not taken.
        """
        await self.queue.put(chunk)

    def request_flush(self) -> None:
        """Asks for a flush of what was put, soon."""
        self.queue.request_flush()

    async def flush(self) -> None:
        """Returns when everything put before is on disk (without ``sync``: in the kernel).

        Raises:
            ConnectionLost: as ``put``.

        Cancellation: the flush that was asked for still happens.
        """
        await self.queue.flush()

    # -- a server

    async def held(self, upstream: Upstream) -> list[StoredWal]:
        """Returns the end of what is stored, newest piece first, to be compared with the server.

        To be called before ``begin``; no file is changed.

        Raises:
            WrongCluster, StoreError, ConnectionLost, ServerRefused, StorageError: as ``begin``.
            WalError: the newest complete segment is damaged.

        Cancellation: nothing was begun.
        """
        await self.queue.until_idle()
        files = self.queue.files
        if files is not None and await self._goes_on(files, upstream):
            timeline, end_lsn = files.timeline, files.written_lsn
        else:
            self._survey = await self.queue.in_thread(self._segments.survey, upstream)
            timeline, end_lsn = self._survey.plan.timeline, self._survey.end_lsn
        return await self.queue.in_thread(self._segments.tail, upstream, timeline, end_lsn)

    async def begin(self, upstream: Upstream) -> StartPoint:
        """Makes the directory ready for WAL from a server; returns where streaming is to go on.

        After the first time the open position is kept and only checked. Streaming goes on at a
        page's start, and what is sent again is compared.

        Raises:
            WrongCluster: the directory belongs to another cluster.
            StoreError: its segments have another size or version.
            ConnectionLost: the directory is ahead of the server, a standby.
            ServerRefused: the directory is ahead of the server, a primary.
            WalDivergedError: our timeline ended before what we hold, and ``allow_rewind`` is off.
            StorageError: a system call failed.

        Cancellation: nothing was begun.
        """
        await self.queue.until_idle()
        open_files = self.queue.files
        if open_files is not None:
            if await self._goes_on(open_files, upstream):
                assert self._upstream is not None
                self._upstream = self._upstream._replace(flush_lsn=upstream.flush_lsn)
                return StartPoint(open_files.timeline, self._resume_lsn(open_files))
            await self.queue.shut()
        previous = self.flushed.value
        survey, self._survey = self._survey, None
        if survey is None or survey.upstream is not upstream:
            survey = await self.queue.in_thread(self._segments.survey, upstream)
        plan = survey.plan
        if plan.start_lsn < previous - previous % upstream.segment_size:
            if not self._allow_rewind:
                raise WalDivergedError(
                    f"the server's timeline {upstream.timeline} left ours before "
                    f"{format_lsn(previous)}; what was read beyond that is void",
                    plan.start_lsn,
                )
            for mark in (self.received, self.written, self.flushed):
                mark.rewind(plan.start_lsn)
        files = await self.queue.in_thread_patiently(self._segments.take_up, survey)
        self._upstream = upstream
        self.queue.use(files)
        self.state.segment_size = upstream.segment_size
        self._report(plan)
        return StartPoint(plan.timeline, self._resume_lsn(files))

    async def missing_histories(self) -> list[int]:
        """Returns the timelines on the server's path whose history files are still to be kept.

        Cancellation: nothing happened.
        """
        assert self._upstream is not None
        return await self.queue.in_thread(self._segments.missing_histories, self._upstream)

    async def keep_history(self, timeline: int, history_text: bytes) -> None:
        """Keeps the history file of a timeline.

        Raises:
            WalError: it is malformed.
            WalDivergedError: another one is kept already.
            StorageError: a system call failed.

        Cancellation: it may have been written.
        """
        parse_history(timeline, history_text)
        await self.queue.in_thread_patiently(self._segments.keep_history, timeline, history_text)

    async def follow(self, timeline: int, switch_lsn: int, history_text: bytes) -> StartPoint:
        """Ends the timeline: keeps the new one's history file, then moves to its first segment.

        Raises:
            WalError: the history file is malformed or tells of another switch point.
            WalDivergedError: we hold WAL past the switch point.
            StorageError: a system call failed.

        Cancellation: the history file may have been written.
        """
        await self.queue.until_idle()
        files = self.queue.files
        assert files is not None
        assert self._upstream is not None
        history = parse_history(timeline, history_text)
        if files.next_lsn > switch_lsn:
            raise WalDivergedError(
                f"timeline {timeline} begins at {format_lsn(switch_lsn)}, timeline "
                f"{files.timeline} was received to {format_lsn(files.next_lsn)}",
                switch_lsn,
            )
        await self.queue.in_thread_patiently(self._end_timeline, files, timeline, history_text)
        size = self._upstream.segment_size
        self._upstream = self._upstream._replace(
            history=history, history_text=history_text, timeline=timeline
        )
        start_lsn = switch_lsn - switch_lsn % size
        upstream = self._upstream
        opened = await self.queue.in_thread_patiently(
            self._segments.open, upstream, timeline, start_lsn, None
        )
        self.queue.use(opened)
        return StartPoint(timeline, start_lsn)

    def _resume_lsn(self, files: WalFiles) -> int:
        """Returns what to ask for: the page that is gone on with, where it can be compared."""
        lsn = files.next_lsn
        return lsn - lsn % XLOG_BLCKSZ if files.comparable else lsn

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
        files = await self.queue.in_thread_patiently(
            self._segments.open, self._upstream, hole.timeline, hole.begin, None, None
        )

        try:
            async with chunks:
                async for chunk in chunks:
                    data = chunk.data[: max(0, hole.end - chunk.start_lsn)]
                    batch = Batch(files, [chunk._replace(data=data)])
                    await self.queue.in_thread_patiently(batch)
                    if files.written_lsn >= hole.end:
                        break
        finally:
            with trio.CancelScope(shield=True):
                await self.queue.in_thread(files.close)
        if files.written_lsn >= hole.end:
            log.info("WAL that was missing was sent again: %s", describe(hole))
            self._holes.remove(hole)
            self.state.holes = [describe(hole) for hole in self._holes]

    # -- positions

    async def _goes_on(self, files: WalFiles, upstream: Upstream) -> bool:
        """Returns whether the open files go on from a server; False: plan anew."""
        before = self._upstream
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
        await self.queue.in_thread(files.flush)
        self.queue.publish()
        part = upstream.history.part_of(files.timeline)
        if part is None or files.next_lsn > part.end or upstream.timeline < files.timeline:
            return False
        check_reached(upstream, files.timeline, files.next_lsn)
        return True

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

    def _end_timeline(self, files: WalFiles, timeline: int, content: bytes) -> None:
        self._segments.keep_history(timeline, content)
        files.flush()  # may be called again where it finds no space; close may not
        files.close()


def describe(hole: WalHole) -> str:
    """Returns a hole in words."""
    return f"{format_lsn(hole.begin)} to {format_lsn(hole.end)} on timeline {hole.timeline}"
