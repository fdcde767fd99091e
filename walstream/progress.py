"""How a receiver is doing: one snapshot, as JSON in a file and as a line for people."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio

from walstream.receive.receiver import Receiver
from walstream.store.file_layer import free_space, replace_file
from walstream.store.writer import Writer
from walstream.terminal import StatusLine
from walstream.text import to_json
from walstream.wal.model import format_lsn

STATUS_INTERVAL_S = 1.0
LAST_WRITE_S = 1.0

log = logging.getLogger("walstream")


class Progress:
    """Watches a receiver and its writer; ``more`` adds what else there is to tell."""

    def __init__(
        self,
        receiver: Receiver,
        writer: Writer,
        more: Callable[[], dict[str, Any]] = dict,
    ) -> None:
        self._more = more
        self._receiver = receiver
        self._writer = writer
        self._caught_up_at = time.time()
        self._last = (time.monotonic(), writer.received.value)
        self._rate = 0.0
        self._limiter = trio.CapacityLimiter(1)
        self._unwritten = False

    def snapshot(self) -> dict[str, Any]:
        """Returns what a status file holds. LSNs as text, times in seconds since 1970."""
        receiver, writer = self._receiver.state, self._writer
        now = time.time()
        flushed = writer.flushed.value
        lag = max(0, receiver.server_end_lsn - flushed)
        if lag == 0:
            self._caught_up_at = now
        then, before = self._last
        passed = time.monotonic() - then
        if passed >= 0.5:
            self._rate = max(0, writer.received.value - before) / passed
            self._last = (time.monotonic(), writer.received.value)
        state = writer.state
        return {
            "updated_at": round(now, 3),
            "phase": receiver.phase,
            "server": receiver.host,
            "sessions": receiver.sessions,
            "timeline": state.timeline,
            "server_end_lsn": format_lsn(receiver.server_end_lsn),
            "received_lsn": format_lsn(writer.received.value),
            "written_lsn": format_lsn(writer.written.value),
            "flushed_lsn": format_lsn(flushed),
            "lag_bytes": lag,
            "lag_seconds": round(now - self._caught_up_at, 3),
            "bytes_per_second": round(self._rate),
            "retained_bytes": self._retained(),
            "slot_restart_lsn": format_lsn(receiver.slot_restart_lsn),
            "fsyncs": state.fsyncs,
            "last_fsync_seconds": round(state.last_fsync_s, 6),
            "slowest_fsync_seconds": round(state.slowest_fsync_s, 6),
            "waiting_for_space": state.waiting_for_space or None,
            "holes": state.holes,
            "set_aside": state.set_aside,
            "last_error": receiver.last_error or None,
            "last_error_at": receiver.last_error_at or None,
            **self._more(),
        }

    def _retained(self) -> int | None:
        """Returns how much WAL the server keeps for our slot; None: no slot, or not known yet.

        As of the last message and the last status update. The server removes whole segments, and
        not before its next checkpoint: that much more is still there.
        """
        state = self._receiver.state
        if state.slot is None or not state.slot_restart_lsn:
            return None
        return max(0, state.server_end_lsn - state.slot_restart_lsn)

    def lines(self) -> list[str]:
        """Returns the snapshot as a line for people, in several lengths, the longest first."""
        now = self.snapshot()
        phase = now["phase"]
        if now["waiting_for_space"]:
            phase = "waiting for space"
        if not now["timeline"] or not self._writer.received.value:
            return [phase]
        rate, lag = f"{now['bytes_per_second'] / 1e6:.1f} MB/s", f"{now['lag_bytes'] / 1e6:.1f} MB"
        flushed = now["flushed_lsn"]
        return [
            f"{phase}: timeline {now['timeline']}, received {now['received_lsn']}, "
            f"flushed {flushed}, {rate}, lag {lag}",
            f"{phase}: flushed {flushed}, {rate}, lag {lag}",
            f"{phase}: {flushed}, {rate}, lag {lag}",
            f"{flushed}, {rate}, lag {lag}",
        ]

    async def run(self, status_path: Path | None, line: StatusLine) -> None:
        """Writes the file and shows the line, every second and at the end.

        A status file that cannot be written is told of once, and tried again: WAL matters more.

        Cancellation: the last state is written, unless the disk takes longer than a moment.
        """
        try:
            while True:
                await self._show(status_path, line)
                await trio.sleep(STATUS_INTERVAL_S)
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + LAST_WRITE_S):
                await self._show(status_path, line)

    async def _show(self, status_path: Path | None, line: StatusLine) -> None:  # noqa: ASYNC910
        if status_path is not None and not self._limiter.borrowed_tokens:
            content = to_json(self.snapshot(), indent=1) + "\n"
            # A disk that hangs keeps the thread, not us: it is left behind.
            await trio.to_thread.run_sync(
                self._write, status_path, content, abandon_on_cancel=True, limiter=self._limiter
            )
        line.show(self.lines())

    def _write(self, path: Path, content: str) -> None:
        """Replaces the status file; runs in a thread."""
        try:
            replace_file(path, content.encode())
        except OSError as exc:
            if not self._unwritten:
                log.warning("write %s: %s, %s", path, exc.strerror, free_space(str(path)))
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
        await trio.sleep(STATUS_INTERVAL_S)
