"""Timeline history: which timeline holds which part of WAL (timeline.c).

A ``.history`` file lists the ancestors of a timeline: one line each, ``TLI LSN reason``, where the
LSN is the switch point: the first byte that no longer belongs to that ancestor.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from walstream.errors import WalError
from walstream.wal.model import format_lsn, parse_lsn

INFINITY = (1 << 64) - 1

# What isspace() takes in the C locale, as sscanf does, but for the line feed: it ends the line.
_SPACE = b" \t\r\v\f"
# Compiled with the first history: most programs read none.
_LINE = rb"(\d{1,10})[ \t\r\v\f]+([0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8})(?=[ \t\r\v\f]|$)"


class TimelinePart(NamedTuple):
    """WAL ``[begin, end)`` belongs to ``timeline``; ``end`` is INFINITY for the current one."""

    timeline: int
    begin: int
    end: int


class TimelineHistory(NamedTuple):
    """The path of WAL to one timeline, oldest part first (readTimeLineHistory, reversed)."""

    parts: tuple[TimelinePart, ...]

    @property
    def current(self) -> int:
        return self.parts[-1].timeline

    def part_of(self, timeline: int) -> TimelinePart | None:
        """Returns the part that ``timeline`` holds, or None where it is not on the path."""
        for part in self.parts:
            if part.timeline == timeline:
                return part
        return None

    def part_at(self, lsn: int) -> TimelinePart:
        """Returns the part that holds the byte at ``lsn`` (tliOfPointInHistory)."""
        for part in self.parts:
            if part.begin <= lsn < part.end:
                return part
        return self.parts[-1]


def parse_history(timeline: int, content: bytes) -> TimelineHistory:
    """Returns the history of ``timeline`` from the content of its history file.

    Lines that are blank or begin with ``#`` are skipped, as readTimeLineHistory does. The reason at
    the end of a line holds names in the encoding of whatever database they came from: it is not
    read. Only a line feed ends a line.

    Raises:
        WalError: a line is malformed, timelines do not grow, or switch points go back.
    """
    parts: list[TimelinePart] = []
    begin = last = 0
    for line in content.split(b"\n"):
        entry = line.strip(_SPACE)
        if not entry or entry.startswith(b"#"):
            continue
        match = re.match(_LINE, entry)
        if match is None:
            shown = entry[:80].decode("ascii", "backslashreplace")
            raise WalError(f"timeline history {timeline}: syntax error in line {shown!r}")
        parent, switch = int(match[1]), parse_lsn(match[2].decode("ascii"))
        if not last < parent < timeline:
            raise WalError(
                f"timeline history {timeline}: timelines must grow, got {parent} after {last}"
            )
        if switch < begin:
            raise WalError(
                f"timeline history {timeline}: switch point of {parent} at {format_lsn(switch)} "
                f"is before the one at {format_lsn(begin)}",
                switch,
            )
        parts.append(TimelinePart(parent, begin, switch))
        begin, last = switch, parent
    parts.append(TimelinePart(timeline, begin, INFINITY))
    return TimelineHistory(tuple(parts))


def fork_lsn(ours: TimelineHistory, theirs: TimelineHistory) -> int:
    """Returns the LSN up to which two paths are one; INFINITY where neither leaves the other."""
    for a, b in zip(ours.parts, theirs.parts, strict=False):
        if a.timeline != b.timeline:
            return a.begin
        if a.end != b.end:
            return min(a.end, b.end)
    return INFINITY


class Upstream(NamedTuple):
    """What a server said of itself before streaming.

    ``flush_lsn`` is the end of its WAL on ``timeline``. ``slot_restart_lsn`` is the oldest LSN that
    our slot holds (0: no slot, no WAL reserved yet, or a server before 15 that cannot say).
    ``history_text`` is the content of the timeline's history file, bytes of no known encoding; None
    on timeline 1. ``in_recovery``: a standby, so that what it lacks may still come.
    """

    system_id: int
    version: int
    segment_size: int
    timeline: int
    flush_lsn: int
    history: TimelineHistory
    history_text: bytes | None
    slot_restart_lsn: int
    slot_restart_timeline: int
    in_recovery: bool = False


class StartPoint(NamedTuple):
    """Where streaming is to start: a timeline and an LSN."""

    timeline: int
    start_lsn: int


class WalHole(NamedTuple):
    """WAL ``[begin, end)`` of a timeline that lies between files that are held, but is not held."""

    timeline: int
    begin: int
    end: int


class StoredWal(NamedTuple):
    """WAL ``[begin, begin + len(data))`` of a timeline, as it is stored."""

    timeline: int
    begin: int
    data: bytes
