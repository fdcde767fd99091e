"""Heap: inserts, updates, deletes, locks of tuples (heapam_xlog.h, heapdesc.c).

16 rewrote every line (``off: 1, flags: 0x00`` instead of ``off 1 flags 0x00``); 18 added
invalidation messages to INPLACE.
"""

from __future__ import annotations

from walstream.rmgr.layout import Cursor, Layout
from walstream.rmgr.op import Op
from walstream.rmgr.standby import describe_invalidations, read_messages
from walstream.rmgr.view import View
from walstream.wal.opcodes import (
    XLOG_HEAP_CONFIRM,
    XLOG_HEAP_DELETE,
    XLOG_HEAP_HOT_UPDATE,
    XLOG_HEAP_INIT_PAGE,
    XLOG_HEAP_INPLACE,
    XLOG_HEAP_INSERT,
    XLOG_HEAP_LOCK,
    XLOG_HEAP_TRUNCATE,
    XLOG_HEAP_UPDATE,
)

INSERT = Layout("off u16, flags u8")
DELETE = Layout("xmax xid, off u16, infobits u8, flags u8")
UPDATE = Layout("old_xmax xid, old_off u16, old_infobits u8, flags u8, new_xmax xid, new_off u16")
TRUNCATE = Layout("db_oid oid, nrelids u32, flags u8, relids oid[nrelids]")
CONFIRM = Layout("off u16")
LOCK = Layout("xmax xid, off u16, infobits u8, flags u8")
INPLACE_18 = Layout(
    "off u16, db_oid oid, spc_oid oid, relcache_init_file_inval bool, nmsgs i32, "
    "msgs message[nmsgs]"
)

_UPDATE_14 = (
    "off {old_off} xmax {old_xmax} flags 0x{flags:02X} {old_infobits:infobits+}"
    "; new off {new_off} xmax {new_xmax}"
)
_UPDATE_16 = (
    "old_xmax: {old_xmax}, old_off: {old_off}, old_infobits: [{old_infobits:infobits,}], "
    "flags: 0x{flags:02X}, new_xmax: {new_xmax}, new_off: {new_off}"
)
_LOCK_16 = "xmax: {xmax}, off: {off}, infobits: [{infobits:infobits,}], flags: 0x{flags:02X}"


def describe_truncate(view: View) -> str:
    cursor = Cursor(view.main)
    cursor.skip(4)
    count, flags = cursor.integer(), cursor.integer("u8")
    cursor.align(4)
    relids = cursor.integers("u32", count)
    words = "cascade " if flags & 1 else ""
    words += "restart_seqs " if flags & 2 else ""
    return f"{words}nrelids {count} relids" + "".join(f" {relid}" for relid in relids)


def describe_inplace(view: View) -> str:
    cursor = Cursor(view.main)
    text = f"off: {cursor.integer('u16')}"
    cursor.align(4)
    db_oid, spc_oid = cursor.integers("u32", 2)
    init_file_inval = cursor.integer("u8")
    cursor.align(4)
    messages = read_messages(cursor, max(cursor.integer("i32"), 0))
    return text + describe_invalidations(messages, db_oid, spc_oid, bool(init_file_inval))


def _update(name: str) -> tuple[Op, ...]:
    return (Op(14, name, UPDATE, _UPDATE_14), Op(16, name, UPDATE, _UPDATE_16))


_FORMS = {
    XLOG_HEAP_INSERT: (
        Op(14, "INSERT", INSERT, "off {off} flags 0x{flags:02X}"),
        Op(16, "INSERT", INSERT, "off: {off}, flags: 0x{flags:02X}"),
    ),
    XLOG_HEAP_DELETE: (
        Op(14, "DELETE", DELETE, "off {off} flags 0x{flags:02X} {infobits:infobits+}"),
        Op(16, "DELETE", DELETE, _LOCK_16),
    ),
    XLOG_HEAP_UPDATE: _update("UPDATE"),
    XLOG_HEAP_TRUNCATE: (
        Op(14, "TRUNCATE", TRUNCATE, describe_truncate),
        Op(
            16,
            "TRUNCATE",
            TRUNCATE,
            "flags: [{flags:truncate,}], nrelids: {nrelids}, relids: {relids:[]}",
        ),
    ),
    XLOG_HEAP_HOT_UPDATE: _update("HOT_UPDATE"),
    XLOG_HEAP_CONFIRM: (
        Op(14, "HEAP_CONFIRM", CONFIRM, "off {off}"),
        Op(16, "HEAP_CONFIRM", CONFIRM, "off: {off}"),
    ),
    XLOG_HEAP_LOCK: (
        Op(
            14,
            "LOCK",
            LOCK,
            "off {off}: xid {xmax}: flags 0x{flags:02X} {infobits:infobits+}",
        ),
        Op(16, "LOCK", LOCK, _LOCK_16),
    ),
    XLOG_HEAP_INPLACE: (
        Op(14, "INPLACE", CONFIRM, "off {off}"),
        Op(16, "INPLACE", CONFIRM, "off: {off}"),
        Op(18, "INPLACE", INPLACE_18, describe_inplace),
    ),
}
_WITH_INIT = {
    XLOG_HEAP_INSERT: "INSERT+INIT",
    XLOG_HEAP_UPDATE: "UPDATE+INIT",
    XLOG_HEAP_HOT_UPDATE: "HOT_UPDATE+INIT",
}
OPS = _FORMS | {
    code | XLOG_HEAP_INIT_PAGE: tuple(form._replace(name=_WITH_INIT.get(code)) for form in forms)
    for code, forms in _FORMS.items()
}
