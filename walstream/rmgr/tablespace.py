"""Tablespace: creation and removal (commands/tablespace.h, tblspcdesc.c)."""

from __future__ import annotations

from typing import NamedTuple

from walstream.rmgr.layout import Cursor, Layout
from walstream.rmgr.op import Op
from walstream.wal.layout import XLR_RMGR_INFO_MASK
from walstream.wal.opcodes import XLOG_TBLSPC_CREATE, XLOG_TBLSPC_DROP


class TablespaceCreate(NamedTuple):
    """A tablespace whose files lie at ``path`` on the server."""

    spc_oid: int
    path: str


class TablespaceDrop(NamedTuple):
    """The tablespace was removed."""

    spc_oid: int


def parse_tablespace(main_data: bytes, info: int) -> TablespaceCreate | TablespaceDrop | None:
    """Returns the body of a Tablespace record, None for an operation that does not exist.

    Raises:
        RecordError: the body is too short.
    """
    cursor = Cursor(main_data)
    if info & XLR_RMGR_INFO_MASK == XLOG_TBLSPC_CREATE:
        return TablespaceCreate(cursor.integer(), cursor.text())
    if info & XLR_RMGR_INFO_MASK == XLOG_TBLSPC_DROP:
        return TablespaceDrop(cursor.integer())
    return None


OPS = {
    XLOG_TBLSPC_CREATE: (Op(14, "CREATE", Layout("spc_oid oid, path text"), '{spc_oid} "{path}"'),),
    XLOG_TBLSPC_DROP: (Op(14, "DROP", Layout("spc_oid oid"), "{spc_oid}"),),
}
