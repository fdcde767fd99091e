"""Database: creation (by file copy or by WAL) and removal (dbcommands_xlog.h, dbasedesc.c)."""

from __future__ import annotations

from typing import NamedTuple

from walstream.rmgr.layout import Cursor, Layout
from walstream.rmgr.op import Op
from walstream.rmgr.view import View
from walstream.wal.layout import XLR_RMGR_INFO_MASK
from walstream.wal.opcodes import (
    XLOG_DBASE_CREATE_FILE_COPY,
    XLOG_DBASE_CREATE_WAL_LOG,
    XLOG_DBASE_DROP,
    XLOG_DBASE_DROP_14,
)


class DatabaseCreate(NamedTuple):
    """A database directory was made.

    By file copy: it holds what the source's directory held at this record, and no WAL tells of
    those pages. Otherwise (15 and later) ``source_*`` is None and its pages follow in WAL.
    """

    db_oid: int
    spc_oid: int
    source_db_oid: int | None
    source_spc_oid: int | None


class DatabaseDrop(NamedTuple):
    """The directories of a database, in these tablespaces, were removed."""

    db_oid: int
    spc_oids: tuple[int, ...]


COPIED = Layout("db_oid oid, spc_oid oid, source_db_oid oid, source_spc_oid oid")
LOGGED = Layout("db_oid oid, spc_oid oid")
DROPPED = Layout("db_oid oid, nspc i32, spc_oids oid[nspc]")


def parse_database(
    main_data: bytes, info: int, version: int
) -> DatabaseCreate | DatabaseDrop | None:
    """Returns the body of a Database record, None for an operation that does not exist.

    15 put CREATE_WAL_LOG where 14 has DROP.

    Raises:
        RecordError: the body is too short.
    """
    cursor = Cursor(main_data)
    op = info & XLR_RMGR_INFO_MASK
    if op == XLOG_DBASE_CREATE_FILE_COPY:
        return DatabaseCreate(*cursor.integers("u32", 4))
    if op == XLOG_DBASE_CREATE_WAL_LOG and version >= 15:
        db_oid, spc_oid = cursor.integers("u32", 2)
        return DatabaseCreate(db_oid, spc_oid, None, None)
    if op == (XLOG_DBASE_DROP if version >= 15 else XLOG_DBASE_DROP_14):
        db_oid = cursor.integer()
        return DatabaseDrop(db_oid, cursor.integers("u32", max(cursor.integer("i32"), 0)))
    return None


def describe_drop(view: View) -> str:
    body = parse_database(view.main, view.info, view.version)
    assert isinstance(body, DatabaseDrop)
    return "dir" + "".join(f" {spc_oid}/{body.db_oid}" for spc_oid in body.spc_oids)


_COPY = "copy dir {source_spc_oid}/{source_db_oid} to {spc_oid}/{db_oid}"
OPS = {
    XLOG_DBASE_CREATE_FILE_COPY: (
        Op(14, "CREATE", COPIED, _COPY),
        Op(15, "CREATE_FILE_COPY", COPIED, _COPY),
    ),
    XLOG_DBASE_CREATE_WAL_LOG: (
        Op(14, "DROP", DROPPED, describe_drop),
        Op(15, "CREATE_WAL_LOG", LOGGED, "create dir {spc_oid}/{db_oid}"),
    ),
    XLOG_DBASE_DROP: (Op(15, "DROP", DROPPED, describe_drop),),
}
