"""The rows of the resource managers are those of PostgreSQL's list."""

from __future__ import annotations

import importlib
import importlib.util

from walstream.rmgr.rmgrlist import RMGRS, parse_rmgr_name, rmgr_name
from walstream.wal import layout, opcodes


def test_the_position_is_the_id() -> None:
    assert [rmgr.id for rmgr in RMGRS] == list(range(layout.RM_MAX_BUILTIN_ID + 1))
    for rmgr in RMGRS:
        assert parse_rmgr_name(rmgr_name(rmgr.id).upper()) == rmgr.id


def test_every_manager_has_operations() -> None:
    for rmgr in RMGRS:
        assert importlib.import_module(f"walstream.rmgr.{rmgr.records}").OPS
        assert not rmgr.codes or any(name.startswith(rmgr.codes) for name in vars(opcodes))


def test_who_changes_pages_has_redo_and_a_mask() -> None:
    """rm_mask is set for these, and XLOG, whose images are pages of others, is not among them."""
    told = {rmgr.id for rmgr in RMGRS if rmgr.changes_pages}
    assert told == {*range(layout.RM_HEAP2_ID, layout.RM_BRIN_ID + 1), layout.RM_GENERIC_ID}
    for rmgr in RMGRS:
        if rmgr.changes_pages:
            assert callable(importlib.import_module(f"walstream.rmgr.{rmgr.mask}").mask)
            folder = rmgr.records.removesuffix(".records")
            assert importlib.util.find_spec(f"walstream.rmgr.{folder}.redo") is not None
