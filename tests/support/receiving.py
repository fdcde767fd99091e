"""Runs ``walstream receive`` as an operator would: a process, watched by its status file."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from walstream.wal.model import parse_lsn

DEADLINE_S = 180.0


def wait_until(condition: Callable[[], bool], what: Callable[[], str] = str) -> None:
    """Waits until another process is as wanted, by asking it; ``what`` tells why it is not."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.02)


class Receive:
    """A ``walstream receive`` process; killed when the context ends."""

    def __init__(self, directory: Path, dsn: str, *options: str, verbose: bool = True) -> None:
        self.directory = directory
        self.status_path = directory.with_name(directory.name + ".status.json")
        self.log_path = directory.with_name(directory.name + ".log")
        self.status_path.unlink(missing_ok=True)
        command = [sys.executable, "-m", "walstream", "receive", "-D", str(directory), "-d", dsn]
        command += ["--status-file", str(self.status_path), *(["-v"] if verbose else []), *options]
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.wait()

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def status(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self.status_path.read_text())
        except FileNotFoundError:
            return {}
        return found

    def wait_for(self, key: str, lsn: int = 1) -> None:
        """Waits until an LSN of the status is at or past ``lsn``; the process must live on."""

        def reached() -> bool:
            self.check_alive()
            return parse_lsn(self.status().get(key, "0/0")) >= lsn

        wait_until(reached, lambda: f"{key} at {self.status().get(key)}: {self.log}")

    def wait_for_log(self, text: str) -> None:
        def told() -> bool:
            self.check_alive()
            return text in self.log

        wait_until(told, lambda: self.log)

    def check_alive(self) -> None:
        assert self.process.poll() is None, self.log

    def exit_code(self) -> int:
        """Waits until the process ends by itself."""
        return self.process.wait(DEADLINE_S)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.exit_code()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def receive_until(directory: Path, dsn: str, lsn: int, *options: str) -> Receive:
    """Receives until ``lsn`` is on disk, with ``--endpos``; returns the finished process."""
    text = f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"
    with Receive(directory, dsn, "--endpos", text, *options) as receive:
        code = receive.exit_code()
        assert code == 0, receive.log
    return receive
