"""Standby status updates: when they are due, what they say, and when a server is given up.

One sender for all who stream WAL: by the clock, when the server asks, when what is flushed moved,
and as a ping where it is silent. It is a task of its own, so that neither a slow disk nor a busy
reader stops the heartbeat. Mirrors XLogWalRcvSendReply and the timers of WalReceiverMain.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

import psycopg
import trio

from walstream.errors import ConnectionLost
from walstream.replication.libpq import ReplicationConnection, one_line
from walstream.replication.messages import encode_status_update
from walstream.tasks.auto_reset_event import AutoResetEvent
from walstream.tasks.conflict import ConflictDetector
from walstream.wal.model import POSTGRES_EPOCH_US

# How long a reply that the server asked for waits for the disk before it goes out as it stands.
REPLY_GRACE_S = 0.1


class Report(NamedTuple):
    """The ends of what is written, flushed and applied; 0 says nothing of it."""

    written_lsn: int = 0
    flushed_lsn: int = 0
    applied_lsn: int = 0


NOTHING = Report()


class LocalWal(Protocol):
    """What the sender must know of the WAL that is kept here."""

    @property
    def keeps_reader(self) -> bool:
        """Whether nothing is read because the disk keeps us: that is no silence of the server."""

    def request_flush(self) -> None:
        """Asks for a flush soon, before the next update by the clock."""

    async def flush(self) -> None:
        """Flushes, before an update that the server asked for; given up after a moment.

        Cancellation: the flush may still happen.
        """


class StatusSender:
    """Sends standby status updates over one connection; one task at a time sends.

    Args:
        report: what to tell, asked anew for each update. A flush position is told as soon as it
            moves.
        interval_s: seconds between updates by the clock; 0: only those that are asked for.
        timeout_s: a server silent for that long is given up; it is pinged at half of it. 0 waits
            for ever.
        local: where WAL is kept; None: nowhere.
    """

    def __init__(
        self,
        connection: ReplicationConnection,
        report: Callable[[], Report] = lambda: NOTHING,
        *,
        interval_s: float = 0.0,
        timeout_s: float = 0.0,
        local: LocalWal | None = None,
    ) -> None:
        self._connection = connection
        self._report = report
        self._interval_s = interval_s or math.inf
        self._timeout_s = timeout_s or math.inf
        self._local = local
        self._event = AutoResetEvent()
        self._runs = False
        self._asked = False
        self._told_lsn = 0
        self._heard_at = time.monotonic()
        self._pinged_at = -math.inf
        self._sending = ConflictDetector("another task sends over this connection")

    # -- what it is told

    def heard(self) -> None:
        """Notes that the server has sent something. Safe in any thread."""
        self._heard_at = time.monotonic()

    def wake(self) -> None:
        """Has ``run`` look for news: what is flushed may have moved."""
        self._event.set()

    def ask(self) -> None:
        """The server wants an update at once: has ``run`` send one."""
        self._asked = True
        self._event.set()

    async def answer(self) -> None:
        """The server wants an update at once: has ``run`` send one, or sends it here without.

        Raises:
            ConnectionLost: as ``send``.

        Cancellation: as ``send``.
        """
        if not self._runs:
            await self.send()
            return
        self.ask()
        await trio.lowlevel.checkpoint()

    def tell_again(self) -> None:
        """Has ``run`` send what was told last once more: it may not have gone out whole."""
        self._told_lsn = 0
        self._event.set()

    # -- the task

    async def run(self) -> None:
        """Sends updates until it is cancelled.

        Raises:
            ConnectionLost: the socket is closed, or the server was silent for too long.

        Cancellation: an update is sent whole or not at all, see ``send``.
        """
        self._runs = True
        try:
            await self._run()
        finally:
            self._runs = False

    async def _run(self) -> None:
        self._heard_at = time.monotonic()
        self._told_lsn = 0
        next_at = trio.current_time() if self._interval_s < math.inf else math.inf
        while True:
            left_s = self._timeout_s / (1 if self._pinged else 2) - self._silent_s()
            with trio.move_on_at(min(next_at, trio.current_time() + left_s)):
                await self._event.wait()
            if self._local is not None and self._local.keeps_reader:
                self.heard()
            silent_s = self._silent_s()
            if silent_s >= self._timeout_s:
                raise ConnectionLost(f"no message from the server for {self._timeout_s:g} s")
            ping = silent_s >= self._timeout_s / 2 and not self._pinged
            if self._asked:
                self._asked = False
                if self._local is not None:
                    with trio.move_on_after(REPLY_GRACE_S):
                        await self._local.flush()
            elif trio.current_time() >= next_at:
                if self._local is not None:
                    self._local.request_flush()
            elif not ping and self._report().flushed_lsn <= self._told_lsn:
                continue
            if ping:  # noted before it is sent: the answer may be heard before that returns
                self._pinged_at = time.monotonic()
            await self.send(reply_requested=ping)
            next_at = trio.current_time() + self._interval_s

    @property
    def _pinged(self) -> bool:
        return self._pinged_at > self._heard_at

    def _silent_s(self) -> float:
        return time.monotonic() - self._heard_at

    # -- sending

    def encode(self, report: Report, *, reply_requested: bool = False) -> bytes:
        """Returns the update that says ``report``, and notes that it was told."""
        self._told_lsn = report.flushed_lsn
        now_us = int(time.time() * 1e6) - POSTGRES_EPOCH_US
        return encode_status_update(*report, now_us, reply_requested)

    async def send(self, *, reply_requested: bool = False) -> None:
        """Sends an update.

        Raises:
            ConnectionLost: the socket is closed, or takes nothing for the receive timeout.
            trio.BusyResourceError: another task sends.

        Cancellation: the update is queued in libpq, whole, and goes out with the next.
        """
        connection = self._connection
        with self._sending:
            with connection.lock:
                whole = self.send_now(self._report(), reply_requested=reply_requested)
            while not whole:
                await connection.writable("status update")
                try:
                    with connection.lock:
                        whole = not connection.pgconn.flush()
                except psycopg.OperationalError as exc:
                    raise ConnectionLost(one_line(exc)) from exc
        await trio.lowlevel.checkpoint()

    def send_now(self, report: Report, *, reply_requested: bool = False) -> bool:
        """Sends an update as far as the socket takes it; returns whether that was all.

        What is left goes out with the next. With the connection's ``lock`` held, in any thread.

        Raises:
            ConnectionLost: the socket is closed.
        """
        pgconn = self._connection.pgconn
        try:
            pgconn.put_copy_data(self.encode(report, reply_requested=reply_requested))
            return not pgconn.flush()
        except psycopg.OperationalError as exc:
            raise ConnectionLost(one_line(exc)) from exc
