"""The public API: every name is there, and importing the package costs nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import walstream

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", dir(walstream))
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(walstream, name) is not None


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
