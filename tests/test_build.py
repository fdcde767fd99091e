"""The build of the kernels: required, skipped, failed, kept; and a package without them."""

from __future__ import annotations

import ast
import importlib
import os
import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from tests.redo.builds import INSTALLED, UNCOMPILED
from tests.wal.builds import RECORDS, SCANS, STREAMS

ROOT = Path(__file__).parent.parent
# Modules whose .pxd is all there is of them in C, as setup.py lists them.
INLINE_ONLY = next(
    ast.literal_eval(node.value)
    for node in ast.parse((ROOT / "setup.py").read_text()).body
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "INLINE_ONLY"
)
KERNELS = sorted(
    name
    for pxd in (ROOT / "walstream").rglob("*.pxd")
    if (name := ".".join(pxd.relative_to(ROOT).with_suffix("").parts)) not in INLINE_ONLY
)
REQUIRED = os.environ.get("WALSTREAM_KERNELS") == "require"


def is_compiled(file: str | None) -> bool:
    return file is not None and file.endswith(EXTENSION_SUFFIXES[0])


def test_kernels_are_compiled_all_or_none_and_all_where_they_are_required() -> None:
    compiled = {name for name in KERNELS if is_compiled(importlib.import_module(name).__file__)}
    assert compiled == set(KERNELS) or (not compiled and not REQUIRED)


@pytest.mark.parametrize(
    ("installed", "pure"), [STREAMS, SCANS, RECORDS, [INSTALLED, UNCOMPILED]], ids=str
)
def test_what_is_compared_are_two_builds(installed: object, pure: object) -> None:
    assert not is_compiled(getattr(pure, "__file__", None))
    assert is_compiled(getattr(installed, "__file__", None)) or not REQUIRED


def build(tree: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--inplace"],
        cwd=tree,
        env={**os.environ, "WALSTREAM_KERNELS": "auto", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A package with one small kernel, and the real setup.py."""
    package = tmp_path / "walstream"
    package.mkdir()
    shutil.copy(ROOT / "setup.py", tmp_path)
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "small"\nversion = "1"\n[tool.setuptools]\npackages = ["walstream"]\n'
    )
    (package / "__init__.py").touch()
    (package / "small.py").write_text("def double(value: int) -> int:\n    return 2 * value\n")
    (package / "small.pxd").write_text("cpdef int double(int value)\n")
    return tmp_path


def kernels(tree: Path) -> list[str]:
    return sorted(path.name.partition(".")[0] for path in (tree / "walstream").glob("*.so"))


def test_a_failed_compile_is_noted_or_ends_the_installation(tree: Path) -> None:
    note = tree / "walstream/kernels_failed.txt"
    failed = build(tree, CC="/nonexistent/cc")
    assert failed.returncode == 0
    assert "/nonexistent/cc" in note.read_text()
    assert kernels(tree) == []
    assert build(tree, CC="/nonexistent/cc", WALSTREAM_KERNELS="require").returncode != 0


def test_skip_compiles_nothing_and_clears_the_note(tree: Path) -> None:
    note = tree / "walstream/kernels_failed.txt"
    note.touch()
    assert build(tree, WALSTREAM_KERNELS="skip").returncode == 0
    assert kernels(tree) == []
    assert not note.exists()


def test_another_word_is_refused(tree: Path) -> None:
    answer = build(tree, WALSTREAM_KERNELS="maybe")
    assert answer.returncode != 0
    assert "expected auto, require or skip" in answer.stderr


def test_what_did_not_change_is_not_compiled_again(tree: Path) -> None:
    if shutil.which("cc") is None and not REQUIRED:
        return
    assert build(tree, WALSTREAM_KERNELS="require").returncode == 0
    assert kernels(tree) == ["_cython", "small"]
    made = next((tree / "build/kernels").glob("*/walstream.small.*"))
    first_ns = made.stat().st_mtime_ns
    for compiled in (tree / "walstream").glob("*.so"):
        compiled.unlink()
    shutil.rmtree(next((tree / "build").glob("lib.*")))
    assert build(tree, WALSTREAM_KERNELS="require").returncode == 0
    assert kernels(tree) == ["_cython", "small"]
    assert made.stat().st_mtime_ns == first_ns
    (tree / "walstream/small.py").write_text("def double(value: int) -> int:\n    return 4\n")
    assert build(tree, WALSTREAM_KERNELS="require").returncode == 0
    made = next((tree / "build/kernels").glob("*/walstream.small.*"))
    assert made.stat().st_mtime_ns != first_ns


WITHOUT_CYTHON = """
import sys

class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0].lower() == "cython":
            raise ImportError(name)

sys.meta_path.insert(0, Nothing())
sys.path.insert(0, sys.argv[1])
import walstream
from walstream import WalStreamDecoder, describe
import walstream.redo.rules.engine, walstream.index.postings, walstream.dump.text_lines
assert walstream.__file__.startswith(sys.argv[1])
assert sys.modules["cython"].__name__ == "walstream.uncompiled"
print(walstream.dump.text_lines.__file__.rpartition(".")[2])
"""


def test_uncompiled_kernels_need_no_cython(tmp_path: Path) -> None:
    shutil.copytree(
        ROOT / "walstream", tmp_path / "walstream", ignore=shutil.ignore_patterns("*.so", "*.c")
    )
    answer = subprocess.run(
        [sys.executable, "-c", WITHOUT_CYTHON, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.stderr == ""
    assert answer.stdout == "py\n"
