"""CLOG: pages of commit status (clog.h, clogdesc.c). 17 made page numbers 64 bits."""

from __future__ import annotations

from walstream.rmgr.layout import Layout
from walstream.rmgr.op import Op
from walstream.wal.opcodes import CLOG_TRUNCATE, CLOG_ZEROPAGE

_TRUNCATE = "page {page}; oldestXact {oldest_xact}"
OPS = {
    CLOG_ZEROPAGE: (
        Op(14, "ZEROPAGE", Layout("page i32"), "page {page}"),
        Op(17, "ZEROPAGE", Layout("page i64"), "page {page}"),
    ),
    CLOG_TRUNCATE: (
        Op(14, "TRUNCATE", Layout("page i32, oldest_xact xid, oldest_xact_db oid"), _TRUNCATE),
        Op(17, "TRUNCATE", Layout("page i64, oldest_xact xid, oldest_xact_db oid"), _TRUNCATE),
    ),
}
