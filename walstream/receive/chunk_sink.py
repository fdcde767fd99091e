"""A sink of the caller's own: WAL goes to a coroutine, chunk by chunk, and nothing is kept.

What the coroutine has returned from counts as flushed. Whoever keeps WAL durably under kill -9 and
a full disk wants ``walstream.store.writer``; this is for programs that do something else with it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from walstream.errors import WalDivergedError, WrongCluster
from walstream.receive.sink import WalSink
from walstream.tasks.watermark import Watermark
from walstream.wal.model import WalChunk, format_lsn
from walstream.wal.timeline import StartPoint, StoredWal, Upstream, WalHole


class ChunkSink(WalSink):
    """Gives WAL to ``take``, in order and without gaps or repetitions, over all reconnections.

    Args:
        take: called with each chunk; the next comes when it has returned. Its memory is valid until
            then. An error of it ends the receiver.
        start_lsn: where to begin; None: where the server's WAL ends. On the timeline that has it
            in the server's history.
    """

    def __init__(
        self, take: Callable[[WalChunk], Awaitable[None]], start_lsn: int | None = None
    ) -> None:
        self.received = Watermark()
        self.written = Watermark()
        self.flushed = Watermark()
        self._take = take
        self._start_lsn = start_lsn
        self._system_id: int | None = None
        self._at: StartPoint | None = None

    async def held(self, upstream: Upstream) -> list[StoredWal]:
        """Returns nothing: what was taken is the caller's, and cannot be asked for.

        Cancellation: none; not a checkpoint.
        """
        return []

    async def begin(self, upstream: Upstream) -> StartPoint:
        """Returns where to go on.

        Raises:
            WrongCluster: the server is not of the cluster that WAL came from so far.
            WalDivergedError: the server's history left ours before what was taken.

        Cancellation: none; not a checkpoint.
        """
        if self._system_id not in (None, upstream.system_id):
            raise WrongCluster(
                f"system identifier: expected {self._system_id}, got {upstream.system_id}"
            )
        self._system_id = upstream.system_id
        if self._at is None:
            lsn = upstream.flush_lsn if self._start_lsn is None else self._start_lsn
            self._at = StartPoint(upstream.history.part_at(lsn).timeline, lsn)
            for mark in (self.received, self.written, self.flushed):
                mark.advance(lsn)
        part = upstream.history.part_of(self._at.timeline)
        if part is None or part.end < self._at.start_lsn:
            left = "is not on its path" if part is None else f"ends at {format_lsn(part.end)}"
            raise WalDivergedError(
                f"WAL was taken up to {format_lsn(self._at.start_lsn)} on timeline "
                f"{self._at.timeline}; in the server's history that timeline {left}",
                self._at.start_lsn,
            )
        return self._at

    async def missing_histories(self) -> list[int]:
        """Returns none: history files are not kept.

        Cancellation: none; not a checkpoint.
        """
        return []

    async def keep_history(self, timeline: int, history_text: bytes) -> None:
        """Keeps nothing.

        Cancellation: none; not a checkpoint.
        """

    def holes(self) -> list[WalHole]:
        """Returns none."""
        return []

    async def fill(self, hole: WalHole, chunks: trio.MemoryReceiveChannel[WalChunk]) -> None:
        """Is never asked: there are no holes.

        Cancellation: none; not a checkpoint.
        """
        raise AssertionError(hole)

    async def follow(self, timeline: int, switch_lsn: int, history_text: bytes) -> StartPoint:
        """Goes over to the next timeline, where WAL goes on at ``switch_lsn``.

        Cancellation: none; not a checkpoint.
        """
        assert self._at is not None
        self._at = StartPoint(timeline, self._at.start_lsn)
        return self._at

    async def put(self, chunk: WalChunk) -> None:
        """Gives a chunk to the caller.

        Cancellation: whether the caller took it is the caller's affair; it counts as not taken.
        """
        await self._take(chunk)
        assert self._at is not None
        end_lsn = chunk.start_lsn + len(chunk.data)
        self._at = self._at._replace(start_lsn=end_lsn)
        for mark in (self.received, self.written, self.flushed):
            mark.advance(end_lsn)

    async def flush(self) -> None:
        """Returns at once: what was put was taken.

        Cancellation: nothing happened.
        """
        await trio.lowlevel.checkpoint()

    def request_flush(self) -> None:
        """Does nothing, as ``flush``."""
