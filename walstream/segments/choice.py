"""Which file holds a segment: the one rule, by a timeline's history and by names. Pure.

Of each segment the file of the newest timeline is taken that the path to the wanted one runs
through there, then of an older one: the segment of a switch point may be there on both. Of the
files of one timeline a complete one comes before an unfinished one, a plain one before a
compressed one.
"""

from __future__ import annotations

from collections.abc import Iterator

from walstream.segments.names import KINDS, SegmentName, segment_names
from walstream.wal.timeline import TimelineHistory


def timelines_of(history: TimelineHistory, number: int, segment_size: int) -> list[int]:
    """Returns the timelines with WAL of the path in a segment, newest first.

    The first of them has the segment's last byte. A timeline writes the segment of its switch
    point as a whole, beginning with what it has from its parent.
    """
    return [
        part.timeline
        for part in reversed(history.parts)
        if part.begin // segment_size <= number and number * segment_size < part.end
    ]


def candidates(
    history: TimelineHistory,
    number: int,
    segment_size: int,
    kinds: tuple[tuple[str, str, bool], ...] = KINDS,
) -> Iterator[SegmentName]:
    """Yields the names of the files that may hold a segment, the first that is there is it."""
    for timeline in timelines_of(history, number, segment_size):
        yield from segment_names(timeline, number, segment_size, kinds)
