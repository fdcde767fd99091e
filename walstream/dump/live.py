"""A live server as the source of WAL: streams it over a replication connection, keeps nothing."""

from __future__ import annotations

import time
from collections.abc import Callable

import trio

from walstream.errors import ConnectionLost
from walstream.replication.libpq import ReplicationConnection, connect
from walstream.replication.messages import (
    NextTimeline,
    PrimaryKeepAlive,
    decode_copy_message,
    encode_status_update,
)
from walstream.scanning.reading import Batch, Reading
from walstream.wal.model import POSTGRES_EPOCH_S, format_lsn

STATUS_INTERVAL_S = 10.0
# A server silent for that long is left; it is asked for a sign of life at each status before.
RECEIVE_TIMEOUT_S = 60.0
_PAGE = 8192
_PG_EPOCH_US = POSTGRES_EPOCH_S * 1_000_000


async def follow_server(conninfo: str, reading: Reading, take: Callable[[Batch], bool]) -> None:
    """Streams from ``reading.start_lsn`` (or the server's position) and hands over what comes.

    Ends when ``take`` returns False or ``reading`` has reached its end. No slot is used, and
    nothing is reported as flushed: the server keeps no WAL for us.

    Raises:
        ConnectionLost, ServerRefused: no connection, or it ended.
        WalError: the WAL is damaged.

    Cancellation: the connection is closed; what was handed over stays handed over.
    """
    with await connect(conninfo, application_name="walstream dump") as connection:
        identity = await connection.identify_system()
        segment_size = await connection.segment_size()
        if reading.asked_start is None:
            reading.asked_start = reading.start_lsn = identity.flush_lsn
        # From the start of the page: its header says where the record under way ends.
        lsn = reading.start_lsn - reading.start_lsn % _PAGE
        reading.begin(lsn, segment_size)
        timeline = identity.timeline
        following: NextTimeline | None = NextTimeline(timeline, lsn)
        while following is not None and following.timeline:
            following = await connection.start_replication(None, lsn, following.timeline)
            if following is None:
                if await _read(connection, reading, take):
                    return
                following = await connection.finish_copy()
                assert reading.scanner is not None
                lsn = reading.scanner.feed_lsn
        raise ConnectionLost(f"the server ended the stream at {format_lsn(lsn)}")


async def _read(
    connection: ReplicationConnection, reading: Reading, take: Callable[[Batch], bool]
) -> bool:
    """Reads until COPY is over (returns False) or no more is wanted (True)."""
    heard = trio.current_time()
    next_status = heard + STATUS_INTERVAL_S
    while True:
        message = connection.poll_copy()
        if message is None:
            if connection.copy_ended:
                await trio.lowlevel.checkpoint()
                return False
            # TLS may hold decrypted bytes while the socket is quiet: look again after a second.
            patience = trio.current_time() + 1.0 if connection.uses_tls else next_status
            with trio.move_on_at(min(patience, next_status)):
                await connection.wait_input()
            connection.take_input()
            silent_s = trio.current_time() - heard
            if silent_s >= RECEIVE_TIMEOUT_S:
                raise ConnectionLost(f"no message from the server for {silent_s:.0f} s")
            if trio.current_time() >= next_status:
                await _send_status(connection, reading, reply_requested=True)
                next_status = trio.current_time() + STATUS_INTERVAL_S
            continue
        await trio.lowlevel.checkpoint()
        heard = trio.current_time()
        decoded = decode_copy_message(message)
        if isinstance(decoded, PrimaryKeepAlive):
            if decoded.reply_requested:
                await _send_status(connection, reading)
            continue
        for batch in reading.feed(decoded.start_lsn, bytes(decoded.data)):
            if not take(batch):
                return True
        if reading.ending is not None:
            return True


async def _send_status(
    connection: ReplicationConnection, reading: Reading, *, reply_requested: bool = False
) -> None:
    assert reading.scanner is not None
    now_us = int(time.time() * 1e6) - _PG_EPOCH_US
    status = encode_status_update(reading.scanner.feed_lsn, 0, 0, now_us, reply_requested)
    await connection.send_copy(status)
