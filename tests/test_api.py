"""The public API: every name is there, and importing the package costs nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

import walstream


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
