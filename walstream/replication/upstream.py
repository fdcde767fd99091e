"""Asks a server for everything that decides where streaming can start."""

from __future__ import annotations

from walstream.errors import ReplicationProtocolError, ServerRefused
from walstream.replication.libpq import ReplicationConnection
from walstream.replication.refusals import NO_SUCH_SLOT, SLOT_UNUSABLE
from walstream.wal.segment import is_valid_segment_size
from walstream.wal.timeline import TimelineHistory, TimelinePart, Upstream, parse_history


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
                f"replication slot {slot!r} does not exist; create it with --create-slot",
                NO_SUCH_SLOT,
            )
        if position.slot_type != "physical":
            raise ServerRefused(
                f"replication slot {slot!r} is {position.slot_type}, not physical", SLOT_UNUSABLE
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
        connection.in_recovery,
    )
