"""Stands in for the module ``cython`` where the kernels are not compiled and Cython is not there.

Compiled kernels need nothing of Cython. Uncompiled ones import its module for the few names below;
where Cython is installed its own is taken.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from types import ModuleType

compiled = False
nogil = nullcontext()
int = uint = longlong = ulonglong = Py_ssize_t = int


def cast(_kind: object, value: object) -> object:
    """Returns ``value``: kernels mask their integers themselves."""
    return value


def provide() -> ModuleType:
    """Makes ``import cython`` work; returns what it imports."""
    try:
        import cython
    except ImportError:
        cython = sys.modules["cython"] = sys.modules[__name__]
    module: ModuleType = cython
    return module
