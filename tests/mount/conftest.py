"""Mounting needs the extra ``mount``, which CI has, and a system that gives us FUSE."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

collect_ignore: list[str] = []
if not os.access("/dev/fuse", os.R_OK | os.W_OK) or (
    importlib.util.find_spec("pyfuse3") is None and not os.environ.get("CI")
):
    collect_ignore = [path.name for path in Path(__file__).parent.glob("test_*.py")]
