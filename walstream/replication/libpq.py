"""libpq, driven from Trio: connections in replication mode, commands, COPY in both directions.

It uses ``psycopg.pq`` (libpq's own functions, non-blocking) and waits for the socket with Trio. It
knows commands and answers (``messages.py``), not what is done with WAL. libpq's errors leave as
ours: ``ConnectionLost`` where a new connection may help, ``ServerRefused`` where it will not.
"""

from __future__ import annotations

import contextlib
import math
import threading

import psycopg
import trio
from psycopg import pq

from walstream.errors import (
    ConnectionLost,
    HistoryMissing,
    ReplicationProtocolError,
    ServerRefused,
    WalstreamError,
)
from walstream.replication.addresses import Attempt, connect_timeout, resolve
from walstream.replication.connecting import none_would_do, open_connection
from walstream.replication.messages import (
    NextTimeline,
    Row,
    SlotPosition,
    SystemIdentity,
    create_slot_command,
    decode_text,
    encode_text,
    parse_identify_system,
    parse_next_timeline,
    parse_read_replication_slot,
    parse_size,
    parse_timeline_history,
    quote_identifier,
    start_replication_command,
)
from walstream.replication.refusals import DUPLICATE_OBJECT, WAL_REMOVED, refusal
from walstream.tasks.conflict import ConflictDetector

CONNECT_TIMEOUT_S = 10.0
RECEIVE_TIMEOUT_S = 60.0
# Before BASE_BACKUP's first answer the server makes a checkpoint and says nothing meanwhile.
CHECKPOINT_PATIENCE = 10


def _refusal(result: pq.abc.PGresult, what: str) -> ConnectionLost | ServerRefused:
    """Returns the error that a failed result stands for."""
    field = pq.DiagnosticField
    state_bytes = result.error_field(field.SQLSTATE)
    primary = result.error_field(field.MESSAGE_PRIMARY) or result.error_message
    message = (primary or b"").decode("utf-8", "backslashreplace").strip()
    for extra in (field.MESSAGE_DETAIL, field.MESSAGE_HINT):
        found = result.error_field(extra)
        if found:
            message += f" ({found.decode('utf-8', 'backslashreplace').strip()})"
    state = state_bytes.decode("ascii", "backslashreplace") if state_bytes else None
    return refusal(f"{what}: {message}", state)


def rows_of(result: pq.abc.PGresult) -> list[Row]:
    """Returns the rows of an answer as text."""
    return [
        tuple(
            None if (value := result.get_value(row, column)) is None else decode_text(value)
            for column in range(result.nfields)
        )
        for row in range(result.ntuples)
    ]


class ReplicationConnection:
    """One connection in physical replication mode.

    Made by ``connect``; used as ``with connection:``. Commands are sequential: a second one at the
    same time raises ``trio.BusyResourceError``. While COPY runs, a ``CopyStream`` reads and a
    ``StatusSender`` may send; those two, and nobody else, go to ``pgconn``.

    Args:
        receive_timeout_s: seconds of silence after which a command, or what ends COPY, is given
            up (``ConnectionLost``); 0 waits for ever. While WAL streams the server may be silent:
            the ``StatusSender`` pings it.
    """

    def __init__(
        self, pgconn: pq.abc.PGconn, name: str, receive_timeout_s: float = RECEIVE_TIMEOUT_S
    ) -> None:
        self.pgconn = pgconn
        self.receive_timeout_s = receive_timeout_s or math.inf
        self.name = name
        self._commanding = ConflictDetector("another task runs a command on this connection")
        self.lock = threading.Lock()
        """Held for each call into libpq while COPY runs and a thread takes part in it."""

    def __enter__(self) -> ReplicationConnection:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the socket. Tasks that wait for it get ``trio.ClosedResourceError``."""
        with contextlib.suppress(psycopg.OperationalError):  # closed before
            trio.lowlevel.notify_closing(self.pgconn.socket)
        self.pgconn.finish()

    @property
    def server_version(self) -> int:
        """The server's major version, for example 15."""
        return self.pgconn.server_version // 10000

    def fileno(self) -> int:
        return self.pgconn.socket

    @property
    def used_password(self) -> bool:
        return bool(self.pgconn.used_password)

    @property
    def uses_tls(self) -> bool:
        return bool(self.pgconn.ssl_in_use)

    @property
    def in_recovery(self) -> bool:
        """Whether the server was a standby when it last said (it reports in_hot_standby)."""
        return self.pgconn.parameter_status(b"in_hot_standby") == b"on"

    async def _readable(self, what: str, patience: int = 1) -> None:
        with trio.move_on_after(self.receive_timeout_s * patience):
            await trio.lowlevel.wait_readable(self.pgconn.socket)
            return
        raise self.silent(what, patience)

    async def writable(self, what: str) -> None:
        """Waits until the socket takes more.

        Raises:
            ConnectionLost: it does not within the receive timeout.

        Cancellation: nothing happened.
        """
        with trio.move_on_after(self.receive_timeout_s):
            await trio.lowlevel.wait_writable(self.pgconn.socket)
            return
        raise self.silent(what)

    def silent(self, what: str, patience: int = 1) -> ConnectionLost:
        """Returns the error for a server that was silent for too long."""
        return ConnectionLost(
            f"{what}: no message from the server for {self.receive_timeout_s * patience:g} s"
        )

    # -- commands

    async def query(self, sql: str, patience: int = 1) -> list[pq.abc.PGresult]:
        """Runs one command; returns its results, the last one possibly a COPY that began.

        ``patience``: how many times the receive timeout the answer may take.

        Raises:
            ConnectionLost, ServerRefused: the command failed.

        Cancellation: the connection is left in the middle of a command; close it.
        """
        what = sql.split(" ", 1)[0]
        with self._commanding:
            try:
                self.pgconn.send_query(encode_text(sql))
            except psycopg.OperationalError as exc:
                raise ConnectionLost(f"{what}: {one_line(exc)}") from exc
            await self.flush(what)
            return await self.results(what, patience)

    async def results(self, what: str, patience: int = 1) -> list[pq.abc.PGresult]:
        """Returns the answers that come, up to the end of the command or a COPY that begins.

        Raises:
            ConnectionLost, ServerRefused: the command failed.

        Cancellation: as ``query``.
        """
        try:
            return await self._results(what, patience)
        except psycopg.OperationalError as exc:
            raise ConnectionLost(f"{what}: {one_line(exc)}") from exc

    async def _results(self, what: str, patience: int) -> list[pq.abc.PGresult]:
        results: list[pq.abc.PGresult] = []
        status = pq.ExecStatus
        refused: ConnectionLost | ServerRefused | None = None
        while True:  # noqa: ASYNC913
            while self.pgconn.is_busy():
                await self._readable(what, patience)
                try:
                    self.pgconn.consume_input()
                except psycopg.OperationalError:
                    if refused is not None:
                        raise refused from None
                    if results:  # a server that shuts down says COPY is over and closes
                        return results
                    raise
            result = self.pgconn.get_result()
            if result is None:
                await trio.lowlevel.checkpoint()
                if refused is not None:
                    raise refused
                return results
            if result.status in (status.FATAL_ERROR, status.BAD_RESPONSE):
                # Read on to the end of the command: the connection is good for the next one.
                refused = refused or _refusal(result, what)
                continue
            results.append(result)
            if result.status in (status.COPY_BOTH, status.COPY_OUT, status.COPY_IN):
                await trio.lowlevel.checkpoint()
                return results

    async def flush(self, what: str) -> None:  # noqa: ASYNC910
        """Sends what libpq holds; a checkpoint only where the socket takes it slowly.

        Raises:
            ConnectionLost: the socket is closed, or takes nothing for the receive timeout.

        Cancellation: as ``query``.
        """
        try:
            while self.pgconn.flush():
                await self.writable(what)
        except psycopg.OperationalError as exc:
            raise ConnectionLost(f"{what}: {one_line(exc)}") from exc

    async def _tuples(self, sql: str) -> list[Row]:
        results = await self.query(sql)
        for result in results:
            if result.status == pq.ExecStatus.TUPLES_OK:
                return rows_of(result)
        raise ReplicationProtocolError(f"{sql.split(' ', 1)[0]}: the server answered without a row")

    async def identify_system(self) -> SystemIdentity:
        """Returns who the server is. Cancellation: as ``query``."""
        return parse_identify_system(await self._tuples("IDENTIFY_SYSTEM"))

    async def show(self, setting: str) -> str:
        """Returns a setting as SHOW prints it. Cancellation: as ``query``."""
        rows = await self._tuples(f"SHOW {quote_identifier(setting)}")
        if len(rows) != 1 or not rows[0] or rows[0][0] is None:
            raise ReplicationProtocolError(f"SHOW {setting}: expected one value")
        return rows[0][0]

    async def segment_size(self) -> int:
        """Returns wal_segment_size in bytes. Cancellation: as ``query``."""
        return parse_size("wal_segment_size", await self.show("wal_segment_size"))

    async def read_replication_slot(self, slot: str) -> SlotPosition | None:
        """Returns a slot's position, None where there is no such slot (server 15 or later).

        Cancellation: as ``query``.
        """
        rows = await self._tuples(f"READ_REPLICATION_SLOT {quote_identifier(slot)}")
        return parse_read_replication_slot(rows)

    async def create_physical_slot(
        self,
        slot: str,
        *,
        reserve_wal: bool = True,
        temporary: bool = False,
        if_not_exists: bool = False,
    ) -> bool:
        """Creates a slot; returns False where it exists and ``if_not_exists`` was given.

        Cancellation: as ``query``; the slot may have been created.
        """
        command = create_slot_command(
            slot, self.server_version, reserve_wal=reserve_wal, temporary=temporary
        )
        try:
            await self.query(command)
        except ServerRefused as exc:
            if if_not_exists and exc.sqlstate == DUPLICATE_OBJECT:
                return False  # noqa: ASYNC910
            raise
        return True

    async def drop_slot(self, slot: str) -> None:
        """Drops a slot. Cancellation: as ``query``; the slot may have been dropped."""
        await self.query(f"DROP_REPLICATION_SLOT {quote_identifier(slot)}")

    async def timeline_history(self, timeline: int) -> bytes:
        """Returns the content of a timeline's history file.

        Raises:
            HistoryMissing: the server has none.

        Cancellation: as ``query``.
        """
        try:
            rows = await self._tuples(f"TIMELINE_HISTORY {timeline}")
        except ServerRefused as exc:
            if exc.sqlstate == WAL_REMOVED:  # of WAL, elsewhere: here it is another file
                raise HistoryMissing(
                    f"the server has no history file of timeline {timeline}: {exc}"
                ) from exc
            raise
        return parse_timeline_history(timeline, rows)

    # -- COPY

    async def start_replication(
        self, slot: str | None, start_lsn: int, timeline: int
    ) -> NextTimeline | None:
        """Starts streaming; returns None when COPY runs, which is for a ``CopyStream`` to read.

        A timeline that ended exactly at ``start_lsn`` has nothing to stream: the server answers
        with the next timeline instead, and that is returned.

        Cancellation: as ``query``.
        """
        command = start_replication_command(slot, start_lsn, timeline)
        results = await self.query(command)
        if results and results[-1].status == pq.ExecStatus.COPY_BOTH:
            return None
        return self.next_timeline(results)

    def next_timeline(self, results: list[pq.abc.PGresult]) -> NextTimeline:
        """Returns the next timeline that an answer tells of."""
        for result in results:
            if result.status == pq.ExecStatus.TUPLES_OK:
                return parse_next_timeline(rows_of(result))
        raise ReplicationProtocolError("START_REPLICATION: expected COPY or the next timeline")


def one_line(error: BaseException) -> str:
    """Returns what libpq says of an error, in one line."""
    return " ".join(str(error).split())


async def connect_to(
    attempt: Attempt, *, connect_timeout_s: float, receive_timeout_s: float
) -> ReplicationConnection:
    """Connects to one address.

    Raises:
        ConnectionLost: no connection, or no answer within ``connect_timeout_s``.
        ServerRefused: the server refuses us until somebody changes something.

    Cancellation: the attempt is closed.
    """
    what = f"could not connect to {attempt.name}"
    try:
        with trio.move_on_after(connect_timeout_s):
            pgconn = await open_connection(attempt)
            return ReplicationConnection(pgconn, attempt.name, receive_timeout_s)
    except (ConnectionLost, ServerRefused) as exc:
        raise type(exc)(f"{what}: {exc}", exc.sqlstate) from exc
    raise ConnectionLost(f"{what}: no answer within {connect_timeout_s:g} s")


async def connect(
    conninfo: str,
    *,
    application_name: str = "walstream",
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
    receive_timeout_s: float = RECEIVE_TIMEOUT_S,
) -> ReplicationConnection:
    """Connects in physical replication mode to the first address that will have us.

    ``connect_timeout`` in the connection string wins over ``connect_timeout_s``; both count for
    each address, and for looking up each name.

    Args:
        receive_timeout_s: of the connection, see ``ReplicationConnection``.

    Raises:
        ConnectionLost: no address answered as wanted; the message tells what each one said.
        ServerRefused: not a connection string, or every address refuses us for good.

    Cancellation: the attempt is closed.
    """
    timeout_s = connect_timeout(conninfo, connect_timeout_s, receive_timeout_s)
    problems: list[tuple[str, WalstreamError]] = []
    for attempt in await resolve(
        conninfo,
        application_name=application_name,
        timeout_s=timeout_s,
        receive_timeout_s=receive_timeout_s,
    ):
        try:
            return await connect_to(
                attempt, connect_timeout_s=timeout_s, receive_timeout_s=receive_timeout_s
            )
        except (ConnectionLost, ServerRefused) as exc:
            problems.append((attempt.name, exc))
    raise none_would_do(problems)
