"""Every public coroutine says what a cancellation leaves behind (its ``Cancellation:`` section)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "walstream"
FILES = sorted(PACKAGE.rglob("*.py"))


def public_coroutines(node: ast.AST, name: str = "") -> Iterator[tuple[str, ast.AsyncFunctionDef]]:
    """Yields those of a module and its public classes; those inside a function are nobody's."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef) and not child.name.startswith("_"):
            if any(ast.unparse(base) == "pyfuse3.Operations" for base in child.bases):
                continue  # pyfuse3 alone calls its handlers
            yield from public_coroutines(child, f"{name}{child.name}.")
        elif isinstance(child, ast.AsyncFunctionDef) and not child.name.startswith("_"):
            yield name + child.name, child


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_public_coroutines_tell_of_cancellation(path: Path) -> None:
    missing = [
        name
        for name, coroutine in public_coroutines(ast.parse(path.read_text()))
        if "Cancellation:" not in (ast.get_docstring(coroutine) or "")
    ]
    assert missing == []
