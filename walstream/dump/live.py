"""A live server as the source of WAL: streams it over a replication connection, keeps nothing."""

from __future__ import annotations

from collections.abc import Callable

import trio

from walstream.errors import ConnectionLost
from walstream.replication.copy_stream import CopyStream
from walstream.replication.libpq import connect
from walstream.replication.messages import NextTimeline
from walstream.replication.status import Report, StatusSender
from walstream.scanning.reading import Batch, Reading
from walstream.tasks.supervise import single_error
from walstream.wal.model import format_lsn

STATUS_INTERVAL_S = 10.0
# A server silent for that long is left; it is asked for a sign of life at half of it.
RECEIVE_TIMEOUT_S = 60.0


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
        lsn = reading.begin_at(identity.flush_lsn, segment_size)
        timeline = identity.timeline
        following: NextTimeline | None = NextTimeline(timeline, lsn)
        while following is not None and following.timeline:
            following = await connection.start_replication(None, lsn, following.timeline)
            if following is None:
                copy = CopyStream(connection, watched=True)
                if await _read(copy, reading, take):
                    return
                following = await copy.finish()
                assert reading.scanner is not None
                lsn = reading.scanner.feed_lsn
        raise ConnectionLost(f"the server ended the stream at {format_lsn(lsn)}")


async def _read(copy: CopyStream, reading: Reading, take: Callable[[Batch], bool]) -> bool:
    """Reads until COPY is over (returns False) or no more is wanted (True)."""

    def report() -> Report:
        assert reading.scanner is not None
        return Report(written_lsn=reading.scanner.feed_lsn)

    status = StatusSender(
        copy.connection, report, interval_s=STATUS_INTERVAL_S, timeout_s=RECEIVE_TIMEOUT_S
    )
    wanted = True
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(status.run)
            while wanted and (sent := await copy.next_wal(status)) is not None:
                await trio.lowlevel.checkpoint()
                batches = reading.feed(sent.start_lsn, bytes(sent.data))
                wanted = all(map(take, batches)) and reading.ending is None
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise single_error(group, (ConnectionLost,)) from group
    return not wanted
