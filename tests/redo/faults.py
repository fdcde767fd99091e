"""Requests for the children in ``children/``, and processes that run them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from walstream.redo.manager import RedoConfig
from walstream.redo.process import ProcessLimits, RedoProcess
from walstream.redo.protocol import RedoRequest
from walstream.wal.model import BufferTag

ROOT = Path(__file__).parent.parent.parent
SPEAKER = (sys.executable, "-S", "-P", "-m", "tests.redo.children.speaker", "--wal-redo")
ENVIRONMENT = {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(os.path.isdir, sys.path)])}


def request(block: int, command: str = "", *, records: int = 2, size: int = 224) -> RedoRequest:
    """A request whose last record tells the child to do ``command``."""
    body = command.encode().ljust(size - 24, b"\0")
    pairs = [(block * 1000 + 8 * n, bytes(size)) for n in range(1, records)]
    return RedoRequest(
        BufferTag(1663, 5, 16384, 0, block),
        None,
        (*pairs, (block * 1000 + 8 * records, bytes(24) + body)),
    )


def limits(**changes: Any) -> ProcessLimits:
    """Limits for tests: deadlines that a busy machine does not reach unless the test means it."""
    return ProcessLimits(**({"startup_timeout_s": 60.0, "execution_timeout_s": 60.0} | changes))


def speaker(*arguments: str, **changes: Any) -> RedoProcess:
    dump = changes.pop("dump", None)
    return RedoProcess(
        [*SPEAKER, *arguments], environment=ENVIRONMENT, limits=limits(**changes), dump=dump
    )


def config(*arguments: str, **changes: Any) -> RedoConfig:
    values: dict[str, Any] = {
        "command": (*SPEAKER, *arguments),
        "environment": ENVIRONMENT,
        "limits": limits(),
        "pool_size": 1,
    }
    return RedoConfig(**(values | changes))
