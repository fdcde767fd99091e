"""The build that a test of rules runs on: every test that asks for it runs on both."""

from __future__ import annotations

from types import ModuleType

import pytest

from tests.redo.builds import INSTALLED, UNCOMPILED


@pytest.fixture(scope="session", params=[INSTALLED, UNCOMPILED], ids=["installed", "uncompiled"])
def build(request: pytest.FixtureRequest) -> ModuleType:
    """The module of the redo engine, as it is installed and executed from its source."""
    module: ModuleType = request.param
    return module
