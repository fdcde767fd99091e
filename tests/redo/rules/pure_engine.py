"""The engine with every kernel that it uses, executed from the .py files whatever the build is."""

from __future__ import annotations

from typing import Any

from tests.redo.builds import UNCOMPILED


def pure_engine(version: int, stamp_hints: bool) -> Any:
    """Returns an Engine of plain Python, for comparison with the compiled one."""
    return UNCOMPILED.Engine(version, stamp_hints)
