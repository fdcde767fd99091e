"""The redo engine in both builds: as it is installed, and from its source files uncompiled."""

from __future__ import annotations

from types import ModuleType

import pytest

import walstream.redo.rules.engine
from tests.support.pure import load

INSTALLED = walstream.redo.rules.engine
UNCOMPILED = load("walstream.redo.rules.engine", {})


@pytest.fixture(scope="session", params=[INSTALLED, UNCOMPILED], ids=["installed", "uncompiled"])
def build(request: pytest.FixtureRequest) -> ModuleType:
    """The module of the redo engine, as it is installed and executed from its source."""
    module: ModuleType = request.param
    return module
