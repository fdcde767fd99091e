"""The engine with every kernel that it uses, executed from the .py files whatever the build is."""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import Any

from tests.pure import pure

# Each module after those that it imports.
_ORDER = (
    "walstream.wal.record",
    "walstream.wal.image",
    "walstream.redo.rules.page",
    "walstream.redo.rules.target",
    "walstream.redo.rules.visibility",
    "walstream.redo.rules.heap",
    "walstream.redo.rules.heap2",
    "walstream.redo.rules.btree",
    "walstream.redo.rules.hash",
    "walstream.redo.rules.gin",
    "walstream.redo.rules.gist",
    "walstream.redo.rules.spgist",
    "walstream.redo.rules.brin",
    "walstream.redo.rules.sequence",
    "walstream.redo.rules.generic",
    "walstream.redo.rules.xlog",
    "walstream.redo.rules.mask",
    "walstream.redo.rules.engine",
)


@cache
def pure_modules() -> dict[str, ModuleType]:
    modules: dict[str, ModuleType] = {}
    for name in _ORDER:
        modules[name] = pure(name, modules)
    return modules


def pure_engine(version: int, stamp_hints: bool) -> Any:
    """Returns an Engine of plain Python, for comparison with the compiled one."""
    return pure_modules()["walstream.redo.rules.engine"].Engine(version, stamp_hints)
