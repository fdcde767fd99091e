"""What differs between major versions is in one table: who adds a version adds a row there.

A version's number may stand elsewhere only where something changed once and stays so
(``version >= 16``): that needs no edit for the versions after it. Exact comparisons, ranges and
lists of versions would.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import walstream
from walstream.wal.versions import BY_MAJOR, ROWS, VERSIONS

PACKAGE = Path(walstream.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# Comparisons with a version's number, by file: each is a change that a version brought for good.
CHANGES = {
    "datadir/other_files.py": 2,
    "datadir/start.py": 1,
    "dump/run.py": 1,
    "dump/text_lines.py": 1,
    "redo/rules/operations.py": 1,
    "replication/backup_stream.py": 1,
    "replication/messages.py": 2,
    "replication/upstream.py": 1,
    "rmgr/btree/records.py": 1,
    "rmgr/database.py": 2,
    "rmgr/gist/redo.py": 2,
    "rmgr/hash/redo.py": 2,
    "rmgr/heap2/redo.py": 3,
    "rmgr/spgist/redo.py": 1,
    "rmgr/standby.py": 2,
    "rmgr/xact.py": 5,
    "rmgr/xlog/records.py": 1,
    "rows/acl.py": 2,
    "rows/names.py": 2,
    "rows/outputs.py": 1,
    "rows/types/times.py": 1,
    "rows/typmod.py": 1,
    "state/transactions.py": 1,
    "stats/waldump_table.py": 2,
    "store/manifest.py": 1,
}
# Dictionaries by version: bodies and names as they were from a version on.
TABLES = {
    "rmgr/xact.py": 1,
    "rows/bootstrap.py": 2,
    "rows/types/jsonpath.py": 1,
}


def is_version(node: ast.AST) -> bool:
    """Returns whether an expression is a major version of PostgreSQL."""
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
    return name.lstrip("_") in ("version", "server_version", "pg_version", "major")


def numbers_in(node: ast.AST) -> list[int]:
    values = (item.value for item in ast.walk(node) if isinstance(item, ast.Constant))
    return [value for value in values if isinstance(value, int) and value in VERSIONS]


def comparisons(tree: ast.AST) -> Iterator[ast.Compare]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            if any(map(is_version, sides)) and any(map(numbers_in, sides)):
                yield node


def tables(tree: ast.AST) -> Iterator[ast.Dict]:
    """Yields dictionaries that have a value for each of several versions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            keys = [key.value for key in node.keys if isinstance(key, ast.Constant)]
            if len(keys) > 1 and keys[0] == VERSIONS[0] and set(keys) <= set(VERSIONS):
                yield node


def counts(find: Callable[[ast.AST], Iterator[ast.AST]]) -> dict[str, int]:
    found = {}
    for path in FILES:
        name = path.relative_to(PACKAGE).as_posix()
        number = len(list(find(ast.parse(path.read_text()))))
        if number and name != "wal/versions.py":
            found[name] = number
    return found


def test_versions_are_compared_where_they_changed_something() -> None:
    assert counts(comparisons) == CHANGES


def test_no_other_table_has_a_row_for_each_version() -> None:
    assert counts(tables) == TABLES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_change_stays(path: Path) -> None:
    for node in comparisons(ast.parse(path.read_text())):
        for operator in node.ops:
            assert isinstance(operator, ast.GtE | ast.Lt | ast.LtE | ast.Gt), (
                f"{path.name}:{node.lineno}: a later version would have to be added here"
            )


def test_rows_are_in_order_and_differ() -> None:
    assert tuple(sorted(BY_MAJOR)) == VERSIONS == tuple(row.major for row in ROWS)
    assert len({row.page_magic for row in ROWS}) == len(ROWS)
    assert len({row.catalog_version for row in ROWS}) == len(ROWS)
