"""XLOG: checkpoints, parameters, page images (pg_control.h, xlog_internal.h, xlogdesc.c)."""

from __future__ import annotations

from typing import Any, NamedTuple

from walstream.rmgr.layout import Layout
from walstream.rmgr.op import Op
from walstream.wal import opcodes

CHECKPOINT_SHUTDOWN = opcodes.XLOG_CHECKPOINT_SHUTDOWN
CHECKPOINT_ONLINE = opcodes.XLOG_CHECKPOINT_ONLINE
NOOP = opcodes.XLOG_NOOP
NEXTOID = opcodes.XLOG_NEXTOID
SWITCH = opcodes.XLOG_SWITCH
BACKUP_END = opcodes.XLOG_BACKUP_END
PARAMETER_CHANGE = opcodes.XLOG_PARAMETER_CHANGE
RESTORE_POINT = opcodes.XLOG_RESTORE_POINT
FPW_CHANGE = opcodes.XLOG_FPW_CHANGE
END_OF_RECOVERY = opcodes.XLOG_END_OF_RECOVERY
FPI_FOR_HINT = opcodes.XLOG_FPI_FOR_HINT
FPI = opcodes.XLOG_FPI
OVERWRITE_CONTRECORD = opcodes.XLOG_OVERWRITE_CONTRECORD
CHECKPOINT_REDO = opcodes.XLOG_CHECKPOINT_REDO


class CheckPoint(NamedTuple):
    """A checkpoint record (CheckPoint of pg_control.h).

    ``redo`` is where recovery would begin; ``wal_level`` is None before 17; ``next_xid`` is the
    64-bit one; ``time_s`` is seconds since 1970; ``oldest_active_xid`` is 0 at shutdown.
    """

    redo: int
    timeline: int
    previous_timeline: int
    full_page_writes: bool
    wal_level: int | None
    next_xid: int
    next_oid: int
    next_multi: int
    next_multi_offset: int
    oldest_xid: int
    oldest_xid_db: int
    oldest_multi: int
    oldest_multi_db: int
    time_s: int
    oldest_commit_ts_xid: int
    newest_commit_ts_xid: int
    oldest_active_xid: int


# 17 added wal_level, into what was padding: the fields behind it did not move.
_HEAD = "redo lsn, timeline u32, previous_timeline u32, full_page_writes bool, "
_TAIL = (
    "next_xid fullxid, next_oid oid, next_multi u32, next_multi_offset u32, oldest_xid xid, "
    "oldest_xid_db oid, oldest_multi u32, oldest_multi_db oid, time_s i64, "
    "oldest_commit_ts_xid xid, newest_commit_ts_xid xid, oldest_active_xid xid"
)
CHECKPOINT_14 = Layout(_HEAD + _TAIL)
CHECKPOINT_17 = Layout(_HEAD + "wal_level i32, " + _TAIL)


def parse_checkpoint(main_data: bytes, version: int) -> CheckPoint:
    """Returns the body of CHECKPOINT_SHUTDOWN or CHECKPOINT_ONLINE.

    Raises:
        RecordError: the body is too short.
    """
    layout = CHECKPOINT_17 if version >= 17 else CHECKPOINT_14
    values: dict[str, Any] = {"wal_level": None, **layout.unpack(main_data)}
    return CheckPoint(**values)


class EndOfRecovery(NamedTuple):
    """Recovery ended and writing begins on ``timeline`` (xl_end_of_recovery)."""

    time_us: int
    timeline: int
    previous_timeline: int


RECOVERY_14 = Layout("time_us time, timeline u32, previous_timeline u32")
RECOVERY_17 = Layout("time_us time, timeline u32, previous_timeline u32, wal_level i32")


def parse_end_of_recovery(main_data: bytes) -> EndOfRecovery:
    """Returns the body of END_OF_RECOVERY.

    Raises:
        RecordError: the body is too short.
    """
    values: dict[str, Any] = {**RECOVERY_14.unpack(main_data)}
    return EndOfRecovery(**values)


PARAMETERS = Layout(
    "max_connections i32, max_worker_processes i32, max_wal_senders i32, max_prepared_xacts i32, "
    "max_locks_per_xact i32, wal_level i32, wal_log_hints bool, track_commit_timestamp bool"
)
LEVEL = Layout("wal_level i32")
OVERWRITTEN = Layout("overwritten_lsn lsn, overwrite_time time")
RESTORE = Layout("rp_time time, rp_name text")


def _checkpoint(kind: str) -> tuple[Op, ...]:
    head = "redo {redo}; tli {timeline}; prev tli {previous_timeline}; "
    head += "fpw {full_page_writes:true|false}; "
    tail = (
        "xid {next_xid}; oid {next_oid}; multi {next_multi}; offset {next_multi_offset}; "
        "oldest xid {oldest_xid} in DB {oldest_xid_db}; "
        "oldest multi {oldest_multi} in DB {oldest_multi_db}; "
        "oldest/newest commit timestamp xid: {oldest_commit_ts_xid}/{newest_commit_ts_xid}; "
        "oldest running xid {oldest_active_xid}; "
    )
    name = f"CHECKPOINT_{kind.upper()}"
    return (
        Op(14, name, CHECKPOINT_14, head + tail + kind),
        Op(17, name, CHECKPOINT_17, head + "wal_level {wal_level:@wal_level}; " + tail + kind),
    )


_RECOVERY = "tli {timeline}; prev tli {previous_timeline}; time {time_us}"
_PARAMETERS = (
    "max_connections={max_connections} max_worker_processes={max_worker_processes} "
    "max_wal_senders={max_wal_senders} max_prepared_xacts={max_prepared_xacts} "
    "max_locks_per_xact={max_locks_per_xact} wal_level={wal_level:@wal_level} "
    "wal_log_hints={wal_log_hints:on|off} track_commit_timestamp={track_commit_timestamp:on|off}"
)

OPS = {
    CHECKPOINT_SHUTDOWN: _checkpoint("shutdown"),
    CHECKPOINT_ONLINE: _checkpoint("online"),
    NOOP: (Op(14, "NOOP"),),
    NEXTOID: (Op(14, "NEXTOID", Layout("next_oid oid"), "{next_oid}"),),
    SWITCH: (Op(14, "SWITCH"),),
    BACKUP_END: (Op(14, "BACKUP_END", Layout("start_lsn lsn"), "{start_lsn}"),),
    PARAMETER_CHANGE: (Op(14, "PARAMETER_CHANGE", PARAMETERS, _PARAMETERS),),
    RESTORE_POINT: (Op(14, "RESTORE_POINT", RESTORE, "{rp_name}"),),
    FPW_CHANGE: (Op(14, "FPW_CHANGE", Layout("fpw bool"), "{fpw:true|false}"),),
    END_OF_RECOVERY: (
        Op(14, "END_OF_RECOVERY", RECOVERY_14, _RECOVERY),
        Op(17, "END_OF_RECOVERY", RECOVERY_17, _RECOVERY + "; wal_level {wal_level:@wal_level}"),
    ),
    FPI_FOR_HINT: (Op(14, "FPI_FOR_HINT"),),
    FPI: (Op(14, "FPI"),),
    OVERWRITE_CONTRECORD: (
        Op(14, "OVERWRITE_CONTRECORD", OVERWRITTEN, "lsn {overwritten_lsn}; time {overwrite_time}"),
    ),
    CHECKPOINT_REDO: (Op(17, "CHECKPOINT_REDO", LEVEL, "wal_level {wal_level:@wal_level}"),),
}
