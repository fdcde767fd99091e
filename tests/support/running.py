"""``walstream`` commands as a user types them, and a ``walstream run`` in the background."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from walstream.wal.model import parse_lsn

WALSTREAM = [sys.executable, "-m", "walstream"]
DEADLINE_S = 180.0


def walstream(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end."""
    return subprocess.run(
        [*WALSTREAM, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


class Running:
    """A ``walstream run`` in the background."""

    def __init__(self, dsn: str, store: Path, *options: str) -> None:
        self.store = store
        self.process = subprocess.Popen(
            [*WALSTREAM, "run", dsn, "--store", str(store), *options],
            stderr=subprocess.PIPE,
            text=True,
        )

    def status(self) -> dict[str, Any]:
        answer = walstream("status", self.store, "--json")
        return json.loads(answer.stdout) if answer.returncode == 0 else {}

    def wait_until(self, condition: Callable[[dict[str, Any]], bool]) -> None:
        """Waits until the status is as wanted; fails when the process ends first."""
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.process.communicate()[1]
            if condition(self.status()):
                return
        raise AssertionError(f"not in time: {self.status()}")

    def wait_until_indexed(self, lsn: int) -> None:
        # The server's position may stand behind the header of a page that no record has begun.
        if lsn % 8192 in (24, 40):
            lsn -= lsn % 8192
        self.wait_until(
            lambda now: bool(now.get("indexed_to")) and parse_lsn(now["indexed_to"]) >= lsn
        )

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode
