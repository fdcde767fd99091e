"""RelMap: the map of the mapped catalogs' files (relmapper.h, relmapdesc.c)."""

from __future__ import annotations

from walstream.rmgr.layout import Layout
from walstream.rmgr.op import Op
from walstream.wal.opcodes import XLOG_RELMAP_UPDATE

UPDATE = Layout("db_oid oid, spc_oid oid, nbytes i32, data byte[nbytes]")
OPS = {
    XLOG_RELMAP_UPDATE: (
        Op(14, "UPDATE", UPDATE, "database {db_oid} tablespace {spc_oid} size {nbytes}"),
    ),
}
