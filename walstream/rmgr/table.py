"""All resource managers: which module declares the operations of which id, per version."""

from __future__ import annotations

from functools import cache

from walstream.rmgr import (
    brin,
    btree,
    clog,
    commit_ts,
    database,
    generic,
    gin,
    gist,
    hash,
    heap,
    heap2,
    message,
    multixact,
    origin,
    relmap,
    sequence,
    spgist,
    standby,
    storage,
    tablespace,
    xact,
    xlog,
)
from walstream.rmgr.op import Op, ops_of

# In the order of rmgrlist.h: the position is the id.
MODULES = (
    xlog, xact, storage, clog, database, tablespace, multixact, relmap, standby, heap2, heap,
    btree, hash, gin, gist, sequence, spgist, brin, commit_ts, origin, generic, message,
)  # fmt: skip


@cache
def operations(version: int) -> dict[tuple[int, int], Op]:
    """Returns (resource manager id, ``info & 0xF0``) -> operation, for a major version."""
    return {
        (rmgr_id, code): op
        for rmgr_id, module in enumerate(MODULES)
        for code, op in ops_of(version, module.OPS).items()
    }
