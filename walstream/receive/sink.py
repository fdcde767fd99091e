"""What the receiver gives WAL to, as the receiver sees it; ``walstream.store`` has one."""

from __future__ import annotations

from typing import Protocol

import trio

from walstream.tasks.watermark import Watermark
from walstream.wal.model import WalChunk
from walstream.wal.timeline import StartPoint, StoredWal, Upstream, WalHole


class WalSink(Protocol):
    """What the receiver gives WAL to. ``Writer`` of ``walstream.store`` is one.

    ``received`` is the end of what was put, ``written`` of what the kernel has, ``flushed`` of
    what is on disk.
    """

    received: Watermark
    written: Watermark
    flushed: Watermark

    async def held(self, upstream: Upstream) -> list[StoredWal]:
        """Returns the end of what is held, to be compared with the server before ``begin``.

        Cancellation: nothing was begun.
        """

    async def begin(self, upstream: Upstream) -> StartPoint:
        """Makes ready for WAL from the server; returns where to go on.

        Cancellation: nothing was begun.
        """

    async def missing_histories(self) -> list[int]:
        """Returns the timelines on the server's path whose history files are wanted.

        Cancellation: nothing happened.
        """

    async def keep_history(self, timeline: int, history_text: bytes) -> None:
        """Keeps a history file.

        Cancellation: it may have been kept.
        """

    def holes(self) -> list[WalHole]:
        """Returns what is missing before the start, for the server to send again."""

    async def fill(self, hole: WalHole, chunks: trio.MemoryReceiveChannel[WalChunk]) -> None:
        """Takes the WAL of a hole, until it is filled or ``chunks`` ends.

        Cancellation: what was taken may be kept.
        """

    async def follow(self, timeline: int, switch_lsn: int, history_text: bytes) -> StartPoint:
        """Keeps the history file, ends the timeline; returns where the next one begins.

        Cancellation: the history file may have been kept.
        """

    async def put(self, chunk: WalChunk) -> None:
        """Takes WAL in order; waits while there is no room.

        Cancellation: the chunk was not taken.
        """

    async def flush(self) -> None:
        """Returns when everything put before is on disk.

        Cancellation: the flush may still happen.
        """

    def request_flush(self) -> None:
        """Asks for a flush soon, without waiting."""
