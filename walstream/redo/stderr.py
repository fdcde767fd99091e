"""What is kept and what is logged of a redo child's stderr, whatever the child writes there.

A line is cut at ``LINE_CAP`` bytes, at most ``LINES_PER_SECOND`` lines are given out to be logged
(after a burst), the last ``TAIL`` lines are kept for the error report. Memory is bounded by these.
Pure: bytes and a clock reading in, lines out.
"""

from __future__ import annotations

from collections import deque

LINE_CAP = 1000
LINES_PER_SECOND = 20.0
BURST = 100
TAIL = 20


class StderrLines:
    """Cuts stderr into lines, keeps the tail, and limits what is logged."""

    def __init__(self, now: float) -> None:
        self.tail: deque[str] = deque(maxlen=TAIL)
        self.total_bytes = 0
        self.suppressed = 0
        self._partial = bytearray()
        self._tokens = float(BURST)
        self._refilled_at = now

    def feed(self, data: bytes, now: float) -> list[str]:
        """Returns the lines to be logged of what ``data`` completes."""
        self.total_bytes += len(data)
        *whole, rest = data.split(b"\n")
        if not whole:
            self._keep(rest)
            return []
        self._keep(whole[0])
        whole[0] = bytes(self._partial)
        self._partial.clear()
        self._keep(rest)
        self._tokens = min(BURST, self._tokens + (now - self._refilled_at) * LINES_PER_SECOND)
        self._refilled_at = now
        allowed = min(int(self._tokens), len(whole))
        self._tokens -= allowed
        lines = []
        if allowed and self.suppressed:
            lines.append(f"({self.suppressed} lines not shown)")
            self.suppressed = 0
        lines += [_text(line) for line in whole[:allowed]]
        self.suppressed += len(whole) - allowed
        self.tail.extend(_text(line) for line in whole[-TAIL:])
        return lines

    def close(self) -> list[str]:
        """Returns what is left to be logged when stderr has ended."""
        lines = [f"({self.suppressed} lines not shown)"] if self.suppressed else []
        if self._partial:
            lines.append(_text(self._partial))
            self.tail.append(lines[-1])
        self._partial.clear()
        self.suppressed = 0
        return lines

    def _keep(self, part: bytes) -> None:
        self._partial += part[: LINE_CAP + 1 - len(self._partial)]


def _text(line: bytes | bytearray) -> str:
    text = bytes(line[:LINE_CAP]).decode("utf-8", "backslashreplace")
    text = "".join(c if c.isprintable() else "?" for c in text.rstrip("\r"))
    return text + " (cut)" if len(line) > LINE_CAP else text
