"""Constants stand twice, in a ``.pxd`` for C and in its ``.py``: the two say the same."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

import walstream

PACKAGE = Path(walstream.__file__).parent
CONSTANT = re.compile(r"^    (?P<name>\w+) = (?P<value>0x[0-9A-F]+|\d+)(?:  #.*)?$", re.MULTILINE)
ALIASES = {
    "SHORT_PAGE_HEADER",
    "LONG_PAGE_HEADER",
    "RECORD_HEADER",
    "RECORD_CRC_OFFSET",
    "XLOG_RECORD_MAX_SIZE",
}
TWINS = sorted(path for path in PACKAGE.rglob("*.pxd") if "cdef enum:" in path.read_text())


def module_of(path: Path) -> str:
    return ".".join(("walstream", *path.relative_to(PACKAGE).with_suffix("").parts))


@pytest.mark.parametrize("path", TWINS, ids=module_of)
def test_numbers_agree(path: Path) -> None:
    enums = path.read_text().partition("cdef enum:\n")[2].partition("\n\ncdef ")[0]
    compiled = {match["name"]: int(match["value"], 0) for match in CONSTANT.finditer(enums)}
    module = importlib.import_module(module_of(path))
    uncompiled = {
        name: value
        for name, value in vars(module).items()
        if type(value) is int and not name.startswith("_") and name not in ALIASES
    }
    assert compiled == uncompiled
    lines = [line for line in enums.splitlines() if line.strip() and not line.startswith("    #")]
    assert len(lines) == len(compiled), "a line of the enum is no constant, or stands twice"


def test_there_are_twins() -> None:
    assert {"layout", "opcodes"} <= {path.stem for path in TWINS}
