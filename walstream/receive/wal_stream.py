"""WAL over one connection: the reader and the status sender.

The reader waits for the socket to be readable and hands WAL to the sink; the status sender waits
for it to be writable and tells the server how far the sink is. So a slow disk stops the reader,
never the heartbeat. Where to start, and what comes after, is the receiver's business.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import trio

from walstream.errors import ConnectionLost, ServerRefused
from walstream.receive.relay import Relay
from walstream.receive.sink import WalSink
from walstream.replication.libpq import ReplicationConnection
from walstream.replication.messages import (
    UNIX_TO_PG_EPOCH_US,
    NextTimeline,
    PrimaryKeepAlive,
    XLogData,
    decode_copy_message,
    encode_status_update,
)
from walstream.replication.refusals import WAL_REMOVED
from walstream.tasks.bell import Bell
from walstream.tasks.supervise import single_error
from walstream.tasks.watermark import Watermark
from walstream.wal.model import WalChunk
from walstream.wal.timeline import WalHole

log = logging.getLogger("walstream.receiver")

# How long a reply that the server asked for waits for the disk before it goes out as it stands.
REPLY_GRACE_S = 0.1
FAREWELL_S = 2.0
# A flush that takes longer is no longer waited for before what arrives meanwhile is read.
STUCK_S = 0.2


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
        self._state = state
        self._options = options
        self._progressed = progressed
        self._bell = Bell()
        self._relay: Relay | None = None
        self._reply_wanted = False
        self._blocked = False
        self._told = -1
        self._last_message = 0.0
        self._wait_scope: trio.CancelScope | None = None

    async def refetch(self, hole: WalHole) -> None:  # noqa: ASYNC910
        """Asks for WAL that is missing from the middle; without our slot, which is past it.

        The connection is good for the next command afterwards, also when the server has it no
        more.
        """
        self._state.phase = "filling a hole"
        try:
            if (
                await self._connection.start_replication(None, hole.begin, hole.timeline)
                is not None
            ):
                return
            sender, receiver = trio.open_memory_channel[WalChunk](4)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._sink.fill, hole, receiver)
                with contextlib.suppress(trio.BrokenResourceError):  # filled
                    async with sender:
                        await self._send_hole(sender, hole.end)
            if self._connection.copy_ended:
                await self._connection.finish_copy()
            else:
                await self._connection.stop_copy()
        except ServerRefused as exc:
            if exc.sqlstate != WAL_REMOVED:
                raise
            log.warning("the server does not have it any more: %s", exc)
        except ExceptionGroup as group:
            raise single_error(group, (ConnectionLost,)) from group

    async def _send_hole(  # noqa: ASYNC910
        self,
        sender: trio.MemorySendChannel[WalChunk],
        end_lsn: int,
    ) -> None:
        lsn = 0
        while lsn < end_lsn and not self._connection.copy_ended:
            message = self._connection.poll_copy()
            if message is None:
                if not self._connection.copy_ended:
                    await self._connection.expect_input("refetch")
                continue
            decoded = decode_copy_message(message)
            if isinstance(decoded, PrimaryKeepAlive):
                if decoded.reply_requested:
                    await self._send_status()
                continue
            start_lsn, server_end_lsn, sent, data = decoded
            lsn = start_lsn + len(data)
            await sender.send(WalChunk(start_lsn, data, server_end_lsn, sent))

    async def run(self) -> NextTimeline | None:
        self._last_message = time.monotonic()
        self._reply_wanted = False
        self._told = -1
        self._sink.flushed.listeners.append(self._bell.ring)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send_statuses)
                await self._read()
                nursery.cancel_scope.cancel()
        except ExceptionGroup as group:
            raise single_error(group, (ConnectionLost,)) from group
        except trio.Cancelled:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + FAREWELL_S):
                await self._farewell()
            raise
        finally:
            self._sink.flushed.listeners.remove(self._bell.ring)
        if self.finished:
            await self._farewell()
            return None
        return await self._connection.finish_copy()

    async def _farewell(self) -> None:  # noqa: ASYNC910
        """Tells the server what is on disk and that we stop; a lost connection is no matter."""
        try:
            await self._sink.flush()
            await self._send_status()
            await self._connection.stop_copy()
        except ConnectionLost as exc:
            log.info("%s", exc)

    async def _read(self) -> None:
        """Reads CopyData until COPY is over or ``end_lsn`` is reached."""
        poll = self._connection.poll_copy
        put = self._sink.put
        taken = False
        fresh = True
        while True:
            message = poll()
            if message is None:
                if self._connection.copy_ended:
                    return  # noqa: ASYNC910
                # The socket is asked before it is waited for: while WAL pours in, that saves a
                # trip through the event loop for every message. The checkpoint is put's.
                if taken:
                    taken = False
                    if not self._sink.lends or not await self._read_directly():
                        await self._wait_input()
                    elif self.finished or self._connection.copy_ended:
                        return
                else:
                    taken = True
                    self._connection.take_input()
                continue
            taken = False
            decoded = decode_copy_message(message)
            self._hear(decoded)
            if isinstance(decoded, PrimaryKeepAlive):
                if decoded.reply_requested:
                    self._reply_wanted = True
                    self._bell.ring()
                await trio.lowlevel.checkpoint()
                continue
            start_lsn, end_lsn, sent, data = decoded
            self._blocked = True
            await put(WalChunk(start_lsn, data, end_lsn, sent))
            self._blocked = False
            if fresh and len(data):
                fresh = False
                self._progressed()
            if self.at_end(start_lsn + len(data)):
                self.finished = True
                return

    async def _read_directly(self) -> bool:
        """Lets a relay read for as long as that goes well; returns False where it could not begin.

        Cancellation: the connection is ours again; the relay may still be in a flush.
        """
        with trio.move_on_after(STUCK_S):
            await self._sink.flush()

        def status(written_lsn: int, flushed_lsn: int) -> bytes:
            self._told = flushed_lsn
            return self._status(written_lsn, flushed_lsn)

        relay = Relay(
            self._connection,
            status=status,
            report_flush=self._options.report_flush,
            heard=self._hear,
            publish=self._sink.publish_lent,
            end_lsn=self._options.end_lsn,
        )
        if not self._sink.lend(relay):
            relay.ended()
            return False
        self._relay = relay
        try:
            while not relay.over.is_set():
                with trio.move_on_after(STUCK_S):
                    await relay.over.wait()
                since = relay.in_files_since
                if since and time.monotonic() - since > STUCK_S:
                    log.info("a flush takes long: reading on meanwhile")
                    relay.recall()
        finally:
            relay.recall()
            self._sink.publish_lent()
            self._relay = None
        self._progressed()
        if relay.error is not None:
            raise relay.error
        if relay.unsent:
            self._told = -1
            self._bell.ring()
        self.finished = self.at_end(self._sink.received.value)
        return True

    def _hear(self, message: XLogData | PrimaryKeepAlive) -> None:
        """Notes what every message tells. Also called in a relay's thread."""
        state = self._state
        state.server_end_lsn = message.server_end_lsn
        state.server_time = (message.send_time_us + UNIX_TO_PG_EPOCH_US) / 1e6
        self._last_message = time.monotonic()

    async def _wait_input(self) -> None:
        if not self._connection.uses_tls:
            await self._connection.wait_input()
            return
        # TLS may hold decrypted bytes while the socket is quiet: the timer looks after them.
        with trio.CancelScope() as self._wait_scope:
            await self._connection.wait_input()
        self._wait_scope = None

    async def _send_statuses(self) -> None:
        """Sends status updates: by the clock, when asked, and when ``flushed`` moved."""
        infinity = float("inf")
        timeout_s, interval_s = self._options.receive_timeout_s, self._options.status_interval_s
        next_status = trio.current_time()
        pinged_at = 0.0
        while True:
            due = next_status if interval_s else infinity
            if timeout_s:
                pinged = pinged_at > self._last_message
                left_s = timeout_s / (1 if pinged else 2) - self._silent_s()
                due = min(due, trio.current_time() + left_s)
            with trio.move_on_at(due):
                await self._bell.wait()
            now = trio.current_time()
            relay = self._relay
            if self._blocked or (relay is not None and relay.in_files_since):
                self._last_message = time.monotonic()  # the disk keeps us, not the server
            silent_s = self._silent_s()
            if timeout_s and silent_s >= timeout_s:
                raise ConnectionLost(f"no message from the server for {timeout_s:g} s")
            pinged = pinged_at > self._last_message
            ping = bool(timeout_s) and silent_s >= timeout_s / 2 and not pinged
            flushed_moved = self._sink.flushed.value > self._told
            timer = bool(interval_s) and now >= next_status
            if self._reply_wanted:
                self._reply_wanted = False
                with trio.move_on_after(REPLY_GRACE_S):
                    await self._sink.flush()
            elif timer:
                self._sink.request_flush()
            elif not ping and not (self._options.report_flush and flushed_moved):
                continue
            if ping:  # noted before it is sent: the answer may be heard before that returns
                pinged_at = time.monotonic()
            await self._send_status(reply_requested=ping)
            next_status = trio.current_time() + interval_s
            if self._connection.uses_tls and self._wait_scope is not None:
                self._wait_scope.cancel()

    def _silent_s(self) -> float:
        return time.monotonic() - self._last_message

    async def _send_status(self, *, reply_requested: bool = False) -> None:
        def make() -> bytes:
            self._sink.publish_lent()
            self._told = flushed = self._sink.flushed.value
            return self._status(self._sink.written.value, flushed, reply_requested)

        await self._connection.send_newest(make)

    def _status(self, written_lsn: int, flushed_lsn: int, reply_requested: bool = False) -> bytes:
        if self._options.slot is not None and self._options.report_flush and flushed_lsn:
            # The server moves a physical slot to the flush position that it is told, and nobody
            # else does: no need to ask it.
            self._state.slot_restart_lsn = flushed_lsn
        return encode_status_update(
            written_lsn,
            flushed_lsn if self._options.report_flush else 0,
            self._options.applied.value if self._options.applied is not None else 0,
            int(time.time() * 1e6) - UNIX_TO_PG_EPOCH_US,
            reply_requested,
        )

    def at_end(self, lsn: int) -> bool:
        """Whether ``end_lsn`` was given and reached."""
        return self._options.end_lsn is not None and lsn >= self._options.end_lsn
