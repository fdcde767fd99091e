"""Where streaming is to go on: the directory's files against the server's timeline history (pure).

pg_receivewal takes the highest segment number. That is wrong as soon as a timeline that ran
further has been left: here the server's history is walked from its end, and the first timeline of
it that the directory holds anything of decides.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from walstream.errors import ConnectionLost, ServerRefused
from walstream.segments.names import parse_segment_name
from walstream.wal.layout import XLOG_BLCKSZ, SizeOfXLogLongPHD
from walstream.wal.model import format_lsn
from walstream.wal.timeline import (
    INFINITY,
    TimelineHistory,
    TimelinePart,
    Upstream,
    WalHole,
    fork_lsn,
)


class WalEntry(NamedTuple):
    """A segment file of the directory.

    ``compression`` is a suffix, "" for a plain file. ``size`` is the file's, in bytes.
    """

    name: str
    timeline: int
    segment_number: int
    complete: bool
    compression: str
    size: int


class StartPlan(NamedTuple):
    """What to do before streaming starts.

    ``partials``: the unfinished files of the segment that begins at ``start_lsn``; more than one
    where compression was changed.
    ``dead``: files of a branch that the server's history has left.
    ``anew``: the directory holds no file of the server's path; it begins at ``start_lsn``.
    """

    timeline: int
    start_lsn: int
    partials: tuple[WalEntry, ...]
    dead: tuple[WalEntry, ...]
    holes: tuple[WalHole, ...]
    anew: bool = False


def parse_entry(name: str, size: int, segment_size: int) -> WalEntry | None:
    """Returns what a file name says, None where it is not a segment's.

    A plain complete segment of another size than ``segment_size`` is not one.
    """
    found = parse_segment_name(name)
    number = None if found is None else found.number(segment_size)
    if found is None or number is None:
        return None
    if not found.partial and not found.compression and size != segment_size:
        return None
    return WalEntry(name, found.timeline, number, not found.partial, found.compression, size)


def not_there_yet(upstream: Upstream, message: str) -> ConnectionLost | ServerRefused:
    """Returns the error for a server that lacks what the directory has.

    A standby gets it in time. A primary never will: it was reset, or is not the one.
    """
    if upstream.in_recovery:
        return ConnectionLost(f"{message}; it is a standby and may still get there")
    return ServerRefused(
        f"{message}: it was reset, or it is an old primary; connect to the right server"
    )


def check_reached(upstream: Upstream, timeline: int, end_lsn: int) -> None:
    """Checks that the server has WAL up to where ours ends, on its own timeline.

    It would answer "requested starting point is ahead" (XX000), in its language.

    Raises:
        ConnectionLost, ServerRefused: see ``not_there_yet``.
    """
    if timeline != upstream.timeline:
        return
    # A record that ends with its page may be said to end behind the next page's header.
    header = end_lsn % XLOG_BLCKSZ
    if upstream.flush_lsn < end_lsn - (header if header <= SizeOfXLogLongPHD else 0):
        raise not_there_yet(
            upstream,
            f"the directory ends at {format_lsn(end_lsn)}, the server is behind with WAL up to "
            f"{format_lsn(upstream.flush_lsn)}, timeline {timeline}",
        )


def choose_start(
    entries: Iterable[WalEntry],
    upstream: Upstream,
    *,
    empty_start: tuple[int, int] | None = None,
    void: Collection[WalEntry] = (),
    kept: Mapping[int, TimelineHistory] | None = None,
) -> StartPlan:
    """Returns the start for a directory and a server.

    Args:
        entries: the segment files of the directory.
        upstream: the server.
        empty_start: (timeline, LSN) to begin with where the directory holds nothing; by default
            the slot's restart LSN, else the end of the server's WAL.
        void: those of ``entries`` whose content is past the end of their timeline.
        kept: the history files of the directory, by timeline.

    Raises:
        ConnectionLost, ServerRefused: the directory is ahead of the server, see
            ``not_there_yet``.
    """
    held = list(entries)
    size = upstream.segment_size
    history = upstream.history
    newest_timeline = max((entry.timeline for entry in held), default=0)
    if newest_timeline > upstream.timeline:
        raise not_there_yet(
            upstream,
            f"the directory is on timeline {newest_timeline}, the server is behind on "
            f"{upstream.timeline}",
        )
    alive: dict[tuple[int, int], WalEntry] = {}
    dead = []
    for entry in held:
        part = history.part_of(entry.timeline)
        begin = entry.segment_number * size
        past = part is None or begin >= part.end or (entry.complete and begin + size > part.end)
        if part is None or past or entry in void:
            dead.append(entry)
        elif begin + size > part.begin:
            key = (entry.timeline, entry.segment_number)
            if key not in alive or entry.complete > alive[key].complete:
                alive[key] = entry
    for part in reversed(history.parts):
        numbers = [number for timeline, number in alive if timeline == part.timeline]
        if not numbers:
            continue
        newest = alive[part.timeline, max(numbers)]
        position = newest.segment_number * size + (size if newest.complete else 0)
        timeline = part.timeline
        if position >= part.end:  # complete up to a switch point at a segment boundary
            timeline = history.parts[history.parts.index(part) + 1].timeline
        check_reached(upstream, timeline, position)
        holes = find_holes(alive, history, position, size)
        partials = tuple(
            entry
            for entry in held
            if not entry.complete and (entry.timeline, entry.segment_number) == newest[1:3]
        )
        return StartPlan(
            timeline, position, () if newest.complete else partials, tuple(dead), tuple(holes)
        )
    if dead:
        timeline, lsn = _after_the_dead(dead, history, size, kept or {})
    elif empty_start is not None:
        timeline, lsn = empty_start
    elif upstream.slot_restart_lsn:
        timeline, lsn = upstream.slot_restart_timeline, upstream.slot_restart_lsn
    else:
        timeline, lsn = upstream.timeline, upstream.flush_lsn
    return StartPlan(timeline, lsn - lsn % size, (), tuple(dead), (), anew=True)


def _after_the_dead(
    dead: list[WalEntry],
    history: TimelineHistory,
    segment_size: int,
    kept: Mapping[int, TimelineHistory],
) -> tuple[int, int]:
    """Returns (timeline, LSN) to begin at where all that is held is past a switch point.

    It is the segment in which the server's path left the oldest of them, as the newest timeline
    has it that begins before the segment's end: nothing between is left out.
    """
    first = TimelineHistory((TimelinePart(1, 0, INFINITY),))
    forks = []
    for entry in dead:
        forks.append(entry.segment_number * segment_size)
        ours = kept.get(entry.timeline, first if entry.timeline == 1 else None)
        if ours is not None:
            forks.append(fork_lsn(ours, history))
    lsn = min(forks)
    lsn -= lsn % segment_size
    return [p.timeline for p in history.parts if p.begin < lsn + segment_size][-1], lsn


def find_holes(
    held: Iterable[tuple[int, int]], history: TimelineHistory, end: int, segment_size: int
) -> list[WalHole]:
    """Returns what is missing between the oldest segment of ``held`` and ``end``.

    Args:
        held: (timeline, segment number) of the files there are.
        history: the path to follow; other timelines in ``held`` are ignored.
    """
    have = set(held)
    on_path = [
        number
        for timeline, number in have
        if (part := history.part_of(timeline)) and number * segment_size < part.end
    ]
    if not on_path:
        return []
    oldest = min(on_path)
    holes: list[WalHole] = []
    # Walked by runs of missing numbers between held ones, not number by number: an old file and a
    # new one can be a billion segments apart.
    for part in history.parts:
        first = max(oldest, part.begin // segment_size)
        last = -(-min(part.end, end) // segment_size)
        if part.end <= end and part.end % segment_size:
            last -= 1  # the segment of the switch point is read from the next timeline
        numbers = sorted(n for t, n in have if t == part.timeline and first <= n < last)
        expected = first
        for number in [*numbers, last]:
            if number > expected:
                hole = WalHole(part.timeline, expected * segment_size, number * segment_size)
                holes.append(hole)
            expected = number + 1
    return holes
