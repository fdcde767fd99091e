"""CommitTs: pages of commit times (commit_ts.h, committsdesc.c). 17: page numbers of 64 bits."""

from __future__ import annotations

from walstream.rmgr.layout import Layout
from walstream.rmgr.op import Op

_TRUNCATE = "pageno {page}, oldestXid {oldest_xid}"
OPS = {
    0x00: (
        Op(14, "ZEROPAGE", Layout("page i32"), "{page}"),
        Op(17, "ZEROPAGE", Layout("page i64"), "{page}"),
    ),
    0x10: (
        Op(14, "TRUNCATE", Layout("page i32, oldest_xid xid"), _TRUNCATE),
        Op(17, "TRUNCATE", Layout("page i64, oldest_xid xid"), _TRUNCATE),
    ),
}
