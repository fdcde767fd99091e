"""The names in redo's error messages are those of the descriptions, which a child does not load."""

from __future__ import annotations

import pytest

from walstream import rmgr
from walstream.redo.rules.operations import operation_name
from walstream.rmgr.rmgrlist import RMGR_NAMES
from walstream.wal.versions import VERSIONS


@pytest.mark.parametrize("version", VERSIONS)
def test_names_are_those_of_the_descriptions(version: int) -> None:
    named = 0
    for rmgr_id in range(len(RMGR_NAMES)):
        for op in range(0, 256, 16):
            name = operation_name(rmgr_id, op, version)
            if name != f"op 0x{op:02X}":
                assert name == rmgr.operation_name(version, rmgr_id, op)
                named += 1
    assert named > 70
