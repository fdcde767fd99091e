"""Takes the snapshots: looks at a receiver, its writer, and what comes behind them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from walstream.status.snapshot import ReceiverStatus
from walstream.tasks.watermark import Watermark

if TYPE_CHECKING:
    from walstream.receive.receiver import Receiver
    from walstream.redo.manager import RedoManager  # what only receives starts without it
    from walstream.status.window import Window
    from walstream.store.writer import Writer

RATE_S = 0.5


class Monitor:
    """Watches a receiver and its writer; ``ingested`` and ``redo`` where there is an index.

    ``latest`` is the snapshot that was taken last: other threads may read it at any time.
    """

    def __init__(
        self,
        receiver: Receiver,
        writer: Writer,
        ingested: Watermark | None = None,
        redo: RedoManager | None = None,
    ) -> None:
        self._receiver = receiver
        self._writer = writer
        self._ingested = ingested
        self._redo = redo
        self.retention: str | None = None
        """What retention found last, in words; kept up to date by whoever looks."""
        self.window: Window | None = None
        """What can be had, as it was last looked at."""
        self._caught_up_at = time.time()
        self._last = (time.monotonic(), writer.received.value)
        self._rate = 0.0
        self.latest = self.take()

    def take(self) -> ReceiverStatus:
        """Returns a snapshot of now, to be called in the event loop."""
        receiver, writer = self._receiver.state, self._writer
        state, flushed = writer.state, writer.flushed.value
        now = time.time()
        lag = max(0, receiver.server_end_lsn - flushed)
        if lag == 0:
            self._caught_up_at = now
        self._measure(writer.received.value)
        self.latest = ReceiverStatus(
            updated_at=round(now, 3),
            phase=receiver.phase,
            server=receiver.host,
            sessions=receiver.sessions,
            timeline=state.timeline,
            server_end_lsn=receiver.server_end_lsn,
            received_lsn=writer.received.value,
            written_lsn=writer.written.value,
            flushed_lsn=flushed,
            lag_bytes=lag,
            lag_seconds=round(now - self._caught_up_at, 3),
            bytes_per_second=round(self._rate),
            retained_bytes=self._retained(),
            slot_restart_lsn=receiver.slot_restart_lsn,
            fsyncs=state.fsyncs,
            last_fsync_seconds=round(state.last_fsync_s, 6),
            slowest_fsync_seconds=round(state.slowest_fsync_s, 6),
            waiting_for_space=state.waiting_for_space or None,
            holes=tuple(state.holes),
            set_aside=tuple(state.set_aside),
            last_error=receiver.last_error or None,
            last_error_at=receiver.last_error_at or None,
            indexed_lsn=None if self._ingested is None else self._ingested.value,
            redo_children=self._children(),
            retention=self.retention,
        )
        return self.latest

    def _measure(self, received_lsn: int) -> None:
        then, before = self._last
        passed = time.monotonic() - then
        if passed >= RATE_S:
            self._rate = max(0, received_lsn - before) / passed
            self._last = (time.monotonic(), received_lsn)

    def _retained(self) -> int | None:
        """Returns how much WAL the server keeps for our slot; None: no slot, or not known yet.

        As of the last message and the last status update. The server removes whole segments, and
        not before its next checkpoint: that much more is still there.
        """
        state = self._receiver.state
        if state.slot is None or not state.slot_restart_lsn:
            return None
        return max(0, state.server_end_lsn - state.slot_restart_lsn)

    def _children(self) -> tuple[str, ...] | None:
        if self._redo is None:
            return None
        return tuple(f"{child.kind} {child.role}: {child.sandbox}" for child in self._redo.status())
