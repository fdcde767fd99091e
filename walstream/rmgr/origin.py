"""ReplicationOrigin: progress of origins (replication/origin.h, replorigindesc.c)."""

from __future__ import annotations

from walstream.rmgr.layout import Layout
from walstream.rmgr.op import Op

SET = Layout("remote_lsn lsn, node_id u16, force bool")
OPS = {
    0x00: (Op(14, "SET", SET, "set {node_id}; lsn {remote_lsn}; force: {force}"),),
    0x10: (Op(14, "DROP", Layout("node_id u16"), "drop {node_id}"),),
}
