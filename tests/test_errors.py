"""The tree that errors.py draws is complete and true, and its errors carry their facts."""

from __future__ import annotations

import ast
import builtins
import copy
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from walstream import errors
from walstream.errors import WalstreamError
from walstream.wal.reason import in_record

PACKAGE = Path(__file__).parent.parent / "walstream"
FILES = sorted(PACKAGE.rglob("*.py"))
CLASSES = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, WalstreamError)
}
BUILTIN = {
    name
    for name, kind in vars(builtins).items()
    if isinstance(kind, type) and issubclass(kind, BaseException)
}
# What a caller gets who gave what a function does not take, and Python's own protocols.
CALLERS = {"ValueError", "TypeError", "AssertionError", "NotImplementedError"}
PROTOCOLS = {
    "KeyError",
    "IndexError",
    "BufferError",
    "AttributeError",
    "StopIteration",
    "MemoryError",
}
# Where an OSError is made to be translated in the same room.
TRANSLATED = {
    "store/hard_link.py",
    "replication/addresses.py",
    "redo/sandbox.py",
    "mount/filesystem.py",
    "mount/own_pages.py",
}


def drawn() -> Iterator[tuple[str, str | None]]:
    """Yields the names of the drawn tree and the name above each."""
    assert errors.__doc__ is not None
    above: list[str] = []
    for line in errors.__doc__.splitlines():
        if (found := re.match(r" {4}([│├└─ ]*)(\w+)( {2,}\S.*)?$", line)) is None:
            continue
        depth = len(found[1]) // 4
        del above[depth:]
        yield found[2], above[-1] if above else None
        above.append(found[2])


def test_the_drawn_tree_is_the_tree() -> None:
    real = {name: kind.__base__.__name__ for name, kind in CLASSES.items() if kind.__base__}
    assert {name: above or "Exception" for name, above in drawn()} == real


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_exception_is_public_elsewhere(path: Path) -> None:
    if path.name == "errors.py" and path.parent == PACKAGE:
        return
    known = {*CLASSES, *BUILTIN}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            bases = {base.id for base in node.bases if isinstance(base, ast.Name)}
            assert not bases & known, f"{node.name} belongs into errors.py"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_else_is_raised(path: Path) -> None:
    """A ``raise NAME(...)`` is of the tree, or tells a caller that it misused a function."""
    inside = str(path.relative_to(PACKAGE))
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Raise) or not isinstance(node.exc, ast.Call):
            continue
        kind = node.exc.func
        if not isinstance(kind, ast.Name):
            continue
        assert kind.id not in ("StorageError", "WalstreamError"), f"{inside}:{node.lineno}"
        if kind.id not in BUILTIN:
            continue
        allowed = CALLERS | PROTOCOLS | {"SystemExit", "KeyboardInterrupt"}
        if inside in TRANSLATED:
            allowed = allowed | {"OSError"}
        assert kind.id in allowed, f"{inside}:{node.lineno} raises {kind.id}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_messages_are_not_rewritten_when_an_error_is_made(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                assert not (isinstance(target, ast.Attribute) and target.attr == "args")


def make(kind: type[WalstreamError]) -> WalstreamError:
    if kind is errors.BackupDamaged:
        return errors.BackupDamaged("backup/f: size", "backup/f", "1", "2")
    if issubclass(kind, (errors.StorageError, errors.NoWalFound)):
        return kind("what is wrong", "pg_wal/1")
    return kind("what is wrong")


@pytest.mark.parametrize("name", CLASSES)
def test_errors_go_from_process_to_process(name: str) -> None:
    error = make(CLASSES[name])
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is type(error)
        assert (str(again), again.__dict__) == (str(error), error.__dict__)


@pytest.mark.parametrize("name", CLASSES)
def test_errors_of_the_file_system_and_the_store_know_their_path(name: str) -> None:
    kind = CLASSES[name]
    if issubclass(kind, (errors.StorageError, errors.StoreError, errors.NoWalFound)):
        facts = ("what is wrong", "pg_wal/1", "1", "2")
        error = kind(*facts) if kind is errors.BackupDamaged else kind(*facts[:2])
        assert (str(error), vars(error)["path"]) == ("what is wrong", "pg_wal/1")


def test_an_error_of_a_body_is_told_where_its_record_is_once() -> None:
    error = in_record(errors.RecordError("too short"), 0x16B3748)
    assert (str(error), error.lsn) == ("too short in record at 0/16B3748", 0x16B3748)
    assert in_record(error, 8) is error


def test_the_decoder_says_its_facts_to_programs() -> None:
    error = errors.RecordError("bad", 0x16B3748, reason=35, expected=1, got=2)
    again = pickle.loads(pickle.dumps(error))
    assert (again.lsn, again.reason, again.expected, again.got) == (0x16B3748, 35, 1, 2)
