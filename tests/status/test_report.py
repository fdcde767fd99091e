"""The status file of a running receiver: nobody waits for it."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest
import trio
import trio.testing
from trio_util import AsyncValue

from walstream.errors import WriteError
from walstream.receive.receiver import Receiver
from walstream.status import report
from walstream.status.file import read_status
from walstream.status.monitor import Monitor
from walstream.status.snapshot import ReceiverStatus
from walstream.store.writer import Writer
from walstream.terminal import StatusLine


@pytest.fixture
def monitor(tmp_path: Path) -> Monitor:
    writer = Writer(tmp_path)
    return Monitor(Receiver(AsyncValue(""), writer), writer)


class HangingFile:
    """A status file's disk that hangs until it is let go."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.calls = 0

    def __call__(self, _path: Path, _status: ReceiverStatus) -> None:
        self.calls += 1
        self.begun.set()
        self.go_on.wait()


async def test_a_disk_that_hangs_under_the_status_file_stops_nobody(
    monitor: Monitor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: trio.testing.MockClock,
) -> None:
    del autojump_clock
    hanging = HangingFile()
    monkeypatch.setattr(report, "write_status", hanging)
    reporter = report.Reporter(monitor, tmp_path / "s", StatusLine(False))
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reporter.run)
            await trio.to_thread.run_sync(hanging.begun.wait)
            first = monitor.latest
            await trio.sleep(100)  # the loop turns, and the line goes on
            assert monitor.latest is not first
            assert hanging.calls == 1
            nursery.cancel_scope.cancel()
    finally:
        hanging.go_on.set()


async def test_the_last_state_is_written_at_the_end(monitor: Monitor, tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.cancel()
        nursery.start_soon(report.Reporter(monitor, tmp_path / "s", StatusLine(False)).run)
    assert read_status(tmp_path / "s") == monitor.latest


async def test_a_file_that_cannot_be_written_is_told_of_once(
    monitor: Monitor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    autojump_clock: trio.testing.MockClock,
) -> None:
    del autojump_clock
    fails, calls = [True], []
    reached = {3: trio.Event(), 6: trio.Event()}

    def write(path: Path, status: ReceiverStatus) -> None:
        calls.append(status)
        if len(calls) in reached:
            trio.from_thread.run_sync(reached[len(calls)].set)
        if fails[0]:
            raise WriteError(f"write {path}: No space left on device", str(path))

    monkeypatch.setattr(report, "write_status", write)
    caplog.set_level(logging.INFO)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(report.Reporter(monitor, tmp_path / "s", StatusLine(False)).run)
        await reached[3].wait()
        fails[0] = False
        await reached[6].wait()
        nursery.cancel_scope.cancel()
    assert [message.split(" ")[0] for message in caplog.messages] == ["write", str(tmp_path / "s")]
