"""Standby: locks, running transactions, cache invalidations (standbydefs.h, standbydesc.c)."""

from __future__ import annotations

import struct
from typing import NamedTuple

from walstream.rmgr.layout import Cursor, Layout
from walstream.rmgr.op import Op
from walstream.rmgr.view import View
from walstream.wal.opcodes import XLOG_INVALIDATIONS, XLOG_RUNNING_XACTS, XLOG_STANDBY_LOCK

_MESSAGE = struct.Struct("<b3xII4x")


class Message(NamedTuple):
    """A SharedInvalidationMessage: its id, and the two numbers that most kinds have."""

    id: int
    db_oid: int
    object_oid: int


def read_messages(cursor: Cursor, count: int) -> tuple[Message, ...]:
    """Returns ``count`` messages of 16 bytes."""
    at = cursor.skip(_MESSAGE.size * count)
    return tuple(
        Message(*_MESSAGE.unpack_from(cursor.data, at + i * _MESSAGE.size)) for i in range(count)
    )


def message_text(message: Message) -> str:
    match message.id:
        case -1:
            return f" catalog {message.object_oid}"
        case -2:
            return f" relcache {message.object_oid}"
        case -3:
            return " smgr"
        case -4:
            return f" relmap db {message.db_oid}"
        case -5:
            return f" snapshot {message.object_oid}"
        case -6:  # 18 and later
            return f" relsync {message.object_oid}"
        case other if other >= 0:
            return f" catcache {other}"
        case other:
            return f" unrecognized id {other}"


def describe_invalidations(
    messages: tuple[Message, ...], db_oid: int, spc_oid: int, init_file_inval: bool
) -> str:
    """Returns the words for invalidation messages (standby_desc_invalidations)."""
    if not messages:
        return ""
    text = ""
    if init_file_inval:
        text = f"; relcache init file inval dbid {db_oid} tsid {spc_oid}"
    return text + "; inval msgs:" + "".join(map(message_text, messages))


LOCKS = Layout("nlocks i32, locks lock[nlocks]")
RUNNING = Layout(
    "xcnt i32, subxcnt i32, subxid_overflow bool, next_xid xid, oldest_running_xid xid, "
    "latest_completed_xid xid, xids xid[*]"
)
INVALS = Layout(
    "db_oid oid, spc_oid oid, relcache_init_file_inval bool, nmsgs i32, msgs message[nmsgs]"
)


def describe_locks(view: View) -> str:
    cursor = Cursor(view.main)
    numbers = cursor.integers("u32", 3 * max(cursor.integer("i32"), 0))
    return "".join(
        f"xid {numbers[i]} db {numbers[i + 1]} rel {numbers[i + 2]} "
        for i in range(0, len(numbers), 3)
    )


def describe_running(view: View) -> str:
    cursor = Cursor(view.main)
    count, subxact_count = cursor.integers("i32", 2)
    overflow = cursor.integer("u8")
    cursor.align(4)
    next_xid, oldest, latest = cursor.integers("u32", 3)
    text = f"nextXid {next_xid} latestCompletedXid {latest} oldestRunningXid {oldest}"
    if count > 0:
        text += f"; {count} xacts: " + " ".join(map(str, cursor.integers("u32", count)))
    # 16 renamed the words and lists the subtransactions.
    if overflow:
        text += "; subxid overflowed" if view.version >= 16 else "; subxid ovf"
    if subxact_count > 0 and view.version >= 16:
        xids = cursor.integers("u32", subxact_count)
        text += f"; {subxact_count} subxacts: " + " ".join(map(str, xids))
    return text


def describe_standby_invalidations(view: View) -> str:
    cursor = Cursor(view.main)
    db_oid, spc_oid = cursor.integers("u32", 2)
    init_file_inval = cursor.integer("u8")
    cursor.align(4)
    messages = read_messages(cursor, max(cursor.integer("i32"), 0))
    return describe_invalidations(messages, db_oid, spc_oid, bool(init_file_inval))


OPS = {
    XLOG_STANDBY_LOCK: (Op(14, "LOCK", LOCKS, describe_locks),),
    XLOG_RUNNING_XACTS: (Op(14, "RUNNING_XACTS", RUNNING, describe_running),),
    XLOG_INVALIDATIONS: (Op(14, "INVALIDATIONS", INVALS, describe_standby_invalidations),),
}
