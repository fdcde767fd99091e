"""The receiver: one replication session after another, from a server into a sink.

A session is a nursery with two tasks: the reader waits for the socket to be readable and hands
WAL to the sink, the status sender waits for it to be writable and tells the server how far the
sink is. So a slow disk stops the reader, never the heartbeat. What is done with WAL is the sink's
business (``store/writer.py`` is one); the receiver knows no files.

Mirrors ReceiveXlogStream of receivelog.c and WalReceiverMain of walreceiver.c.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import trio
from trio_util import AsyncValue

from walstream.errors import ConnectionLost, ReplicationProtocolError, ServerRefused
from walstream.replication.libpq import ReplicationConnection, connect
from walstream.replication.messages import (
    UNIX_TO_PG_EPOCH_US,
    NextTimeline,
    PrimaryKeepAlive,
    XLogData,
    decode_copy_message,
    encode_status_update,
)
from walstream.replication.relay import Relay
from walstream.tasks.bell import Bell
from walstream.tasks.supervise import Backoff, keep_running, single_error
from walstream.tasks.watermark import Watermark
from walstream.wal.model import WalChunk, format_lsn
from walstream.wal.segment import is_valid_segment_size
from walstream.wal.timeline import (
    StartPoint,
    TimelineHistory,
    TimelinePart,
    Upstream,
    WalHole,
    parse_history,
)

log = logging.getLogger("walstream.receiver")

# How long a reply that the server asked for waits for the disk before it goes out as it stands.
REPLY_GRACE_S = 0.1
FAREWELL_S = 2.0
# A flush that takes longer is no longer waited for before what arrives meanwhile is read.
STUCK_S = 0.2

WAL_REMOVED = "58P01"


class WalSink(Protocol):
    """What the receiver gives WAL to. ``Writer`` of ``walstream.store`` is one.

    ``received`` is the end of what was put, ``written`` of what the kernel has, ``flushed`` of
    what is on disk.
    """

    received: Watermark
    written: Watermark
    flushed: Watermark

    async def begin(self, upstream: Upstream) -> StartPoint:
        """Compares what is held with the server; returns where to go on."""

    def holes(self) -> list[WalHole]:
        """Returns what is missing before the start, for the server to send again."""

    async def fill(self, hole: WalHole, chunks: trio.MemoryReceiveChannel[WalChunk]) -> None:
        """Takes the WAL of a hole, until it is filled or ``chunks`` ends."""

    async def follow(self, timeline: int, switch_lsn: int, history_text: str) -> StartPoint:
        """Keeps the history file, ends the timeline; returns where the next one begins."""

    async def put(self, chunk: WalChunk) -> None:
        """Takes WAL in order; waits while there is no room."""

    async def flush(self) -> None:
        """Returns when everything put before is on disk."""

    def request_flush(self) -> None:
        """Asks for a flush soon, without waiting."""

    @property
    def lends(self) -> bool:
        """Whether ``lend`` is worth a try."""

    def lend(self, borrower: Relay) -> bool:
        """Runs a relay with the open files in a thread of the sink's own; False: not now.

        While it runs nothing is put, until it was recalled; ``ended`` is called after it.
        """

    def publish_lent(self) -> None:
        """Moves the marks to where a relay is."""


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


class Receiver:
    """Streams from the server that ``conninfo`` names into ``sink``, session after session.

    A change of ``conninfo`` ends the session in good order and starts one with the new value.

    Args:
        conninfo: libpq connection string; several hosts are tried in order.
        sink: takes the WAL.
        slot: a physical slot that exists.
        status_interval_s: time between status updates; 0 sends only those that are asked for.
        receive_timeout_s: a server silent for that long is left; at half of it, it is pinged.
            0 waits for ever.
        report_flush: tell the server the flushed LSN. A flushed LSN makes us a candidate for
            synchronous_standby_names and moves the slot. Default: when there is a slot.
        applied: what to report as applied; None reports nothing.
        end_lsn: stop when WAL up to there is on disk.
        loop: try again after a lost connection.
    """

    def __init__(
        self,
        conninfo: AsyncValue[str],
        sink: WalSink,
        *,
        slot: str | None = None,
        status_interval_s: float = 10.0,
        receive_timeout_s: float = 60.0,
        connect_timeout_s: float = 10.0,
        report_flush: bool | None = None,
        applied: Watermark | None = None,
        end_lsn: int | None = None,
        loop: bool = True,
        application_name: str = "walstream",
        backoff: Backoff | None = None,
        on_connected: Callable[[Upstream, ReplicationConnection], None] | None = None,
    ) -> None:
        self.state = ReceiverState(slot=slot)
        self.disconnected = trio.Event()
        """Set while there is no session; a new one puts a new event here."""
        self.disconnected.set()
        self._conninfo = conninfo
        self._sink = sink
        self._slot = slot
        self._interval_s = status_interval_s
        self._timeout_s = receive_timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._report_flush = slot is not None if report_flush is None else report_flush
        self._applied = applied
        self._end_lsn = end_lsn
        self._loop = loop
        self._application_name = application_name
        self._backoff = backoff or Backoff()
        self._on_connected = on_connected
        self._bell = Bell()
        self._reply_wanted = False
        self._finished = False
        self._stopping = False
        self._blocked = False
        self._relay: Relay | None = None
        self._told = -1
        self._last_message = 0.0
        self._session_scope: trio.CancelScope | None = None
        self._wait_scope: trio.CancelScope | None = None
        self._wake = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:  # noqa: ASYNC128
        """Receives until ``stop``, ``end_lsn``, or an error that a new connection does not cure.

        ``task_status`` is reported when the first session streams.

        Raises:
            ServerRefused, ProtocolError, WalError, StoreError, StorageError; ConnectionLost with
            ``loop`` off.

        Cancellation: the server is told what is flushed and that we stop; the socket is closed.
        """
        self._task_status: trio.TaskStatus[None] | None = task_status
        try:
            await keep_running(
                self._attempt,
                restart_on=(ConnectionLost,) if self._loop else (),
                backoff=self._backoff,
                on_end=self._note_end,
                done=lambda: self._finished or self._stopping,
                sleep=self._sleep,
            )
        except (ConnectionLost, ServerRefused) as exc:
            self._note_error(exc)
            if isinstance(exc, ServerRefused) and exc.sqlstate == WAL_REMOVED:
                raise self._gap(exc) from exc
            raise
        finally:
            self.state.phase = "stopped"
            self.disconnected.set()

    def _gap(self, error: ServerRefused) -> ServerRefused:
        """Returns the error for WAL that the server has removed, with the range that is missing."""
        begin = format_lsn(self._sink.received.value)
        restart = self.state.slot_restart_lsn
        end = f"at least {format_lsn(restart)}" if restart else "an unknown LSN"
        return ServerRefused(
            f"WAL is missing from {begin} to {end} on timeline {self.state.timeline}: {error}; an "
            "archive may have it (put it in with walstream archive-push), else begin anew with a "
            "base backup",
            error.sqlstate,
        )

    def stop(self) -> None:
        """Ends the session in good order; ``run`` then returns. Safe to call at any time."""
        self._stopping = True
        self._end_session()

    def reconnect(self) -> None:
        """Ends the session in good order; the next one reads service and password files anew."""
        self._backoff.reset()
        self._end_session()

    def _end_session(self) -> None:
        self._wake.set()
        if self._session_scope is not None:
            self._session_scope.cancel()

    async def _sleep(self, delay_s: float) -> None:
        self._wake = trio.Event()
        with trio.move_on_after(delay_s):
            await self._wake.wait()

    def _note_error(self, error: Exception) -> None:
        self.state.last_error = str(error)
        self.state.last_error_at = time.time()

    def _note_end(self, error: Exception | None, delay_s: float) -> None:
        self.state.phase = "waiting to reconnect"
        self.disconnected.set()
        if error is None:
            log.info("session ended; the next one begins in %.1f s", delay_s)
            return
        self._note_error(error)
        log.warning("%s; trying again in %.1f s", error, delay_s)

    # -- one session

    async def _attempt(self) -> None:
        try:
            async with trio.open_nursery() as nursery:
                self._session_scope = nursery.cancel_scope
                nursery.start_soon(self._watch_conninfo, self._conninfo.value)
                await self._session(self._conninfo.value)
                nursery.cancel_scope.cancel()
        except ExceptionGroup as group:
            raise single_error(group, (ConnectionLost,)) from group
        finally:
            self._session_scope = None

    async def _watch_conninfo(self, used: str) -> None:
        await self._conninfo.wait_value(lambda value: value != used)
        log.info("connection string changed")
        self._backoff.reset()
        self._end_session()

    async def _session(self, conninfo: str) -> None:
        self.state.phase = "connecting"
        connection = await connect(
            conninfo,
            application_name=self._application_name,
            connect_timeout_s=self._connect_timeout_s,
        )
        with connection:
            upstream = await read_upstream(connection, self._slot)
            self.disconnected = trio.Event()
            self.state.host = connection.name
            self.state.sessions += 1
            self.state.server_end_lsn = upstream.flush_lsn
            self.state.slot_restart_lsn = upstream.slot_restart_lsn
            if self._on_connected is not None:
                self._on_connected(upstream, connection)
            start = await self._sink.begin(upstream)
            for hole in self._sink.holes():
                await self._refetch(connection, hole)
            restart = upstream.slot_restart_lsn
            if restart - restart % upstream.segment_size > start.start_lsn:
                log.warning(
                    "slot %s begins at %s, we go on at %s: the server may have removed the WAL "
                    "between",
                    self._slot,
                    format_lsn(upstream.slot_restart_lsn),
                    format_lsn(start.start_lsn),
                )
            while not self._at_end(start.start_lsn):
                self.state.timeline = start.timeline
                successor = await connection.start_replication(
                    self._slot, start.start_lsn, start.timeline
                )
                if successor is None:
                    log.info(
                        "streaming from %s, timeline %d, at %s",
                        connection.name,
                        start.timeline,
                        format_lsn(start.start_lsn),
                    )
                    self.state.phase = "streaming"
                    successor = await self._stream(connection)
                    if self._finished:
                        return
                    if successor is None:
                        raise ConnectionLost("the server ended streaming (it is shutting down)")
                if successor.timeline <= start.timeline:
                    raise ReplicationProtocolError(
                        f"next timeline: expected more than {start.timeline}, "
                        f"got {successor.timeline}"
                    )
                history_text = await connection.timeline_history(successor.timeline)
                start = await self._sink.follow(
                    successor.timeline, successor.start_lsn, history_text
                )
                log.info(
                    "timeline %d begins at %s",
                    successor.timeline,
                    format_lsn(successor.start_lsn),
                )
            self._finished = True

    async def _refetch(self, connection: ReplicationConnection, hole: WalHole) -> None:  # noqa: ASYNC910
        """Asks for WAL that is missing from the middle; without our slot, which is past it.

        The connection is good for the next command afterwards, also when the server has it no
        more.
        """
        self.state.phase = "filling a hole"
        try:
            if await connection.start_replication(None, hole.begin, hole.timeline) is not None:
                return
            sender, receiver = trio.open_memory_channel[WalChunk](4)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._sink.fill, hole, receiver)
                with contextlib.suppress(trio.BrokenResourceError):  # filled
                    async with sender:
                        await self._send_hole(connection, sender, hole.end)
            if connection.copy_ended:
                await connection.finish_copy()
            else:
                await connection.stop_copy()
        except ServerRefused as exc:
            log.warning("the server does not have it any more: %s", exc)
        except ExceptionGroup as group:
            raise single_error(group, (ConnectionLost,)) from group

    async def _send_hole(  # noqa: ASYNC910
        self,
        connection: ReplicationConnection,
        sender: trio.MemorySendChannel[WalChunk],
        end_lsn: int,
    ) -> None:
        lsn = 0
        while lsn < end_lsn and not connection.copy_ended:
            message = connection.poll_copy()
            if message is None:
                if not connection.copy_ended:
                    await connection.wait_input()
                continue
            decoded = decode_copy_message(message)
            if isinstance(decoded, PrimaryKeepAlive):
                if decoded.reply_requested:
                    await self._send_status(connection)
                continue
            start_lsn, server_end_lsn, sent, data = decoded
            lsn = start_lsn + len(data)
            await sender.send(WalChunk(start_lsn, data, server_end_lsn, sent))

    def _at_end(self, lsn: int) -> bool:
        return self._end_lsn is not None and lsn >= self._end_lsn

    async def _stream(self, connection: ReplicationConnection) -> NextTimeline | None:
        self._last_message = time.monotonic()
        self._reply_wanted = False
        self._told = -1
        self._sink.flushed.listeners.append(self._bell.ring)
        if self._task_status is not None:
            self._task_status.started()
            self._task_status = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send_statuses, connection)
                await self._read(connection)
                nursery.cancel_scope.cancel()
        except ExceptionGroup as group:
            raise single_error(group, (ConnectionLost,)) from group
        except trio.Cancelled:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + FAREWELL_S):
                await self._farewell(connection)
            raise
        finally:
            self._sink.flushed.listeners.remove(self._bell.ring)
        if self._finished:
            await self._farewell(connection)
            return None
        return await connection.finish_copy()

    async def _farewell(self, connection: ReplicationConnection) -> None:  # noqa: ASYNC910
        """Tells the server what is on disk and that we stop; a lost connection is no matter."""
        try:
            await self._sink.flush()
            await self._send_status(connection)
            await connection.stop_copy()
        except ConnectionLost as exc:
            log.info("%s", exc)

    async def _read(self, connection: ReplicationConnection) -> None:
        """Reads CopyData until COPY is over or ``end_lsn`` is reached."""
        poll = connection.poll_copy
        put = self._sink.put
        taken = False
        fresh = True
        while True:
            message = poll()
            if message is None:
                if connection.copy_ended:
                    return  # noqa: ASYNC910
                # The socket is asked before it is waited for: while WAL pours in, that saves a
                # trip through the event loop for every message. The checkpoint is put's.
                if taken:
                    taken = False
                    if not self._sink.lends or not await self._read_directly(connection):
                        await self._wait_input(connection)
                    elif self._finished or connection.copy_ended:
                        return
                else:
                    taken = True
                    connection.take_input()
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
                self._backoff.reset()
            if self._at_end(start_lsn + len(data)):
                self._finished = True
                return

    async def _read_directly(self, connection: ReplicationConnection) -> bool:
        """Lets a relay read for as long as that goes well; returns False where it could not begin.

        Cancellation: the connection is ours again; the relay may still be in a flush.
        """
        with trio.move_on_after(STUCK_S):
            await self._sink.flush()

        def status(written_lsn: int, flushed_lsn: int) -> bytes:
            self._told = flushed_lsn
            return self._status(written_lsn, flushed_lsn)

        relay = Relay(
            connection,
            status=status,
            report_flush=self._report_flush,
            heard=self._hear,
            publish=self._sink.publish_lent,
            end_lsn=self._end_lsn,
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
        self._backoff.reset()
        if relay.error is not None:
            raise relay.error
        if relay.unsent:
            self._told = -1
            self._bell.ring()
        self._finished = self._at_end(self._sink.received.value)
        return True

    def _hear(self, message: XLogData | PrimaryKeepAlive) -> None:
        """Notes what every message tells. Also called in a relay's thread."""
        state = self.state
        state.server_end_lsn = message.server_end_lsn
        state.server_time = (message.send_time_us + UNIX_TO_PG_EPOCH_US) / 1e6
        self._last_message = time.monotonic()

    async def _wait_input(self, connection: ReplicationConnection) -> None:
        if not connection.uses_tls:
            await connection.wait_input()
            return
        # TLS may hold decrypted bytes while the socket is quiet: the timer looks after them.
        with trio.CancelScope() as self._wait_scope:
            await connection.wait_input()
        self._wait_scope = None

    async def _send_statuses(self, connection: ReplicationConnection) -> None:
        """Sends status updates: by the clock, when asked, and when ``flushed`` moved."""
        infinity = float("inf")
        next_status = trio.current_time()
        pinged_at = 0.0
        while True:
            pinged = pinged_at > self._last_message
            due = next_status if self._interval_s else infinity
            if self._timeout_s:
                silent_s = time.monotonic() - self._last_message
                left_s = self._timeout_s / (1 if pinged else 2) - silent_s
                due = min(due, trio.current_time() + left_s)
            with trio.move_on_at(due):
                await self._bell.wait()
            now = trio.current_time()
            relay = self._relay
            if self._blocked or (relay is not None and relay.in_files_since):
                self._last_message = time.monotonic()  # the disk keeps us, not the server
            silent_s = time.monotonic() - self._last_message
            if self._timeout_s and silent_s >= self._timeout_s:
                raise ConnectionLost(f"no message from the server for {self._timeout_s:g} s")
            pinged = pinged_at > self._last_message
            ping = bool(self._timeout_s) and silent_s >= self._timeout_s / 2 and not pinged
            timer = bool(self._interval_s) and now >= next_status
            if self._reply_wanted:
                self._reply_wanted = False
                with trio.move_on_after(REPLY_GRACE_S):
                    await self._sink.flush()
            elif timer:
                self._sink.request_flush()
            elif not ping and not (self._report_flush and self._sink.flushed.value != self._told):
                continue
            await self._send_status(connection, reply_requested=ping)
            if ping:
                pinged_at = time.monotonic()
            next_status = trio.current_time() + self._interval_s
            if connection.uses_tls and self._wait_scope is not None:
                self._wait_scope.cancel()

    async def _send_status(
        self, connection: ReplicationConnection, *, reply_requested: bool = False
    ) -> None:
        def make() -> bytes:
            self._sink.publish_lent()
            self._told = flushed = self._sink.flushed.value
            return self._status(self._sink.written.value, flushed, reply_requested)

        await connection.send_newest(make)

    def _status(self, written_lsn: int, flushed_lsn: int, reply_requested: bool = False) -> bytes:
        if self._slot is not None and self._report_flush and flushed_lsn:
            # The server moves a physical slot to the flush position that it is told, and nobody
            # else does: no need to ask it.
            self.state.slot_restart_lsn = flushed_lsn
        return encode_status_update(
            written_lsn,
            flushed_lsn if self._report_flush else 0,
            self._applied.value if self._applied is not None else 0,
            int(time.time() * 1e6) - UNIX_TO_PG_EPOCH_US,
            reply_requested,
        )


async def read_upstream(connection: ReplicationConnection, slot: str | None) -> Upstream:
    """Asks a server for everything that decides where streaming can start.

    Raises:
        ServerRefused: the slot does not exist or is not physical.

    Cancellation: the connection is left in the middle of a command; close it.
    """
    identity = await connection.identify_system()
    segment_size = await connection.segment_size()
    if not is_valid_segment_size(segment_size):
        raise ReplicationProtocolError(f"wal_segment_size: got {segment_size}")
    history_text = None
    history = TimelineHistory((TimelinePart(1, 0, (1 << 64) - 1),))
    if identity.timeline > 1:
        history_text = await connection.timeline_history(identity.timeline)
        history = parse_history(identity.timeline, history_text)
    restart_lsn = restart_timeline = 0
    if slot is not None and connection.server_version >= 15:
        position = await connection.read_replication_slot(slot)
        if position is None:
            raise ServerRefused(
                f"replication slot {slot!r} does not exist; create it with --create-slot", "42704"
            )
        if position.slot_type != "physical":
            raise ServerRefused(
                f"replication slot {slot!r} is {position.slot_type}, not physical", "55000"
            )
        restart_lsn, restart_timeline = position.restart_lsn, position.restart_timeline
    return Upstream(
        identity.system_id,
        connection.server_version,
        segment_size,
        identity.timeline,
        identity.flush_lsn,
        history,
        history_text,
        restart_lsn,
        restart_timeline,
    )
