"""CopyData of one COPY, in order: the one reader of streaming WAL, comparisons and base backups.

What it knows, so that no loop has to: the socket is asked before it is waited for, so that WAL that
pours in costs no trip through the event loop for each message; the event loop gets its turn all the
same; TLS may hold decrypted bytes while the socket is quiet, so there the wait is short; and what
had arrived before a connection broke is given first, then COPY's own end or error (a FATAL message
tells more than the cut), and only then the cut.
"""

from __future__ import annotations

import math

import psycopg
import trio
from psycopg import pq

from walstream.errors import ConnectionLost
from walstream.replication.libpq import ReplicationConnection, one_line
from walstream.replication.messages import NextTimeline, XLogData, decode_copy_message
from walstream.replication.status import StatusSender
from walstream.tasks.conflict import ConflictDetector

# So much may be read before other tasks get their turn.
FAIR_BYTES = 1 << 20
TLS_PATIENCE_S = 1.0


class CopyStream:
    """The COPY that has begun on ``connection``; one for each. One task or thread reads.

    Args:
        what: names the command in errors.
        watched: a ``StatusSender`` runs, which pings a silent server and gives it up. Else the
            server has something to send, and is given up when it is silent for longer than the
            connection's receive timeout.
    """

    def __init__(
        self, connection: ReplicationConnection, what: str = "streaming", *, watched: bool = False
    ) -> None:
        self.ended = False
        """COPY is over: the server's side of it has ended."""
        self.connection = connection
        self._pgconn = connection.pgconn
        self._what = what
        self._timeout_s = math.inf if watched else connection.receive_timeout_s
        self._patience_s = TLS_PATIENCE_S if connection.uses_tls else math.inf
        self._cut: ConnectionLost | None = None
        self._unyielded = 0
        self._silent_since: float | None = None
        self._reading = ConflictDetector("another task reads from this COPY")

    # -- without waiting

    def take_input(self) -> None:
        """Takes what the socket, or TLS below it, holds; never blocks."""
        try:
            self._pgconn.consume_input()
        except psycopg.OperationalError as exc:
            self._cut = ConnectionLost(one_line(exc))

    def taken(self) -> memoryview | None:
        """Returns the next CopyData that libpq holds; None where it holds none.

        After None, ``ended`` tells whether COPY is over or more may come.

        Raises:
            ConnectionLost: the socket is at its end and nothing is left.
        """
        if self.ended:
            return None
        try:
            length, view = self._pgconn.get_copy_data(1)
        except psycopg.OperationalError as exc:
            raise ConnectionLost(one_line(exc)) from exc
        if length > 0:
            return view
        if length < 0:
            self.ended = True
        elif self._cut is not None:
            raise self._cut
        return None

    def poll(self) -> memoryview | None:
        """As ``taken``, but asks the socket where libpq holds nothing."""
        message = self.taken()
        if message is None and not self.ended:
            self.take_input()
            message = self.taken()
        if message is not None:
            self._unyielded += len(message)
            self._silent_since = None
        return message

    # -- waiting

    async def give_way(self) -> None:  # noqa: ASYNC910
        """Lets other tasks run where much was read since they did; a checkpoint only then.

        Cancellation: no message is lost.
        """
        if self._unyielded >= FAIR_BYTES:
            self._unyielded = 0
            await trio.lowlevel.checkpoint()

    async def wait(self) -> None:
        """Waits until there may be more, after ``poll`` returned None.

        Raises:
            ConnectionLost: the server was silent for too long (see ``watched``).
            trio.BusyResourceError: another task waits.

        Cancellation: no message is lost.
        """
        now = trio.current_time()
        if self._silent_since is None:
            self._silent_since = now
        deadline = self._silent_since + self._timeout_s
        with self._reading, trio.move_on_at(min(deadline, now + self._patience_s)):
            await trio.lowlevel.wait_readable(self._pgconn.socket)
        self._unyielded = 0
        self.take_input()
        if trio.current_time() >= deadline and self._cut is None:
            raise self.connection.silent(self._what)

    async def next_message(self) -> memoryview | None:
        """Returns the next CopyData; None: COPY is over (``finish``).

        Raises:
            ConnectionLost: the connection broke, or the server was silent for too long.

        Cancellation: no message is lost.
        """
        while True:
            await self.give_way()
            message = self.poll()
            if message is not None or self.ended:
                return message
            await self.wait()

    async def next_wal(self, status: StatusSender) -> XLogData | None:
        """Returns the next WAL; answers what the server asks meanwhile. None: COPY is over.

        Raises:
            ConnectionLost, ReplicationProtocolError: as ``next_message``; a malformed message.

        Cancellation: no message is lost.
        """
        while (message := await self.next_message()) is not None:
            status.heard()
            decoded = decode_copy_message(message)
            if isinstance(decoded, XLogData):
                return decoded
            if decoded.reply_requested:
                await status.answer()
        return None

    # -- its end

    async def results(self) -> list[pq.abc.PGresult]:
        """Returns the answers that follow, after ``ended``.

        Raises:
            ConnectionLost, ServerRefused: the command ended with an error.

        Cancellation: the connection is left in the middle of a command; close it.
        """
        return await self.connection.results(self._what)

    async def finish(self) -> NextTimeline | None:
        """Ends streaming after ``ended``; returns the next timeline where this one is over.

        None: the server ended streaming in good order, as it does when it shuts down.

        Raises:
            ConnectionLost, ServerRefused: COPY ended with an error.

        Cancellation: as ``results``.
        """
        results = await self.results()
        if results and results[-1].status == pq.ExecStatus.COPY_IN:
            await self._put_end()
            results = await self.results()
        if any(result.status == pq.ExecStatus.TUPLES_OK for result in results):
            return self.connection.next_timeline(results)
        return None

    async def stop(self) -> None:
        """Ends COPY from our side and reads to its end; what still arrives is dropped.

        Raises:
            ConnectionLost, ServerRefused: as ``finish``.

        Cancellation: as ``results``.
        """
        self._timeout_s = self.connection.receive_timeout_s
        await self._put_end()
        while await self.next_message() is not None:
            pass
        await self.results()

    async def close(self) -> None:
        """Ends COPY, whoever is to end it: the connection is good for the next command.

        Raises:
            ConnectionLost, ServerRefused: as ``finish``.

        Cancellation: as ``results``.
        """
        await (self.finish() if self.ended else self.stop())

    async def _put_end(self) -> None:
        try:
            self._pgconn.put_copy_end()
        except psycopg.OperationalError as exc:
            raise ConnectionLost(one_line(exc)) from exc
        await self.connection.flush(self._what)
