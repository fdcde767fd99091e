"""ReplicationOrigin: progress of origins (replication/origin.h, replorigindesc.c)."""

from __future__ import annotations

from walstream.rmgr.layout import Layout
from walstream.rmgr.op import Op
from walstream.wal.opcodes import XLOG_REPLORIGIN_DROP, XLOG_REPLORIGIN_SET

SET = Layout("remote_lsn lsn, node_id u16, force bool")
OPS = {
    XLOG_REPLORIGIN_SET: (Op(14, "SET", SET, "set {node_id}; lsn {remote_lsn}; force: {force}"),),
    XLOG_REPLORIGIN_DROP: (Op(14, "DROP", Layout("node_id u16"), "drop {node_id}"),),
}
