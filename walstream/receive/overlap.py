"""Is this the server that our WAL came from? Its WAL is compared with what is stored.

A clone or a restored snapshot has the system identifier, the timeline and, with as much work done,
records of the same sizes at the same places: their chain fits by its shape. Only bytes tell. So
before anything is written the end of what is stored is asked for again. Which part of it tells
enough is for the store to say (``store/tail.py``).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from walstream.errors import ReplicationProtocolError, ServerRefused, WalDivergedError
from walstream.replication.copy_stream import CopyStream
from walstream.replication.libpq import ReplicationConnection
from walstream.replication.refusals import WAL_REMOVED
from walstream.replication.status import StatusSender
from walstream.wal.model import format_lsn
from walstream.wal.timeline import StoredWal

log = logging.getLogger("walstream.receiver")


async def compare_stored(
    connection: ReplicationConnection, stored: Sequence[StoredWal], segment_size: int
) -> None:
    """Asks for stored WAL again and compares it; without the slot, which may be past it.

    What the server has removed cannot be compared: of the rest all is, and what was not is logged.
    The connection is good for the next command afterwards.

    Raises:
        WalDivergedError: the server has other WAL.
        ConnectionLost, ServerRefused: the server's side failed.

    Cancellation: the connection is left in the middle of a command; close it.
    """
    compared = 0
    for piece in stored:
        begin, end = piece.begin, piece.begin + len(piece.data)
        while begin < end:
            try:
                await _compare(connection, piece, begin)
            except ServerRefused as exc:
                if exc.sqlstate != WAL_REMOVED:
                    raise
                begin += segment_size - begin % segment_size
                continue
            compared += end - begin
            break
    if stored and not compared:
        log.warning(
            "%s no longer has the WAL before %s that is stored here: it cannot be compared, so "
            "whether the server is the one that this WAL came from is not proven (system "
            "identifier, timeline and the chain of records are)",
            connection.name,
            format_lsn(stored[0].begin + len(stored[0].data)),
        )
    elif stored:
        log.info("the last %d bytes that are stored are the server's too", compared)


async def _compare(connection: ReplicationConnection, piece: StoredWal, begin: int) -> None:
    if await connection.start_replication(None, begin, piece.timeline) is not None:
        raise ReplicationProtocolError(
            f"START_REPLICATION: expected WAL of timeline {piece.timeline} at {format_lsn(begin)}, "
            "got its end"
        )
    copy, status = CopyStream(connection, "comparing what is stored"), StatusSender(connection)
    lsn, end = begin, piece.begin + len(piece.data)
    while lsn < end and (sent := await copy.next_wal(status)) is not None:
        if sent.start_lsn != lsn:
            raise ReplicationProtocolError(
                f"XLogData: expected {format_lsn(lsn)}, got {format_lsn(sent.start_lsn)}"
            )
        _check(piece, lsn, sent.data[: end - lsn])
        lsn += len(sent.data)
    await copy.close()
    if lsn < end:
        raise ReplicationProtocolError(
            f"timeline {piece.timeline}: expected WAL up to {format_lsn(end)}, the server "
            f"ended it at {format_lsn(lsn)}"
        )


def _check(piece: StoredWal, lsn: int, sent: memoryview) -> None:
    stored = memoryview(piece.data)[lsn - piece.begin :][: len(sent)]
    if stored == sent:
        return
    same = next(i for i, (a, b) in enumerate(zip(stored, sent, strict=True)) if a != b)
    raise WalDivergedError(
        f"the server's WAL is not what is stored, from {format_lsn(lsn + same)} on, timeline "
        f"{piece.timeline}: it is not the server that this WAL came from but one with another "
        "history (a clone, a restored snapshot), or the stored segment is damaged (walstream "
        "verify tells); nothing was written. Connect to the right server, or begin anew in an "
        "empty directory",
        lsn + same,
    )
