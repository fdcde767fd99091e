"""From where PostgreSQL goes on from the pages of a moment: the last checkpoint before it.

A synthetic base is what a crash at X would have left, seen by a server that then replays real WAL:
every page already has all records up to X, and recovery repeats them from the redo point of the
last checkpoint before X, as it does for any base backup, whose pages are newer than its start too.
Pages that have a record are passed over by their LSN, or made anew by an image; what is beside the
pages is written again with the same values. It is consistent when it has come to X.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from walstream.errors import LsnNotAvailable
from walstream.index.ends import end_events
from walstream.index.page_index import Event
from walstream.rmgr import xact
from walstream.rmgr.xlog import records as xlog
from walstream.rmgr.xlog.records import CheckPoint
from walstream.segments.names import segment_file_name
from walstream.state.cluster import (
    RM_DBASE,
    RM_TBLSPC,
    RM_XACT,
    RM_XLOG,
    ClusterState,
    StateSource,
    cluster_state,
)
from walstream.state.control import DbState, Parameters
from walstream.wal.model import format_lsn
from walstream.wal.opcodes import XLOG_DBASE_CREATE_FILE_COPY, XLOG_TBLSPC_CREATE
from walstream.wal.timeline import TimelineHistory, TimelinePart

# Records whose replay looks at more than what it changes, and so cannot be repeated over a newer
# state: a copied database would get the pages that its source has now, and the directory of a
# tablespace would be where it was on the server.
UNREPEATABLE = {
    (RM_DBASE, XLOG_DBASE_CREATE_FILE_COPY): "CREATE DATABASE by file copy",
    (RM_TBLSPC, XLOG_TBLSPC_CREATE): "CREATE TABLESPACE",
}


class Restart(NamedTuple):
    """A moment and where recovery to it and beyond begins.

    ``state`` is that of the moment, ``state.lsn`` the moment. ``parameters``: as of the
    checkpoint's redo point. ``prepared``: the xids of PREPARE records since then. ``passed_over``:
    why the moment is earlier than it might be, "" where it is not.
    """

    state: ClusterState
    checkpoint_lsn: int
    parameters: Parameters
    prepared: frozenset[int]
    passed_over: str

    @property
    def checkpoint(self) -> CheckPoint:
        return self.state.checkpoint


def find_restart(source: StateSource, at_lsn: int) -> Restart:
    """Returns the newest moment at or before ``at_lsn`` that recovery can go on from. Blocks.

    That is the end of the last record, or the start of one that cannot be repeated where no
    checkpoint follows it.

    Raises:
        LsnNotAvailable: there is none since the base backup, or its state cannot be told.
        WalError, StorageError, StoreError: the backup or WAL cannot be read.
    """
    passed_over = ""
    lsn = at_lsn
    while True:
        if lsn < source.backup.stop_lsn:
            raise LsnNotAvailable(
                f"no base can be made at {format_lsn(at_lsn)}: {passed_over}, and the base backup "
                f"before it ends at {format_lsn(source.backup.stop_lsn)}; there will be one after "
                "the server's next checkpoint"
            )
        state = cluster_state(source, lsn)
        since = list(end_events(source.index, state.checkpoint.redo, state.lsn))
        kept = next((event for event in since if _kind(event) in UNREPEATABLE), None)
        if kept is None:
            return _restart(source, state, since, passed_over)
        lsn = kept.start_lsn
        passed_over = (
            f"{UNREPEATABLE[_kind(kept)]} at {format_lsn(lsn)} was followed by no checkpoint"
        )


def _kind(event: Event) -> tuple[int, int]:
    return event.rmgr_id, event.info & 0xF0


def _restart(
    source: StateSource, state: ClusterState, since: list[Event], passed_over: str
) -> Restart:
    checkpoint_lsn = source.backup.checkpoint_lsn
    prepared = set()
    parameters = state.parameters
    for event in since:
        if event.rmgr_id == RM_XLOG:
            op = event.info & 0xF0
            if op in (xlog.CHECKPOINT_SHUTDOWN, xlog.CHECKPOINT_ONLINE):
                checkpoint_lsn = event.start_lsn
            elif op == xlog.PARAMETER_CHANGE:
                parameters = _parameters_at(source, state.checkpoint.redo)
        elif event.rmgr_id == RM_XACT and event.info & xact.OP_MASK == xact.PREPARE:
            prepared.add(event.xid)
    return Restart(state, checkpoint_lsn, parameters, frozenset(prepared), passed_over)


def _parameters_at(source: StateSource, redo_lsn: int) -> Parameters:
    """Returns the parameters before a change of them is replayed."""
    if redo_lsn >= source.backup.stop_lsn:
        return cluster_state(source, redo_lsn).parameters
    return ClusterState(source).parameters


def wal_ranges(history: TimelineHistory, begin: int, end: int) -> list[TimelinePart]:
    """Returns which timelines hold WAL ``[begin, end)``, oldest first."""
    return [
        TimelinePart(part.timeline, max(part.begin, begin), min(part.end, end))
        for part in history.parts
        if part.begin < end and part.end > begin
    ]


def backup_label(restart: Restart, segment_size: int) -> bytes:
    """Returns ``backup_label``: recovery begins at the checkpoint and is consistent at the moment.

    It says that a standby was backed up: there the control file, and no record, tells where the
    backup ends (read_backup_label, InitWalRecovery).
    """
    point = restart.checkpoint
    name = segment_file_name(point.timeline, point.redo // segment_size, segment_size)
    when = time.strftime("%Y-%m-%d %H:%M:%S GMT", time.gmtime(point.time_s))
    return (
        f"START WAL LOCATION: {format_lsn(point.redo)} (file {name})\n"
        f"CHECKPOINT LOCATION: {format_lsn(restart.checkpoint_lsn)}\n"
        "BACKUP METHOD: streamed\n"
        "BACKUP FROM: standby\n"
        f"START TIME: {when}\n"
        f"LABEL: walstream base advance to {format_lsn(restart.state.lsn)}\n"
        f"START TIMELINE: {point.timeline}\n"
    ).encode()


def control_file(restart: Restart, stop_timeline: int) -> bytes:
    """Returns ``global/pg_control``: a standby's that was backed up when it had come to X."""
    state, point = restart.state, restart.checkpoint
    return state.control.replaced(
        system_id=state.control.system_id,
        state=DbState.IN_ARCHIVE_RECOVERY,
        time_s=point.time_s,
        checkpoint_lsn=restart.checkpoint_lsn,
        checkpoint=point,
        parameters=restart.parameters,
        consistent_at=(state.lsn, stop_timeline),
    ).data
