"""The redo engine in both builds: as it is installed, and from its source files uncompiled."""

from __future__ import annotations

import walstream.redo.rules.engine
from tests.support.pure import load

INSTALLED = walstream.redo.rules.engine
UNCOMPILED = load("walstream.redo.rules.engine", {})
