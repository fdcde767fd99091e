"""Transaction: commit, abort, prepare, assignment, invalidations (xact.h, xactdesc.c)."""

from __future__ import annotations

from typing import NamedTuple

from walstream.rmgr.clock import format_time
from walstream.rmgr.layout import Cursor, Layout, Value
from walstream.rmgr.op import Op
from walstream.rmgr.standby import Message, describe_invalidations, read_messages
from walstream.rmgr.storage import path_of
from walstream.rmgr.view import View
from walstream.wal import opcodes
from walstream.wal.model import RelFileLocator, format_lsn

OP_MASK = opcodes.XLOG_XACT_OPMASK
COMMIT = opcodes.XLOG_XACT_COMMIT
PREPARE = opcodes.XLOG_XACT_PREPARE
ABORT = opcodes.XLOG_XACT_ABORT
COMMIT_PREPARED = opcodes.XLOG_XACT_COMMIT_PREPARED
ABORT_PREPARED = opcodes.XLOG_XACT_ABORT_PREPARED
ASSIGNMENT = opcodes.XLOG_XACT_ASSIGNMENT
INVALIDATIONS = opcodes.XLOG_XACT_INVALIDATIONS
ENDS = (COMMIT, ABORT, COMMIT_PREPARED, ABORT_PREPARED)
HAS_INFO = opcodes.XLOG_XACT_HAS_INFO

HAS_DBINFO = 1 << 0
HAS_SUBXACTS = 1 << 1
HAS_RELFILELOCATORS = 1 << 2
HAS_INVALS = 1 << 3
HAS_TWOPHASE = 1 << 4
HAS_ORIGIN = 1 << 5
HAS_GID = 1 << 7
HAS_DROPPED_STATS = 1 << 8
APPLY_FEEDBACK = 1 << 29
UPDATE_RELCACHE_FILE = 1 << 30
FORCE_SYNC_COMMIT = 1 << 31


class DroppedStats(NamedTuple):
    """A statistics entry to drop (xl_xact_stats_item; 15 and later)."""

    kind: int
    db_oid: int
    object_id: int


class XactEnd(NamedTuple):
    """The body of COMMIT, ABORT, COMMIT_PREPARED or ABORT_PREPARED.

    ``time_us`` is microseconds since 2000-01-01. ``twophase_xid`` is the transaction that a
    ``*_PREPARED`` record ends (0 otherwise: then it is the record's own xid).
    """

    time_us: int
    xinfo: int
    db_oid: int
    spc_oid: int
    subxids: tuple[int, ...]
    dropped: tuple[RelFileLocator, ...]
    dropped_stats: tuple[DroppedStats, ...]
    messages: tuple[Message, ...]
    twophase_xid: int
    gid: str
    origin_lsn: int
    origin_time_us: int


class XactPrepare(NamedTuple):
    """The body of PREPARE: the head of the two-phase state file (xl_xact_prepare)."""

    xid: int
    db_oid: int
    time_us: int
    owner: int
    gid: str
    subxids: tuple[int, ...]
    commit_dropped: tuple[RelFileLocator, ...]
    abort_dropped: tuple[RelFileLocator, ...]
    commit_stats: tuple[DroppedStats, ...]
    abort_stats: tuple[DroppedStats, ...]
    messages: tuple[Message, ...]
    init_file_inval: bool
    origin_lsn: int
    origin_time_us: int


def read_stats(cursor: Cursor, count: int, version: int) -> tuple[DroppedStats, ...]:
    # 12 bytes in 15 to 17; 18 made the object id 64 bits, in two halves.
    if version >= 18:
        numbers = cursor.integers("u32", 4 * count)
        return tuple(
            DroppedStats(signed(numbers[i]), numbers[i + 1], numbers[i + 3] << 32 | numbers[i + 2])
            for i in range(0, 4 * count, 4)
        )
    numbers = cursor.integers("u32", 3 * count)
    return tuple(
        DroppedStats(signed(numbers[i]), numbers[i + 1], numbers[i + 2])
        for i in range(0, 3 * count, 3)
    )


def signed(value: int) -> int:
    return value - (1 << 32) if value >= 1 << 31 else value


class XactDrops(NamedTuple):
    """What of a commit or abort record the index keeps. As in ``XactEnd``."""

    time_us: int
    dropped: tuple[RelFileLocator, ...]
    twophase_xid: int
    subxids: tuple[int, ...] = ()


def parse_drops(main_data: bytes, info: int, version: int) -> XactDrops:
    """Returns what the index keeps of a commit or abort record; passes over what is not asked.

    Raises:
        RecordError: the body is shorter than its flags say, up to the last field that is read.
    """
    cursor = Cursor(main_data)
    time_us = cursor.integer("i64")
    xinfo = cursor.integer() if info & HAS_INFO else 0
    dropped: tuple[RelFileLocator, ...] = ()
    subxids: tuple[int, ...] = ()
    if xinfo & (HAS_SUBXACTS | HAS_RELFILELOCATORS | HAS_TWOPHASE) == 0:
        return XactDrops(time_us, dropped, 0)
    if xinfo & HAS_DBINFO:
        cursor.skip(8)
    if xinfo & HAS_SUBXACTS:
        subxids = cursor.integers("u32", cursor.integer("i32"))
    if xinfo & HAS_RELFILELOCATORS:
        dropped = cursor.locators(cursor.integer("i32"))
    if xinfo & HAS_TWOPHASE == 0:
        return XactDrops(time_us, dropped, 0, subxids)
    if xinfo & HAS_DROPPED_STATS and version >= 15:
        cursor.skip((16 if version >= 18 else 12) * cursor.integer("i32"))
    if xinfo & HAS_INVALS and info & OP_MASK in (COMMIT, COMMIT_PREPARED):
        cursor.skip(16 * cursor.integer("i32"))
    return XactDrops(time_us, dropped, cursor.integer(), subxids)


def parse_end(main_data: bytes, info: int, version: int) -> XactEnd:
    """Returns the body of a commit or abort record (ParseCommitRecord, ParseAbortRecord).

    Args:
        main_data: the main data of the record.
        info: its whole xl_info byte.
        version: major version that wrote it.

    Raises:
        RecordError: the body is shorter than its flags say.
    """
    cursor = Cursor(main_data)
    time_us = cursor.integer("i64")
    xinfo = cursor.integer() if info & HAS_INFO else 0
    is_commit = info & OP_MASK in (COMMIT, COMMIT_PREPARED)
    db_oid = spc_oid = twophase_xid = origin_lsn = origin_time = 0
    subxids: tuple[int, ...] = ()
    dropped: tuple[RelFileLocator, ...] = ()
    stats: tuple[DroppedStats, ...] = ()
    messages: tuple[Message, ...] = ()
    gid = ""
    if xinfo & HAS_DBINFO:
        db_oid, spc_oid = cursor.integers("u32", 2)
    if xinfo & HAS_SUBXACTS:
        subxids = cursor.integers("u32", cursor.integer("i32"))
    if xinfo & HAS_RELFILELOCATORS:
        dropped = cursor.locators(cursor.integer("i32"))
    if xinfo & HAS_DROPPED_STATS and version >= 15:
        stats = read_stats(cursor, cursor.integer("i32"), version)
    if xinfo & HAS_INVALS and is_commit:
        messages = read_messages(cursor, cursor.integer("i32"))
    if xinfo & HAS_TWOPHASE:
        twophase_xid = cursor.integer()
        if xinfo & HAS_GID:
            gid = cursor.text()
    if xinfo & HAS_ORIGIN:
        origin_lsn = cursor.integer("u64")
        origin_time = cursor.integer("i64")
    return XactEnd(
        time_us, xinfo, db_oid, spc_oid, subxids, dropped, stats, messages, twophase_xid, gid,
        origin_lsn, origin_time,
    )  # fmt: skip


PREPARE_HEAD = {
    14: Layout(
        "magic u32, total_len u32, xid xid, database oid, prepared_at time, owner oid, "
        "nsubxacts i32, ncommitrels i32, nabortrels i32, ninvalmsgs i32, initfileinval bool, "
        "gidlen u16, origin_lsn lsn, origin_timestamp time"
    ),
    15: Layout(
        "magic u32, total_len u32, xid xid, database oid, prepared_at time, owner oid, "
        "nsubxacts i32, ncommitrels i32, nabortrels i32, ncommitstats i32, nabortstats i32, "
        "ninvalmsgs i32, initfileinval bool, gidlen u16, origin_lsn lsn, origin_timestamp time"
    ),
}


def parse_prepare(main_data: bytes, version: int) -> XactPrepare:
    """Returns the body of a PREPARE record (ParsePrepareRecord).

    Raises:
        RecordError: the body is shorter than its counts say.
    """
    layout = PREPARE_HEAD[15 if version >= 15 else 14]
    head = layout.unpack(main_data)
    number = {name: int(value) for name, value in head.items() if isinstance(value, int)}
    cursor = Cursor(main_data)
    cursor.skip(layout.size)
    cursor.align()
    gid = main_data[cursor.skip(number["gidlen"]) :][: number["gidlen"]]
    cursor.align()
    subxids = cursor.integers("u32", number["nsubxacts"])
    cursor.align()
    commit_dropped = cursor.locators(number["ncommitrels"])
    cursor.align()
    abort_dropped = cursor.locators(number["nabortrels"])
    cursor.align()
    commit_stats = read_stats(cursor, number.get("ncommitstats", 0), version)
    cursor.align()
    abort_stats = read_stats(cursor, number.get("nabortstats", 0), version)
    cursor.align()
    messages = read_messages(cursor, number["ninvalmsgs"])
    return XactPrepare(
        number["xid"], number["database"], number["prepared_at"], number["owner"],
        gid.split(b"\0")[0].decode("utf-8", "backslashreplace"), subxids, commit_dropped,
        abort_dropped, commit_stats, abort_stats, messages, bool(head["initfileinval"]),
        number["origin_lsn"], number["origin_timestamp"],
    )  # fmt: skip


def relations_text(label: str, dropped: tuple[RelFileLocator, ...], version: int) -> str:
    if not dropped:
        return ""
    return f"; {label}: " + " ".join(path_of(locator, 0, version) for locator in dropped)


def subxacts_text(subxids: tuple[int, ...]) -> str:
    return "; subxacts: " + " ".join(map(str, subxids)) if subxids else ""


def stats_text(label: str, stats: tuple[DroppedStats, ...]) -> str:
    if not stats:
        return ""
    items = " ".join(f"{item.kind}/{item.db_oid}/{item.object_id}" for item in stats)
    return f"; {label}dropped stats: {items}"


def origin_text(node: int, lsn: int, time_us: int) -> str:
    return f"; origin: node {node}, lsn {format_lsn(lsn)}, at {format_time(time_us)}"


def describe_end(view: View) -> str:
    end = parse_end(view.main, view.info, view.version)
    text = f"{end.twophase_xid}: " if end.twophase_xid else ""
    text += format_time(end.time_us)
    text += relations_text("rels", end.dropped, view.version)
    text += subxacts_text(end.subxids)
    stats = stats_text("", end.dropped_stats)
    origin = ""
    if end.xinfo & HAS_ORIGIN:
        origin = origin_text(view.origin, end.origin_lsn, end.origin_time_us)
    if view.info & OP_MASK in (ABORT, ABORT_PREPARED):
        return text + origin + stats
    text += stats + describe_invalidations(
        end.messages, end.db_oid, end.spc_oid, bool(end.xinfo & UPDATE_RELCACHE_FILE)
    )
    if end.xinfo & APPLY_FEEDBACK:
        text += "; apply_feedback"
    if end.xinfo & FORCE_SYNC_COMMIT:
        text += "; sync"
    return text + origin


def describe_prepare(view: View) -> str:
    prepare = parse_prepare(view.main, view.version)
    text = f"gid {prepare.gid}: {format_time(prepare.time_us)}"
    text += relations_text("rels(commit)", prepare.commit_dropped, view.version)
    text += relations_text("rels(abort)", prepare.abort_dropped, view.version)
    text += stats_text("commit ", prepare.commit_stats)
    text += stats_text("abort ", prepare.abort_stats)
    text += subxacts_text(prepare.subxids)
    # As in PostgreSQL, which leaves the tablespace of a prepared transaction at 0 here.
    text += describe_invalidations(prepare.messages, prepare.db_oid, 0, prepare.init_file_inval)
    if view.origin:
        text += origin_text(view.origin, prepare.origin_lsn, prepare.origin_time_us)
    return text


ASSIGNED = Layout("xtop xid, nsubxacts i32, xsub xid[nsubxacts]")
INVALS = Layout("nmsgs i32, msgs message[nmsgs]")


def describe_assignment(view: View) -> str:
    cursor = Cursor(view.main)
    top = cursor.integer()
    subxids = cursor.integers("u32", max(cursor.integer("i32"), 0))
    return f"xtop {top}: subxacts:" + "".join(f" {xid}" for xid in subxids)


def describe_xact_invalidations(view: View) -> str:
    cursor = Cursor(view.main)
    messages = read_messages(cursor, cursor.integer("i32"))
    return describe_invalidations(messages, 0, 0, False)


def end_fields(view: View, fields: dict[str, Value]) -> None:
    end = parse_end(view.main, view.info, view.version)._asdict()
    fields["xact_time"] = end.pop("time_us")
    fields.update((name, value) for name, value in end.items() if value or name == "xinfo")


def prepare_fields(view: View, fields: dict[str, Value]) -> None:
    prepare = parse_prepare(view.main, view.version)._asdict()
    fields.update((name, value) for name, value in prepare.items() if value)


TIME = Layout("xact_time time")
_BARE = '"xact_time": {xact_time:number}, "xinfo": 0'
_FORMS = {
    COMMIT: (Op(14, "COMMIT", TIME, "{xact_time}", end_fields, _BARE),),
    PREPARE: (Op(14, "PREPARE", Layout(), describe_prepare, prepare_fields),),
    ABORT: (Op(14, "ABORT", TIME, "{xact_time}", end_fields, _BARE),),
    COMMIT_PREPARED: (Op(14, "COMMIT_PREPARED", TIME, "{xact_time}", end_fields, _BARE),),
    ABORT_PREPARED: (Op(14, "ABORT_PREPARED", TIME, "{xact_time}", end_fields, _BARE),),
    ASSIGNMENT: (Op(14, "ASSIGNMENT", ASSIGNED, describe_assignment),),
    INVALIDATIONS: (Op(14, "INVALIDATION", INVALS, describe_xact_invalidations),),
}
# The high bit says that more than the time follows: without it the line is the time alone.
OPS = _FORMS | {
    code | HAS_INFO: tuple(
        form._replace(text=describe_end, fields=None) if code in ENDS else form for form in forms
    )
    for code, forms in _FORMS.items()
}
