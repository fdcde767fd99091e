"""Loads the source of a kernel uncompiled, beside the compiled module, to compare the two."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import walstream

PREFIX = "uncompiled_"
ROOT = Path(walstream.__file__).parent.parent
IMPORT = re.compile(r"^ *from (walstream\.\S+) import", re.MULTILINE)


def pure(name: str, replace: dict[str, ModuleType] | None = None) -> ModuleType:
    """Returns module ``name`` executed from its ``.py`` file, whatever the build is.

    Kernels that it imports itself are compiled or not as the build has them, unless ``replace``
    gives others by their full names.
    """
    spec = importlib.util.find_spec(name.rpartition(".")[0])
    assert spec is not None
    assert spec.submodule_search_locations is not None
    path = f"{next(iter(spec.submodule_search_locations))}/{name.rpartition('.')[2]}.py"
    own = importlib.util.spec_from_file_location(PREFIX + name.replace(".", "_"), path)
    assert own is not None
    assert own.loader is not None
    module = importlib.util.module_from_spec(own)
    kept: dict[str, ModuleType | None] = {}
    # Itself, too, under its own name: a dataclass asks for its module.
    for full, substitute in ((replace or {}) | {own.name: module}).items():
        kept[full] = sys.modules.get(full)
        sys.modules[full] = substitute
    try:
        own.loader.exec_module(module)
    finally:
        for full, original in kept.items():
            if original is None:
                del sys.modules[full]
            else:
                sys.modules[full] = original
    return module


def load(name: str, loaded: dict[str, ModuleType]) -> ModuleType:
    """Returns a kernel uncompiled, on top of the kernels that it imports, uncompiled likewise.

    All of them are added to ``loaded`` by their full names, and taken from there.
    """
    source = ROOT / f"{name.replace('.', '/')}.py"
    for needed in IMPORT.findall(source.read_text()):
        pxd = ROOT / f"{needed.replace('.', '/')}.pxd"
        if needed not in loaded and pxd.exists():
            load(needed, loaded)
    if name not in loaded:
        loaded[name] = pure(name, loaded)
    return loaded[name]
