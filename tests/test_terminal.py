"""The line at the bottom of a terminal, and the log above it."""

from __future__ import annotations

import io
import logging
import re

import pytest
from rich.console import Console

from walstream.terminal import StatusLine, log_handler

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
LINES = [
    "streaming: timeline 1, received 12/3456789A, flushed 12/34567890, 123.4 MB/s, lag 1234.5 MB",
    "streaming: flushed 12/34567890, 123.4 MB/s, lag 1234.5 MB",
    "12/34567890, 123.4 MB/s, lag 1234.5 MB",
]


def shown(width: int, draws: int = 3) -> tuple[str, list[str]]:
    """Returns what was written to a terminal of that width, and its lines without control codes."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=width, height=24)
    logger = logging.getLogger("tests.terminal")
    logger.propagate = False
    logger.handlers = [log_handler(console)]
    with StatusLine(True, console) as line:
        for number in range(draws):
            line.show(LINES)
            logger.warning("note %d", number)
    raw = out.getvalue()
    return raw, re.split(r"[\r\n]+", CONTROL.sub("", raw))


@pytest.mark.parametrize("width", [30, 60, 80, 120])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    raw, lines = shown(width)
    assert max(map(len, lines)) <= width
    expected = next((line for line in LINES if len(line) < width), LINES[-1][: width - 1])
    assert [line for line in lines if line.startswith(expected[:20])]
    assert expected in CONTROL.sub("", raw)


def test_log_lines_stand_alone(width: int = 80) -> None:
    _, lines = shown(width)
    notes = [line for line in lines if "note " in line]
    assert len(notes) >= 3
    assert not [line for line in notes if "MB/s" in line]


def test_a_line_a_minute_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = 1000.0
    monkeypatch.setattr("walstream.terminal.time.monotonic", lambda: now)
    with caplog.at_level(logging.INFO, "walstream.progress"), StatusLine(False) as line:
        for _ in range(150):
            now += 1
            line.show(LINES)
    assert caplog.messages == [LINES[0], LINES[0]]
