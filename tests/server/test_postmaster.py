"""A server that walstream starts: what is said when it does not start."""

from __future__ import annotations

import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from walstream.errors import LocalServerError
from walstream.server.postmaster import end_orphans, wait_until_ready


class Starting:
    """A server that ends when it is looked at the second time."""

    pid = 4711
    looks = 0

    @property
    def returncode(self) -> int | None:
        self.looks += 1
        return None if self.looks == 1 else 1


async def waited_for(directory: Path) -> None:
    process: Any = Starting()
    await wait_until_ready(process, directory / "postmaster.pid", directory / "log")


async def test_a_server_that_fails_may_take_its_pid_file_away(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("FATAL:  no\n")
    with pytest.raises(LocalServerError, match="did not start: FATAL:  no"):
        await waited_for(tmp_path)


@pytest.mark.parametrize("status", ["ready   ", "standby "])
async def test_it_is_ready_when_its_own_pid_file_says_so(tmp_path: Path, status: str) -> None:
    (tmp_path / "log").touch()
    lines = ["4711", "data", "0", "5432", "socket", "", "0 0", status]
    (tmp_path / "postmaster.pid").write_text("\n".join(lines))
    await waited_for(tmp_path)
    # What a server that was killed left behind says nothing of the one that starts.
    lines[0] = "4710"
    (tmp_path / "postmaster.pid").write_text("\n".join(lines))
    with pytest.raises(LocalServerError, match="did not start"):
        await waited_for(tmp_path)


def test_the_processes_that_work_in_a_directory_are_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("walstream.server.postmaster.STOP_DEADLINE_S", 1.0)
    data = tmp_path / "data"
    data.mkdir()
    with (
        subprocess.Popen(["sleep", "600"], cwd=data) as orphan,
        subprocess.Popen(["sleep", "600"], cwd=tmp_path) as other,
    ):
        try:
            threading.Thread(target=orphan.wait).start()  # as init does: no zombie stays
            end_orphans(data)
            # It may have inherited that it ignores the first.
            assert orphan.wait() in (-signal.SIGQUIT, -signal.SIGKILL)
            assert other.poll() is None
        finally:
            orphan.kill()
            other.kill()
