"""Standard error of a program that runs for long: log lines, and below them one line that stays.

On a terminal the line is redrawn in place and log lines scroll above it; elsewhere it is logged
once a minute. Knows rich, which is imported where there is a terminal; nothing of WAL.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

log = logging.getLogger("walstream.progress")

LOG_INTERVAL_S = 60.0


@cache
def console() -> Console:
    """Returns the console on standard error: log and line must share it to stay apart."""
    from rich.console import Console

    return Console(stderr=True)


def log_handler(on: Console | None = None) -> logging.Handler:
    """Returns a handler whose lines go above the status line, folded at the terminal's width."""
    from rich.highlighter import NullHighlighter
    from rich.logging import RichHandler

    return RichHandler(
        console=on or console(),
        show_path=False,
        omit_repeated_times=False,
        markup=False,
        highlighter=NullHighlighter(),
        log_time_format="%Y-%m-%d %H:%M:%S",
    )


class StatusLine:
    """The line; a context manager. ``terminal``: redraw it, else log it once a minute."""

    def __init__(self, terminal: bool, on: Console | None = None) -> None:
        self._live: Live | None = None
        if terminal:
            from rich.live import Live

            self._live = Live(console=on or console(), auto_refresh=False)
        self._logged_at = time.monotonic()

    def __enter__(self) -> StatusLine:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, variants: Sequence[str]) -> None:
        """Shows the first of the variants that fits (longest first), the last one cut if it must.

        The first is what is logged.
        """
        if self._live is not None:
            from rich.text import Text

            # The last column stays free: some terminals wrap when it is written.
            room = self._live.console.width - 1
            text = next((line for line in variants if len(line) <= room), variants[-1][:room])
            self._live.update(Text(text, no_wrap=True, end=""), refresh=True)
        elif time.monotonic() - self._logged_at >= LOG_INTERVAL_S:
            self._logged_at = time.monotonic()
            log.info("%s", variants[0])
