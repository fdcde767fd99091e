"""A live server as the source of WAL: streams it over a replication connection, keeps nothing."""

from __future__ import annotations

from collections.abc import Callable

import trio

from walstream.errors import ConnectionLost
from walstream.replication.copy_stream import CopyStream
from walstream.replication.libpq import connect
from walstream.replication.messages import NextTimeline
from walstream.replication.status import Report, StatusSender
from walstream.scanning.output import Item
from walstream.scanning.stream_scan import StreamScan
from walstream.tasks.supervise import single_error
from walstream.wal.model import format_lsn

STATUS_INTERVAL_S = 10.0
# A server silent for that long is left; it is asked for a sign of life at half of it.
RECEIVE_TIMEOUT_S = 60.0


async def follow_server(
    conninfo: str, scan: StreamScan[Item], take: Callable[[Item], bool]
) -> None:
    """Streams from ``scan.start_lsn`` (or the server's position) and hands over what comes.

    Ends when ``take`` returns False or ``scan`` has reached its end. No slot is used, and
    nothing is reported as flushed: the server keeps no WAL for us.

    Raises:
        ConnectionLost, ServerRefused: no connection, or it ended.
        WalError: the WAL is damaged.

    Cancellation: the connection is closed; what was handed over stays handed over.
    """
    with await connect(conninfo, application_name="walstream dump") as connection:
        identity = await connection.identify_system()
        segment_size = await connection.segment_size()
        lsn = scan.begin_at(identity.flush_lsn, segment_size)
        timeline = identity.timeline
        following: NextTimeline | None = NextTimeline(timeline, lsn)
        while following is not None and following.timeline:
            following = await connection.start_replication(None, lsn, following.timeline)
            if following is None:
                copy = CopyStream(connection, watched=True)
                if await _read(copy, scan, take):
                    return
                following = await copy.finish()
                lsn = scan.feed_lsn
        raise ConnectionLost(f"the server ended the stream at {format_lsn(lsn)}")


async def _read(copy: CopyStream, scan: StreamScan[Item], take: Callable[[Item], bool]) -> bool:
    """Reads until COPY is over (returns False) or no more is wanted (True)."""

    status = StatusSender(
        copy.connection,
        lambda: Report(written_lsn=scan.feed_lsn),
        interval_s=STATUS_INTERVAL_S,
        timeout_s=RECEIVE_TIMEOUT_S,
    )
    wanted = True
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(status.run)
            while wanted and (sent := await copy.next_wal(status)) is not None:
                await trio.lowlevel.checkpoint()
                items = scan.feed(sent.start_lsn, bytes(sent.data))
                wanted = all(map(take, items)) and scan.ending is None
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise single_error(group, (ConnectionLost,)) from group
    return not wanted
