"""WAL over one connection: the reader and the status sender.

The reader waits for the socket to be readable and hands WAL to the sink; the status sender waits
for it to be writable and tells the server how far the sink is. So a slow disk stops the reader,
never the heartbeat. Where to start, and what comes after, is the receiver's business.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass

import trio

from walstream.errors import ConnectionLost, ServerRefused
from walstream.receive.sink import WalSink
from walstream.receive.synchronous_standby import SynchronousStandby
from walstream.replication.copy_stream import CopyStream
from walstream.replication.libpq import ReplicationConnection
from walstream.replication.messages import (
    NextTimeline,
    PrimaryKeepAlive,
    XLogData,
    decode_copy_message,
)
from walstream.replication.refusals import WAL_REMOVED
from walstream.replication.status import Report, StatusSender
from walstream.store.writer import Writer
from walstream.tasks.supervise import single_error
from walstream.tasks.watermark import Watermark
from walstream.wal.model import POSTGRES_EPOCH_US, WalChunk
from walstream.wal.timeline import WalHole

log = logging.getLogger("walstream.receiver")

FAREWELL_S = 2.0


@dataclass(slots=True)
class ReceiverState:
    """What an operator wants to know of the connection. Times are ``time.time()``."""

    phase: str = "not started"
    host: str = ""
    timeline: int = 0
    server_end_lsn: int = 0
    server_time: float = 0.0
    last_message_at: float = 0.0
    sessions: int = 0
    slot: str | None = None
    slot_restart_lsn: int = 0
    """Where the WAL begins that the server keeps for our slot; 0: not known (or no slot)."""
    last_error: str = ""
    last_error_at: float = 0.0


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """As the arguments of ``Receiver``."""

    slot: str | None
    status_interval_s: float
    receive_timeout_s: float
    report_flush: bool
    applied: Watermark | None
    end_lsn: int | None


class WalStream:
    """Receives into ``sink`` over ``connection``; ``run`` once for each timeline.

    Args:
        state: what there is to tell is told there.
        progressed: called when WAL arrived.
    """

    def __init__(
        self,
        connection: ReplicationConnection,
        sink: WalSink,
        state: ReceiverState,
        options: StreamOptions,
        progressed: Callable[[], None],
    ) -> None:
        self.finished = False
        """``end_lsn`` was reached."""
        self._connection = connection
        self._sink = sink
        self._queue = sink.queue if isinstance(sink, Writer) else None
        self._state = state
        self._options = options
        self._progressed = progressed
        self._waits_for_sink = False
        self._standby: SynchronousStandby | None = None
        self._status = StatusSender(
            connection,
            self._report,
            interval_s=options.status_interval_s,
            timeout_s=options.receive_timeout_s,
            local=self,
        )

    # -- what the status sender asks

    @property
    def keeps_reader(self) -> bool:
        """Whether nothing is read because the disk keeps us."""
        standby = self._standby
        return self._waits_for_sink or (standby is not None and standby.in_files_since > 0)

    def request_flush(self) -> None:
        self._sink.request_flush()

    async def flush(self) -> None:
        """Returns when what was received is on disk. Cancellation: the flush may still happen."""
        await self._sink.flush()

    def _report(self) -> Report:
        if self._queue is not None:
            self._queue.publish()
        return self._told(self._sink.written.value, self._sink.flushed.value)

    def _told(self, written_lsn: int, flushed_lsn: int) -> Report:
        """Returns what is told of these positions. Also called in the standby's thread."""
        options = self._options
        if options.slot is not None and options.report_flush and flushed_lsn:
            # The server moves a physical slot to the flush position that it is told, and nobody
            # else does: no need to ask it.
            self._state.slot_restart_lsn = flushed_lsn
        return Report(
            written_lsn,
            flushed_lsn if options.report_flush else 0,
            options.applied.value if options.applied is not None else 0,
        )

    # -- WAL that is missing

    async def refetch(self, hole: WalHole) -> None:  # noqa: ASYNC910
        """Asks for WAL that is missing from the middle; without our slot, which is past it.

        The connection is good for the next command afterwards, also when the server has it no
        more.

        Raises:
            ConnectionLost, ServerRefused: the server's side failed.
            WalError, StorageError: the sink's side failed.

        Cancellation: the connection is left in the middle of a command; close it.
        """
        self._state.phase = "filling a hole"
        begin, timeline = hole.begin, hole.timeline
        try:
            if await self._connection.start_replication(None, begin, timeline) is not None:
                return
            copy = CopyStream(self._connection, "refetch")
            sender, receiver = trio.open_memory_channel[WalChunk](4)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._sink.fill, hole, receiver)
                with contextlib.suppress(trio.BrokenResourceError):  # filled
                    async with sender:
                        await self._send_hole(copy, sender, hole.end)
            await copy.close()
        except ServerRefused as exc:
            if exc.sqlstate != WAL_REMOVED:
                raise
            log.warning("the server does not have it any more: %s", exc)
        except ExceptionGroup as group:
            raise single_error(group, (ConnectionLost,)) from group

    async def _send_hole(  # noqa: ASYNC910
        self, copy: CopyStream, sender: trio.MemorySendChannel[WalChunk], end_lsn: int
    ) -> None:
        lsn = 0
        while lsn < end_lsn and (sent := await copy.next_wal(self._status)) is not None:
            lsn = sent.start_lsn + len(sent.data)
            await sender.send(
                WalChunk(sent.start_lsn, sent.data, sent.server_end_lsn, sent.send_time_us)
            )

    # -- WAL as it comes

    async def run(self) -> NextTimeline | None:
        """Receives until COPY is over or ``end_lsn`` is reached; returns the next timeline, if any.

        Raises:
            ConnectionLost, ServerRefused, ReplicationProtocolError: the server's side failed.

        Cancellation: the server is told what is flushed and that we stop.
        """
        copy = CopyStream(self._connection, watched=True)
        if self._queue is not None:
            self._standby = SynchronousStandby(
                copy,
                self._queue,
                self._status,
                report=self._told,
                tells_flush=self._options.report_flush,
                heard=self._hear,
                end_lsn=self._options.end_lsn,
            )
        self._sink.flushed.listeners.append(self._status.wake)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._status.run)
                await self._read(copy)
                nursery.cancel_scope.cancel()
        except ExceptionGroup as group:
            raise single_error(group, (ConnectionLost,)) from group
        except trio.Cancelled:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + FAREWELL_S):
                await self._farewell(copy)
            raise
        finally:
            self._sink.flushed.listeners.remove(self._status.wake)
        if self.finished:
            await self._farewell(copy)
            return None
        return await copy.finish()

    async def _farewell(self, copy: CopyStream) -> None:  # noqa: ASYNC910
        """Tells the server what is on disk and that we stop; a lost connection is no matter."""
        try:
            await self._sink.flush()
            await self._status.send()
            await copy.stop()
        except ConnectionLost as exc:
            log.info("%s", exc)

    async def _read(self, copy: CopyStream) -> None:
        """Reads until COPY is over or ``end_lsn`` is reached."""
        fresh = True
        while True:
            await copy.give_way()
            message = copy.poll()
            if message is None:
                if copy.ended:
                    return
                if self._standby is None or not await self._standby.run():
                    await copy.wait()
                else:
                    self._progressed()
                    if self.at_end(self._sink.received.value):
                        self.finished = True
                        return
                continue
            decoded = decode_copy_message(message)
            self._hear(decoded)
            if isinstance(decoded, PrimaryKeepAlive):
                if decoded.reply_requested:
                    self._status.ask()
                continue
            start_lsn, end_lsn, sent, data = decoded
            self._waits_for_sink = True
            await self._sink.put(WalChunk(start_lsn, data, end_lsn, sent))
            self._waits_for_sink = False
            if fresh and len(data):
                fresh = False
                self._progressed()
            if self.at_end(start_lsn + len(data)):
                self.finished = True
                return

    def _hear(self, message: XLogData | PrimaryKeepAlive) -> None:
        """Notes what every message tells. Also called in the standby's thread."""
        state = self._state
        state.server_end_lsn = message.server_end_lsn
        state.server_time = (message.send_time_us + POSTGRES_EPOCH_US) / 1e6
        self._status.heard()

    def at_end(self, lsn: int) -> bool:
        """Whether ``end_lsn`` was given and reached."""
        return self._options.end_lsn is not None and lsn >= self._options.end_lsn
