"""The public API: every name is there, and importing the package costs nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import walstream
from walstream import errors

ROOT = Path(__file__).parent.parent


def typed_names() -> list[tuple[str, str]]:
    """Returns module and name of what type checkers are told, in the order of the source."""
    tree = ast.parse(Path(walstream.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    found = []
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        assert node.module is not None
        (alias,) = node.names
        assert alias.name == alias.asname
        found.append((node.module, alias.name))
    return found


@pytest.mark.parametrize("name", dir(walstream))
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(walstream, name) is not None


def test_no_public_name_is_that_of_a_room() -> None:
    # Importing a module sets it on the package, over what __getattr__ would give.
    rooms = {path.stem for path in (ROOT / "walstream").iterdir()}
    assert not rooms & set(walstream.__all__)


def test_type_checkers_are_told_the_names_of_the_table() -> None:
    assert set(typed_names()) == {
        (module, name) for module, names in walstream._EXPORTS.items() for name in names
    }
    assert walstream.__all__ == sorted(name for _, name in typed_names())


def test_no_room_hides_a_public_name() -> None:
    """Importing ``walstream.x`` would put the room in the place of the name."""
    rooms = {path.stem for path in Path(walstream.__file__).parent.iterdir()}
    assert not rooms & set(walstream.__all__)


def test_all_errors_are_public() -> None:
    ours = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.WalstreamError)
    }
    assert ours <= set(walstream.__all__)


def test_star_gives_all_names() -> None:
    names: dict[str, object] = {}
    exec("from walstream import *", names)
    assert set(walstream.__all__) <= set(names)


def test_other_names_are_not() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        getattr(walstream, "nothing")  # noqa: B009


def test_the_package_imports_nothing_until_it_is_used() -> None:
    code = "import sys, walstream; print([m for m in sys.modules if m.startswith('walstream.')])"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout == "[]\n"


def test_type_checkers_know_the_names_and_no_others(tmp_path: Path) -> None:
    names = [name for name in dir(walstream) if name != "__version__"]
    program = tmp_path / "program.py"
    program.write_text(
        "".join(f"from walstream import {name}\n" for name in names)
        + "from walstream import NoSuchName\n"
    )
    answer = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(program)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert [line.partition(": ")[2] for line in answer.stdout.splitlines()] == [
        'error: Module "walstream" has no attribute "NoSuchName"  [attr-defined]'
    ], answer.stderr
