"""Tablespace: creation and removal (commands/tablespace.h, tblspcdesc.c)."""

from __future__ import annotations

from typing import NamedTuple

from walstream.rmgr.layout import Cursor, Layout
from walstream.rmgr.op import Op


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
    if info & 0xF0 == 0x00:
        return TablespaceCreate(cursor.integer(), cursor.text())
    if info & 0xF0 == 0x10:
        return TablespaceDrop(cursor.integer())
    return None


OPS = {
    0x00: (Op(14, "CREATE", Layout("spc_oid oid, path text"), '{spc_oid} "{path}"'),),
    0x10: (Op(14, "DROP", Layout("spc_oid oid"), "{spc_oid}"),),
}
