"""All resource managers: which module declares the operations of which id, per version."""

from __future__ import annotations

import importlib
from functools import cache

from walstream.rmgr.op import Op, ops_of

# In the order of rmgrlist.h: the position is the id.
MODULES = (
    "xlog.records", "xact", "storage", "clog", "database", "tablespace", "multixact", "relmap",
    "standby", "heap2.records", "heap.records", "btree.records", "hash.records", "gin.records",
    "gist.records", "sequence.records", "spgist.records", "brin.records", "commit_ts", "origin",
    "generic.records", "message",
)  # fmt: skip


@cache
def operations_of(version: int, rmgr_id: int) -> dict[int, Op]:
    """Returns ``info & 0xF0`` -> operation of one resource manager; none for an unknown id."""
    if rmgr_id >= len(MODULES):
        return {}
    module = importlib.import_module(f"walstream.rmgr.{MODULES[rmgr_id]}")
    return ops_of(version, module.OPS)


def operations(version: int) -> dict[tuple[int, int], Op]:
    """Returns (resource manager id, ``info & 0xF0``) -> operation, for a major version."""
    return {
        (rmgr_id, code): op
        for rmgr_id in range(len(MODULES))
        for code, op in operations_of(version, rmgr_id).items()
    }
