"""Says how a receiver is doing, each second: into the status file and onto the status line."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import trio

from walstream.errors import WriteError
from walstream.status.file import write_status
from walstream.status.monitor import Monitor
from walstream.status.snapshot import ReceiverStatus
from walstream.status.text import progress_lines
from walstream.terminal import StatusLine

INTERVAL_S = 1.0
LAST_WRITE_S = 1.0

log = logging.getLogger("walstream")


class Reporter:
    """Keeps a status file (None: none) and a line up to date from what a monitor sees."""

    def __init__(self, monitor: Monitor, status_path: Path | None, line: StatusLine) -> None:
        self._monitor = monitor
        self._status_path = status_path
        self._line = line
        self._limiter = trio.CapacityLimiter(1)
        self._unwritten = False

    async def run(self) -> None:
        """Writes the file and shows the line, every second and at the end.

        A status file that cannot be written is told of once, and tried again: WAL matters more. A
        disk that hangs keeps one thread and nothing else.

        Cancellation: the last state is written, unless the disk takes longer than a moment.
        """
        try:
            while True:
                await self._report()
                await trio.sleep(INTERVAL_S)
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + LAST_WRITE_S):
                await self._report()

    async def _report(self) -> None:  # noqa: ASYNC910
        status = self._monitor.take()
        self._line.show(progress_lines(status))
        if self._status_path is not None and not self._limiter.borrowed_tokens:
            with trio.move_on_after(INTERVAL_S):
                await trio.to_thread.run_sync(
                    self._write,
                    self._status_path,
                    status,
                    abandon_on_cancel=True,
                    limiter=self._limiter,
                )

    def _write(self, path: Path, status: ReceiverStatus) -> None:
        """Replaces the status file; runs in a thread."""
        try:
            write_status(path, status)
        except WriteError as exc:
            if not self._unwritten:
                log.warning("%s", exc)
            self._unwritten = True
            return
        if self._unwritten:
            log.info("%s is written again", path)
        self._unwritten = False


async def show_backup(written: Callable[[], int], line: StatusLine) -> None:
    """Shows how much of a base backup has arrived, each second, until cancelled.

    The server knows no total before it has read everything: bytes and rate are what can be told.

    Cancellation: nothing is left behind.
    """
    begun = time.monotonic()
    while True:
        size, passed = written(), time.monotonic() - begun
        rate = size / passed if passed > 0 else 0.0
        waiting = "" if size else ", waiting for the server's checkpoint"
        line.show([f"base backup: {size / 1e6:.0f} MB, {rate / 1e6:.1f} MB/s{waiting}"])
        await trio.sleep(INTERVAL_S)
