"""A server that walstream starts: what is said when it does not start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from walstream.errors import LocalServerError
from walstream.server.postmaster import wait_until_ready


async def test_a_server_that_fails_may_take_its_pid_file_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing:
        looks = 0

        @property
        def returncode(self) -> int | None:
            self.looks += 1
            return None if self.looks == 1 else 1

    process: Any = Failing()
    monkeypatch.setattr(Path, "exists", lambda _: True)  # gone when it is read
    (tmp_path / "log").write_text("FATAL:  no\n")
    with pytest.raises(LocalServerError, match="did not start: FATAL:  no"):
        await wait_until_ready(process, tmp_path / "postmaster.pid", tmp_path / "log")
