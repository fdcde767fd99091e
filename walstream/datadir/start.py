"""What a server starts from: a control file and one WAL segment with one checkpoint in it. Pure.

The segment is the one after that of the LSN, on a timeline of its own, so every page is older than
the checkpoint and no WAL of the branch can be taken for the original's. The state says "in
production": the server recovers from a crash that left nothing to replay, which makes the unlogged
relations anew and takes the prepared transactions up.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from walstream.rmgr.xlog.records import CheckPoint
from walstream.segments.header import LongHeader
from walstream.segments.names import segment_file_name
from walstream.state.cluster import ClusterState
from walstream.state.control import DbState, encode_checkpoint
from walstream.wal.crc import crc32c
from walstream.wal.layout import SizeOfXLogLongPHD, SizeOfXLogRecord


class Identity(NamedTuple):
    """What makes a branch another cluster than its origin."""

    system_id: int
    timeline: int
    time_s: int


class Start(NamedTuple):
    """The files a server starts from; the segment is ``head`` and zeros behind it."""

    control: bytes
    segment_name: str
    segment_head: bytes
    checkpoint_lsn: int


def make_start(
    state: ClusterState,
    version: int,
    segment_size: int,
    identity: Identity,
    db_state: DbState = DbState.IN_PRODUCTION,
) -> Start:
    """Returns the start of a cluster in that state.

    ``db_state``: SHUTDOWNED for a standby, which takes connections at once and writes nothing.
    """
    number = state.lsn // segment_size + 1
    lsn = number * segment_size
    log = state.transactions
    point = CheckPoint(
        redo=lsn + SizeOfXLogLongPHD,
        timeline=identity.timeline,
        previous_timeline=identity.timeline,
        full_page_writes=state.full_page_writes,
        wal_level=state.parameters.wal_level if version >= 17 else None,
        next_xid=state.next_xid,
        next_oid=state.next_oid,
        next_multi=log.next_multi,
        next_multi_offset=log.next_offset,
        oldest_xid=state.oldest_xid,
        oldest_xid_db=state.oldest_xid_db,
        oldest_multi=log.oldest_multi,
        oldest_multi_db=log.oldest_multi_db,
        time_s=identity.time_s,
        oldest_commit_ts_xid=log.oldest_commit_ts,
        newest_commit_ts_xid=log.newest_commit_ts,
        oldest_active_xid=0,
    )
    control = state.control.replaced(
        system_id=identity.system_id,
        state=db_state,
        time_s=identity.time_s,
        checkpoint_lsn=point.redo,
        checkpoint=point,
        parameters=state.parameters,
    )
    header = LongHeader(version, identity.timeline, lsn, 0, identity.system_id, segment_size)
    head = header.encode() + shutdown_checkpoint_record(point)
    name = segment_file_name(identity.timeline, number, segment_size)
    return Start(control.data, name, head, point.redo)


def shutdown_checkpoint_record(point: CheckPoint) -> bytes:
    """Returns a CHECKPOINT_SHUTDOWN record that links to no record before it."""
    body = encode_checkpoint(point)
    data = bytes((0xFF, len(body))) + body
    # tot_len, xid, prev, info (CHECKPOINT_SHUTDOWN), rmid (XLOG), padding
    head = struct.pack("<IIQBB2x", SizeOfXLogRecord + len(data), 0, 0, 0, 0)
    return head + struct.pack("<I", crc32c(head, crc32c(data))) + data


def history_content(parents: bytes, timeline: int, switch_lsn: str) -> bytes:
    """Returns the history file of a branch that leaves ``timeline`` at ``switch_lsn``.

    ``parents``: the content of that timeline's own history file, in whatever encoding; empty for
    timeline 1.
    """
    if parents and not parents.endswith(b"\n"):
        parents += b"\n"
    return parents + f"{timeline}\t{switch_lsn}\tmaterialized by walstream\n".encode()
