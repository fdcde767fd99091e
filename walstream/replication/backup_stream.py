"""BASE_BACKUP as a stream of events, the same for all versions of the protocol.

Knows what the server sends, not where it is kept (``backup.py``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from psycopg import pq

from walstream.errors import ReplicationProtocolError
from walstream.replication.copy_stream import CopyStream
from walstream.replication.libpq import CHECKPOINT_PATIENCE, ReplicationConnection, rows_of
from walstream.replication.messages import base_backup_command, parse_backup_position


class Tablespace(NamedTuple):
    """One row of BASE_BACKUP's second answer; ``oid`` is 0 for the main data directory."""

    oid: int
    location: str


class BackupStart(NamedTuple):
    """First answers of BASE_BACKUP."""

    start_lsn: int
    timeline: int
    tablespaces: tuple[Tablespace, ...]


class ArchiveBegin(NamedTuple):
    """A tar archive begins; ``tablespace`` is 0 for the main data directory."""

    tablespace: int


class ManifestBegin(NamedTuple):
    """The backup manifest begins."""


class BackupData(NamedTuple):
    """Bytes of the archive or manifest that began last; valid until the next event."""

    data: memoryview


class BackupEnd(NamedTuple):
    """Last answer of BASE_BACKUP: WAL up to ``stop_lsn`` makes the backup consistent."""

    stop_lsn: int
    timeline: int


BackupEvent = BackupStart | ArchiveBegin | ManifestBegin | BackupData | BackupEnd


async def stream_base_backup(
    connection: ReplicationConnection,
    take: Callable[[BackupEvent], Awaitable[None]],
    label: str,
    *,
    checksum: str = "CRC32C",
    fast: bool = True,
) -> BackupEnd:
    """Runs BASE_BACKUP with a manifest; gives what arrives to ``take``, in order.

    The protocol changed in 15: one COPY whose messages carry a type, instead of one COPY for
    each archive. Both become the same events.

    Raises:
        ConnectionLost, ServerRefused, ReplicationProtocolError: the server's side failed.

    Cancellation: as ``query``.
    """
    command = base_backup_command(label, connection.server_version, checksum=checksum, fast=fast)
    results = await connection.query(command, CHECKPOINT_PATIENCE)
    tuples = [r for r in results if r.status == pq.ExecStatus.TUPLES_OK]
    if len(tuples) != 2 or results[-1].status != pq.ExecStatus.COPY_OUT:
        raise ReplicationProtocolError("BASE_BACKUP: expected two answers and COPY")
    start_lsn, timeline = parse_backup_position("BASE_BACKUP start", rows_of(tuples[0]))
    spaces = tuple(Tablespace(int(r[0] or 0), r[1] or "") for r in rows_of(tuples[1]))
    await take(BackupStart(start_lsn, timeline, spaces))
    if connection.server_version >= 15:
        results = await _copy_out(connection, _backup_event, take)
    else:
        for space in spaces:
            await take(ArchiveBegin(space.oid))
            await _copy_out(connection, BackupData, take)
        await take(ManifestBegin())
        results = await _copy_out(connection, BackupData, take)
    ends = [r for r in results if r.status == pq.ExecStatus.TUPLES_OK]
    if not ends:
        raise ReplicationProtocolError("BASE_BACKUP: expected the stop position")
    end = BackupEnd(*parse_backup_position("BASE_BACKUP stop", rows_of(ends[-1])))
    await take(end)
    return end


async def _copy_out(
    connection: ReplicationConnection,
    event_of: Callable[[memoryview], BackupEvent | None],
    take: Callable[[BackupEvent], Awaitable[None]],
) -> list[pq.abc.PGresult]:
    """Reads one COPY OUT to its end; returns the results that follow it."""
    copy = CopyStream(connection, "BASE_BACKUP")
    while (message := await copy.next_message()) is not None:
        event = event_of(message)
        if event is not None:
            await take(event)
    return await copy.results()


def _backup_event(message: memoryview) -> BackupEvent | None:
    kind = bytes(message[:1])
    if kind == b"d":
        return BackupData(message[1:])
    if kind == b"n":
        name = bytes(message[1:]).split(b"\0", 1)[0].decode("ascii", "backslashreplace")
        oid = name.split(".", 1)[0]
        if oid != "base" and not oid.isdigit():
            raise ReplicationProtocolError(f"BASE_BACKUP: unexpected archive name {name!r}")
        return ArchiveBegin(0 if oid == "base" else int(oid))
    if kind == b"m":
        return ManifestBegin()
    if kind == b"p":
        return None
    raise ReplicationProtocolError(f"BASE_BACKUP: unknown message type {kind!r}")
