"""The redo engine in both builds: as it is installed, and from its source files uncompiled."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import walstream
import walstream.redo.rules.engine
from tests.pure import pure

ROOT = Path(walstream.__file__).parent.parent
IMPORT = re.compile(r"^ *from (walstream\.(?:wal|redo\.rules)\.\w+) import", re.MULTILINE)


def load(name: str, loaded: dict[str, ModuleType]) -> ModuleType:
    """Returns a kernel uncompiled, after the kernels that it imports."""
    source = ROOT / f"{name.replace('.', '/')}.py"
    for needed in IMPORT.findall(source.read_text()):
        pxd = ROOT / f"{needed.replace('.', '/')}.pxd"
        if needed not in loaded and pxd.exists():
            load(needed, loaded)
    loaded[name] = pure(name, loaded)
    return loaded[name]


INSTALLED = walstream.redo.rules.engine
UNCOMPILED = load("walstream.redo.rules.engine", {})
