"""Where streaming is to go on: the directory's files against the server's timeline history (pure).

pg_receivewal takes the highest segment number. That is wrong as soon as a timeline that ran
further has been left: here the server's history is walked from its end, and the first timeline of
it that the directory holds anything of decides.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from walstream.errors import ServerRefused
from walstream.wal.model import format_lsn
from walstream.wal.segment import parse_segment_file_name
from walstream.wal.timeline import TimelineHistory, Upstream, WalHole

PARTIAL = ".partial"
SUFFIXES = {"": "none", ".gz": "gzip", ".lz4": "lz4", ".zst": "zstd"}


class WalEntry(NamedTuple):
    """A segment file of the directory. ``size`` is the file's, in bytes."""

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
    """

    timeline: int
    start_lsn: int
    partials: tuple[WalEntry, ...]
    dead: tuple[WalEntry, ...]
    holes: tuple[WalHole, ...]


def parse_entry(name: str, size: int, segment_size: int) -> WalEntry | None:
    """Returns what a file name says, None where it is not a segment's.

    A plain complete segment of another size than ``segment_size`` is not one.
    """
    stem = name
    complete = not stem.endswith(PARTIAL)
    stem = stem.removesuffix(PARTIAL)
    for suffix, compression in SUFFIXES.items():
        if suffix and not stem.endswith(suffix):
            continue
        found = parse_segment_file_name(stem.removesuffix(suffix), segment_size)
        if found is None:
            continue
        if complete and compression == "none" and size != segment_size:
            return None
        return WalEntry(name, found.timeline, found.segment_number, complete, compression, size)
    return None


def choose_start(
    entries: Iterable[WalEntry],
    upstream: Upstream,
    *,
    empty_start: tuple[int, int] | None = None,
) -> StartPlan:
    """Returns the start for a directory and a server.

    Args:
        entries: the segment files of the directory.
        upstream: the server.
        empty_start: (timeline, LSN) to begin with where the directory holds nothing of the
            server's history; by default the slot's restart LSN, else the end of its WAL.

    Raises:
        ServerRefused: the directory is ahead of the server.
    """
    held = list(entries)
    size = upstream.segment_size
    history = upstream.history
    ahead = [entry.timeline for entry in held if entry.timeline > upstream.timeline]
    if ahead:
        raise ServerRefused(
            f"the directory is on timeline {max(ahead)}, the server only on "
            f"{upstream.timeline}: it is behind, or it is the old primary; connect to the new one"
        )
    alive: dict[tuple[int, int], WalEntry] = {}
    dead = []
    for entry in held:
        part = history.part_of(entry.timeline)
        begin = entry.segment_number * size
        if part is None or begin >= part.end or (entry.complete and begin + size > part.end):
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
        if position > upstream.flush_lsn and timeline == upstream.timeline:
            raise ServerRefused(
                f"the directory ends at {format_lsn(position)}, the server's WAL already at "
                f"{format_lsn(upstream.flush_lsn)}, timeline {timeline}: it is behind or was reset"
            )
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
        # All that is held is past the switch point: begin again with the segment that it is in.
        lsn = min(entry.segment_number for entry in dead) * size
        timeline = [part.timeline for part in history.parts if part.begin < lsn + size][-1]
    elif empty_start is not None:
        timeline, lsn = empty_start
    elif upstream.slot_restart_lsn:
        timeline, lsn = upstream.slot_restart_timeline, upstream.slot_restart_lsn
    else:
        timeline, lsn = upstream.timeline, upstream.flush_lsn
    return StartPlan(timeline, lsn - lsn % size, (), tuple(dead), ())


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
