"""Constants stand twice, in a ``.pxd`` for C and in its ``.py``: the two say the same."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

import walstream

PACKAGE = Path(walstream.__file__).parent
DEFINED = re.compile(r"^    #define (\w+) (0x[0-9A-F]+)u$", re.MULTILINE)
CONSTANT = re.compile(r"^    (\w+) = (0x[0-9A-F]+|\d+)(?:  #.*)?$", re.MULTILINE)
TWINS = sorted(path for path in PACKAGE.rglob("*.pxd") if "cdef enum:" in path.read_text())


def module_of(path: Path) -> str:
    return ".".join(("walstream", *path.relative_to(PACKAGE).with_suffix("").parts))


@pytest.mark.parametrize("path", TWINS, ids=module_of)
def test_numbers_agree(path: Path) -> None:
    text = path.read_text()
    enum = re.split(r"\n(?! |\n)", text.partition("cdef enum:\n")[2])[0]
    constants = CONSTANT.findall(enum) + DEFINED.findall(text)
    compiled = {name: int(value, 0) for name, value in constants}
    assert len(compiled) == len(constants), "a name stands twice"
    lines = [line for line in enum.splitlines() if line and not line.startswith("    #")]
    assert len(lines) == len(CONSTANT.findall(enum)), "a line of the enum is no constant"
    module = importlib.import_module(module_of(path))
    uncompiled = {
        name: value
        for name, value in vars(module).items()
        if type(value) is int and not name.startswith("_")
    }
    assert compiled == uncompiled


def test_there_are_twins() -> None:
    assert {"layout", "opcodes"} <= {path.stem for path in TWINS}
