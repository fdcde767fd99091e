"""CommitTs: pages of commit times (commit_ts.h, committsdesc.c). 17: page numbers of 64 bits."""

from __future__ import annotations

from walstream.rmgr.layout import Layout
from walstream.rmgr.op import Op
from walstream.wal.opcodes import COMMIT_TS_TRUNCATE, COMMIT_TS_ZEROPAGE

_TRUNCATE = "pageno {page}, oldestXid {oldest_xid}"
OPS = {
    COMMIT_TS_ZEROPAGE: (
        Op(14, "ZEROPAGE", Layout("page i32"), "{page}"),
        Op(17, "ZEROPAGE", Layout("page i64"), "{page}"),
    ),
    COMMIT_TS_TRUNCATE: (
        Op(14, "TRUNCATE", Layout("page i32, oldest_xid xid"), _TRUNCATE),
        Op(17, "TRUNCATE", Layout("page i64, oldest_xid xid"), _TRUNCATE),
    ),
}
