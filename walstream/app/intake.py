"""WAL comes in: a receiver, the writer behind it, and what is told of them meanwhile.

``receive`` is this; ``run`` has an index behind it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import trio
from trio_util import AsyncValue, periodic

from walstream.config import ReceiveConfig, RunConfig
from walstream.errors import ConnectionLost
from walstream.receive.receiver import Receiver
from walstream.status.monitor import Monitor
from walstream.status.report import Reporter
from walstream.store.writer import Writer
from walstream.tasks.supervise import single_error
from walstream.tasks.watermark import Watermark
from walstream.terminal import StatusLine
from walstream.wal.model import format_lsn

if TYPE_CHECKING:
    from walstream.redo.manager import RedoManager  # what only receives starts without it


class Started(trio.TaskStatus[None]):
    """Sets an event when a task has started."""

    def __init__(self, event: trio.Event) -> None:
        self._event = event

    def started(self, value: None = None) -> None:
        self._event.set()


class Intake:
    """One server into one directory.

    Args:
        config: which server, and how.
        writer: keeps the WAL.
        report_flush: see ``Receiver``.
        end_lsn: see ``Receiver``.
        flush_interval_s: how long WAL that has arrived waits for the disk; None: as long as it may.
    """

    def __init__(
        self,
        config: RunConfig | ReceiveConfig,
        writer: Writer,
        *,
        report_flush: bool | None = None,
        end_lsn: int | None = None,
        flush_interval_s: float | None = None,
    ) -> None:
        self.conninfo = AsyncValue(config.conninfo)
        self.writer = writer
        self.receiver = Receiver(
            self.conninfo,
            writer,
            slot=config.slot,
            status_interval_s=config.status_interval_s,
            receive_timeout_s=config.receive_timeout_s,
            report_flush=report_flush,
            end_lsn=end_lsn,
            loop=config.loop,
        )
        self._flush_interval_s = flush_interval_s

    def stop(self) -> None:
        """Stops receiving; ``run`` returns when what was received is on disk."""
        self.receiver.stop()

    def waiting_for(self) -> str:
        """Returns what a stop waits for, in words."""
        received, flushed = self.writer.received.value, self.writer.flushed.value
        if flushed >= received:
            return f"all WAL that was received is on disk, up to {format_lsn(flushed)}"
        return (
            f"WAL was received up to {format_lsn(received)}, and is on disk up to "
            f"{format_lsn(flushed)}"
        )

    async def run(self, streaming: trio.Event | None = None) -> None:
        """Receives until ``stop``, the end, or an error that a new connection does not cure.

        ``streaming`` is set when the first session streams.

        Raises:
            WalstreamError: see ``Receiver.run`` and ``Writer.run``; the one that tells why.

        Cancellation: what the kernel has is flushed.
        """
        try:
            async with trio.open_nursery() as writing:
                await writing.start(self.writer.run)
                async with trio.open_nursery() as receiving:
                    if self._flush_interval_s is not None:
                        receiving.start_soon(self._flush_regularly, self._flush_interval_s)
                    await self.receiver.run(
                        task_status=Started(trio.Event() if streaming is None else streaming)
                    )
                    receiving.cancel_scope.cancel()
                self.writer.close()
        except BaseExceptionGroup as group:
            raise single_error(group, (ConnectionLost,)) from group

    async def _flush_regularly(self, interval_s: float) -> None:
        async for _ in periodic(interval_s):
            self.writer.request_flush()

    def monitor(
        self, ingested: Watermark | None = None, redo: RedoManager | None = None
    ) -> Monitor:
        """Returns what takes snapshots of this, and of the index behind it."""
        return Monitor(self.receiver, self.writer, ingested, redo)


async def report(monitor: Monitor, status_path: Path | None, terminal: bool) -> None:
    """Keeps the status file up to date, and a line on a terminal.

    Cancellation: see ``Reporter.run``.
    """
    with StatusLine(terminal) as line:
        await Reporter(monitor, status_path, line).run()
