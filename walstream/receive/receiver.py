"""The receiver: one replication session after another, from a server into a sink.

Connects, compares what the sink holds with the server, fills holes, follows timelines, and tries
again. ``wal_stream.py`` is what happens while WAL flows. What is done with WAL is the sink's
business (``store/writer.py`` is one); the receiver knows no files.

Mirrors ReceiveXlogStream of receivelog.c and WalReceiverMain of walreceiver.c.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable

import trio
from trio_util import AsyncValue

from walstream.errors import (
    ConnectionLost,
    HistoryMissing,
    ProtocolError,
    ReplicationProtocolError,
    ServerRefused,
    StoreError,
    WalDivergedError,
    WalstreamError,
)
from walstream.receive.overlap import compare_stored
from walstream.receive.sink import WalSink
from walstream.receive.wal_stream import ReceiverState, StreamOptions, WalStream
from walstream.replication.addresses import connect_timeout, resolve
from walstream.replication.connecting import none_would_do
from walstream.replication.libpq import CONNECT_TIMEOUT_S, ReplicationConnection, connect_to
from walstream.replication.refusals import WAL_REMOVED
from walstream.replication.upstream import read_upstream
from walstream.tasks.supervise import Backoff, keep_running, single_error
from walstream.tasks.watermark import Watermark
from walstream.wal.model import format_lsn
from walstream.wal.timeline import Upstream

log = logging.getLogger("walstream.receiver")

# What tells of one server, not of us: another one may do.
OF_THE_SERVER = (ConnectionLost, ServerRefused, ProtocolError, StoreError, WalDivergedError)
# What differs between two messages of one kind: positions, process ids, ports, seconds.
_VARYING = re.compile(r"[0-9A-F]+/[0-9A-F]+|\d+(?:\.\d+)?")


class Receiver:
    """Streams from the server that ``conninfo`` names into ``sink``, session after session.

    A change of ``conninfo`` ends the session in good order and starts one with the new value.

    Args:
        conninfo: libpq connection string; several hosts are tried in order.
        sink: takes the WAL.
        slot: a physical slot that exists.
        status_interval_s: time between status updates; 0 sends only those that are asked for.
        receive_timeout_s: a server silent for that long is left, whatever it was asked; while WAL
            streams it is pinged at half of it. 0 waits for ever.
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
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
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
        self._options = StreamOptions(
            slot=slot,
            status_interval_s=status_interval_s,
            receive_timeout_s=receive_timeout_s,
            report_flush=slot is not None if report_flush is None else report_flush,
            applied=applied,
            end_lsn=end_lsn,
        )
        self._connect_timeout_s = connect_timeout_s
        self._loop = loop
        self._application_name = application_name
        self._backoff = backoff or Backoff()
        self._on_connected = on_connected
        self._finished = False
        self._progressed = False
        self._told: set[str] = set()
        self._asked_lsn = 0
        self._stopping = False
        self._session_scope: trio.CancelScope | None = None
        self._wake = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:  # noqa: ASYNC128
        """Receives until ``stop``, ``end_lsn``, or an error that a new connection does not cure.

        ``task_status`` is reported when the first session streams.

        Raises:
            ServerRefused, ProtocolError, WalError, StoreError, StorageError: no address will do;
            ConnectionLost with ``loop`` off.

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
        begin = format_lsn(max(self._asked_lsn, self._sink.received.value))
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
        self._tell(str(error), f"; trying again in {delay_s:.1f} s")

    def _tell(self, text: str, more: str = "") -> None:
        """Warns once of each kind of trouble until WAL comes again; then the log has it as news."""
        kind = _VARYING.sub("#", text)
        log.log(logging.INFO if kind in self._told else logging.WARNING, "%s%s", text, more)
        self._told.add(kind)

    # -- one session

    async def _attempt(self) -> None:
        try:
            async with trio.open_nursery() as nursery:
                self._session_scope = nursery.cancel_scope
                nursery.start_soon(self._watch_conninfo, self._conninfo.value)
                await self._round(self._conninfo.value)
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

    async def _round(self, conninfo: str) -> None:
        """Tries one address after the other until one has streamed; raises where none will do.

        A server that is not the right one, or refuses us, is no reason to stop while there is
        another. Where WAL had come the connection was good: then the next round begins with the
        first address again, as libpq would.
        """
        self.state.phase = "connecting"
        receive_timeout_s = self._options.receive_timeout_s
        timeout_s = connect_timeout(conninfo, self._connect_timeout_s, receive_timeout_s)
        problems: list[tuple[str, WalstreamError]] = []
        attempts = await resolve(
            conninfo,
            application_name=self._application_name,
            timeout_s=timeout_s,
            receive_timeout_s=receive_timeout_s,
        )
        for number, attempt in enumerate(attempts):
            self._progressed = False
            try:
                self.state.phase = "connecting"
                connection = await connect_to(
                    attempt, connect_timeout_s=timeout_s, receive_timeout_s=receive_timeout_s
                )
                with connection:
                    await self._session(connection)
                break
            except OF_THE_SERVER as exc:
                if self._progressed and isinstance(exc, ConnectionLost):
                    raise
                problems.append((attempt.name, exc))
                if number + 1 < len(attempts):
                    self._note_error(exc)
                    self._tell(f"{attempt.name}: {exc}; trying the next address")
        else:
            raise none_would_do(problems)

    def _note_progress(self) -> None:
        self._progressed = True
        self._told.clear()
        self._backoff.reset()

    async def _session(self, connection: ReplicationConnection) -> None:
        upstream = await read_upstream(connection, self._slot)
        self.state.host = connection.name
        self.state.server_end_lsn = upstream.flush_lsn
        self.state.slot_restart_lsn = upstream.slot_restart_lsn
        self.state.phase = "comparing"
        await compare_stored(connection, await self._sink.held(upstream), upstream.segment_size)
        start = await self._sink.begin(upstream)
        self.disconnected = trio.Event()
        self.state.sessions += 1
        if self._on_connected is not None:
            self._on_connected(upstream, connection)
        await self._fetch_histories(connection)
        stream = WalStream(connection, self._sink, self.state, self._options, self._note_progress)
        for hole in self._sink.holes():
            await stream.refetch(hole)
        restart = upstream.slot_restart_lsn
        if restart - restart % upstream.segment_size > start.start_lsn:
            self._tell(
                f"slot {self._slot} begins at {format_lsn(upstream.slot_restart_lsn)}, we go on at "
                f"{format_lsn(start.start_lsn)}: the server may have removed the WAL between"
            )
        while not stream.at_end(start.start_lsn):
            self.state.timeline = start.timeline
            self._asked_lsn = start.start_lsn
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
                if self._task_status is not None:
                    self._task_status.started()
                    self._task_status = None
                successor = await stream.run()
                if stream.finished:
                    break
                if successor is None:
                    raise ConnectionLost("the server ended streaming (it is shutting down)")
            if successor.timeline <= start.timeline:
                raise ReplicationProtocolError(
                    f"next timeline: expected more than {start.timeline}, got {successor.timeline}"
                )
            history_text = await connection.timeline_history(successor.timeline)
            start = await self._sink.follow(successor.timeline, successor.start_lsn, history_text)
            log.info(
                "timeline %d begins at %s", successor.timeline, format_lsn(successor.start_lsn)
            )
        self._finished = True

    async def _fetch_histories(self, connection: ReplicationConnection) -> None:
        """Keeps every history file of the server's path: 1 to 2 to 3 needs that of 2 too."""
        for timeline in await self._sink.missing_histories():
            try:
                history_text = await connection.timeline_history(timeline)
            except HistoryMissing as exc:
                self._tell(f"{exc}; a recovery that ends on timeline {timeline} would need it")
                continue
            await self._sink.keep_history(timeline, history_text)
