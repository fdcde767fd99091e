"""The package is a house: imports go down its floors only (docs/explanation/architecture.md)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "walstream"

# Longest prefix wins, * is any one name. The number is the floor; rooms on one floor do not import
# each other.
FLOORS = {
    "errors": 0,
    "config": 2,
    "toml": 1,
    "text": 0,
    "terminal": 0,
    "restore_command": 0,
    "extras": 0,
    "uncompiled": 0,
    "wal": 1,
    "rmgr": 2,
    "rmgr.*.layout": 1,
    "redo.rules": 3,
    "rmgr.*.page": 4,
    "rmgr.*.posting": 4,
    "rmgr.*.visibilitymap": 4,
    "rmgr.*.mask": 4,
    "rmgr.*.redo": 5,
    "redo.rules.engine": 6,
    "redo.rules.mask": 6,
    "segments": 2,
    "tasks": 2,
    "replication": 7,
    "store": 7,
    "index": 7,
    "redo": 7,
    "scanning": 7,
    "stats": 8,
    "verify": 8,
    "importing": 9,
    "sql": 8,
    "receive": 8,
    "status": 9,
    "pages": 8,
    "state": 8,
    "server": 8,
    "datadir": 9,
    "rows": 9,
    "retention": 9,
    "dump": 9,
    "records": 9,
    "mount": 10,
    "app": 11,
    "demo": 12,
    "cli": 13,
    "__main__": 14,
}
IMPURE = {"trio", "os", "time", "logging", "psycopg", "trio_util", "subprocess", "socket"}
PURE = (
    "wal",
    "rmgr",
    "redo.rules",
    "redo.protocol",
    "replication.messages",
    "segments.names",
    "segments.choice",
    "segments.header",
    "segments.compression",
    "state.control",
    "state.origins",
    "rows.types",
    "rows.varlena",
    "rows.heap",
    "rows.visibility",
    "retention.contents",
    "retention.plan",
    "importing.names",
    "importing.label",
    "importing.barman",
)

FILES = sorted(PACKAGE.rglob("*.py"))


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def room(module: str) -> str | None:
    parts = module.split(".")
    matches = [name for name in FLOORS if stands_in(parts, name.split("."))]
    return max(matches, key=len) if matches else None


def stands_in(module: list[str], room: list[str]) -> bool:
    return len(module) >= len(room) and all(
        wanted in ("*", part) for wanted, part in zip(room, module, strict=False)
    )


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            found.add(node.module)
            if node.module == "walstream" or node.module.startswith("walstream."):
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_go_down(path: Path) -> None:
    here = room(module_name(path))
    if module_name(path) == "__init__":
        return
    assert here is not None, f"{path} is on no floor: add it to FLOORS"
    for name in imports(path):
        if not name.startswith("walstream."):
            continue
        there = room(name.removeprefix("walstream."))
        if there is None or there == here:
            continue
        assert FLOORS[there] < FLOORS[here], f"{here} imports {there}, which is not below it"


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_pure_rooms_do_no_io(path: Path) -> None:
    name = module_name(path)
    if any(name == pure or name.startswith(pure + ".") for pure in PURE):
        roots = {imported.split(".")[0] for imported in imports(path)}
        assert not roots & IMPURE


# libpq is one room's affair: connections and commands, the strings that name them, COPY in both
# directions. ``demo`` runs a workload as any client would.
PSYCOPG = {
    "demo.workload",
    "replication.addresses",
    "replication.backup_stream",
    "replication.connecting",
    "replication.copy_stream",
    "replication.libpq",
    "replication.status",
}


def test_few_know_psycopg() -> None:
    users = {
        module_name(path)
        for path in FILES
        if any(name.split(".")[0] == "psycopg" for name in imports(path))
    }
    assert users == PSYCOPG
