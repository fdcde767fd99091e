"""RelMap: the map of the mapped catalogs' files (relmapper.h, relmapdesc.c)."""

from __future__ import annotations

from walstream.rmgr.layout import Layout
from walstream.rmgr.op import Op

UPDATE = Layout("db_oid oid, spc_oid oid, nbytes i32, data byte[nbytes]")
OPS = {
    0x00: (Op(14, "UPDATE", UPDATE, "database {db_oid} tablespace {spc_oid} size {nbytes}"),),
}
