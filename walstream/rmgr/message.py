"""LogicalMessage: what pg_logical_emit_message wrote (replication/message.h, logicalmsgdesc.c)."""

from __future__ import annotations

from walstream.rmgr.layout import Cursor, Layout
from walstream.rmgr.op import Op
from walstream.rmgr.view import View
from walstream.wal.opcodes import XLOG_LOGICAL_MESSAGE

MESSAGE = Layout(
    "db_oid oid, transactional bool, prefix_size u64, message_size u64, content byte[*]"
)


def describe(view: View) -> str:
    cursor = Cursor(view.main)
    cursor.skip(4)
    kind = "transactional" if cursor.integer("u8") else "non-transactional"
    cursor.align()
    prefix_size, message_size = cursor.integers("u64", 2)
    at = cursor.skip(prefix_size)
    prefix = view.main[at : at + prefix_size].split(b"\0")[0].decode("utf-8", "backslashreplace")
    at = cursor.skip(message_size)
    payload = view.main[at : at + message_size].hex(" ").upper()
    return f'{kind}, prefix "{prefix}"; payload ({message_size} bytes): {payload}'


OPS = {XLOG_LOGICAL_MESSAGE: (Op(14, "MESSAGE", MESSAGE, describe),)}
