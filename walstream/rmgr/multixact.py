"""MultiXact: ids of several lockers (multixact.h, mxactdesc.c). 17: page numbers of 64 bits."""

from __future__ import annotations

from walstream.rmgr.layout import Cursor, Layout
from walstream.rmgr.op import Op
from walstream.rmgr.view import View
from walstream.wal.opcodes import (
    XLOG_MULTIXACT_CREATE_ID,
    XLOG_MULTIXACT_TRUNCATE_ID,
    XLOG_MULTIXACT_ZERO_MEM_PAGE,
    XLOG_MULTIXACT_ZERO_OFF_PAGE,
)

STATUSES = ("keysh", "sh", "fornokeyupd", "forupd", "nokeyupd", "upd")

CREATED = Layout("mid u32, moff u32, nmembers i32, members member[nmembers]")
TRUNCATED = Layout(
    "oldest_multi_db oid, start_off u32, end_off u32, start_member u32, end_member u32"
)


def describe_create(view: View) -> str:
    cursor = Cursor(view.main)
    multi, offset = cursor.integers("u32", 2)
    count = cursor.integer("i32")
    text = f"{multi} offset {offset} nmembers {count}: "
    numbers = cursor.integers("u32", 2 * max(count, 0))
    for i in range(0, len(numbers), 2):
        status = STATUSES[numbers[i + 1]] if numbers[i + 1] < len(STATUSES) else "unk"
        text += f"{numbers[i]} ({status}) "
    return text


OPS = {
    XLOG_MULTIXACT_ZERO_OFF_PAGE: (
        Op(14, "ZERO_OFF_PAGE", Layout("page i32"), "{page}"),
        Op(17, "ZERO_OFF_PAGE", Layout("page i64"), "{page}"),
    ),
    XLOG_MULTIXACT_ZERO_MEM_PAGE: (
        Op(14, "ZERO_MEM_PAGE", Layout("page i32"), "{page}"),
        Op(17, "ZERO_MEM_PAGE", Layout("page i64"), "{page}"),
    ),
    XLOG_MULTIXACT_CREATE_ID: (Op(14, "CREATE_ID", CREATED, describe_create),),
    XLOG_MULTIXACT_TRUNCATE_ID: (
        Op(
            14,
            "TRUNCATE_ID",
            TRUNCATED,
            "offsets [{start_off}, {end_off}), members [{start_member}, {end_member})",
        ),
    ),
}
