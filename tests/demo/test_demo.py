"""The README's first promise: the demo works, leaves nothing behind, and tells when it is wrong."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner

from walstream.cli import exit_codes
from walstream.cli.demo import command
from walstream.demo import play


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that the server's user can reach, as pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


def test_the_demo(open_directory: Path) -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "walstream", "demo"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={"PATH": "/usr/bin:/bin", "TMPDIR": str(open_directory)},
    )
    assert answer.returncode == exit_codes.OK, answer.stdout + answer.stderr
    assert re.search(r"All \d{3} pages at \S+ equal the server's own files", answer.stdout)
    assert "Heap/INSERT+INIT *" in answer.stdout
    assert "renamed 3 999.00" in answer.stdout
    assert answer.stderr == ""
    assert list(open_directory.iterdir()) == []


def test_a_page_that_differs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def one_differs(*_: object) -> int:
        await trio.lowlevel.checkpoint()
        return 1

    monkeypatch.setattr(play, "play", one_differs)
    assert CliRunner().invoke(command).exit_code == exit_codes.DIFFERENT
