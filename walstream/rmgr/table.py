"""The operations of all resource managers, by id and version."""

from __future__ import annotations

import importlib
from functools import cache

from walstream.rmgr.op import Op, ops_of
from walstream.rmgr.rmgrlist import RMGRS


@cache
def operations_of(version: int, rmgr_id: int) -> dict[int, Op]:
    """Returns ``info & 0xF0`` -> operation of one resource manager; none for an unknown id."""
    if rmgr_id >= len(RMGRS):
        return {}
    module = importlib.import_module(f"walstream.rmgr.{RMGRS[rmgr_id].records}")
    return ops_of(version, module.OPS)


def operations(version: int) -> dict[tuple[int, int], Op]:
    """Returns (resource manager id, ``info & 0xF0``) -> operation, for a major version."""
    return {
        (rmgr_id, code): op
        for rmgr_id in range(len(RMGRS))
        for code, op in operations_of(version, rmgr_id).items()
    }
