"""What one segment is worth, by the scan of its records: whole, ended early, or damaged.

A store calls a file by a segment's plain name only when its WAL goes on into the next segment. A
segment of a server that was stopped, or of a timeline that was left, ends before; what is behind
may be zeros or old WAL.
"""

from __future__ import annotations

from typing import NamedTuple

from walstream.scanning.ending import EndKind
from walstream.scanning.runs import RunEnd
from walstream.scanning.tail import Position, tail_of
from walstream.segments.source import SegmentSource
from walstream.wal.model import format_lsn


class Judgement(NamedTuple):
    """``end_lsn``: where the WAL that is proven ends, None where it fills the segment.

    ``damage`` says what is wrong with it, None for nothing.
    """

    end_lsn: int | None
    damage: str | None = None


WHOLE = Judgement(None)


def judge(source: SegmentSource, end: RunEnd, *, followed: bool, partial: bool) -> Judgement:
    """Returns what a segment is worth.

    Args:
        source: where it was read from.
        end: of a scan of this segment alone.
        followed: WAL of the same path is there behind it, so that it must not end early.
        partial: its file is called unfinished: whatever follows its records is nothing.

    Raises:
        StorageError: the segment cannot be read.
    """
    size = source.segment_size
    begin, limit = end.run.first * size, (end.run.last + 1) * size
    proven = min(max(begin, end.end_lsn), limit)
    if partial:
        return Judgement(proven)
    if end.short is not None:
        return Judgement(proven, "it is shorter than a segment")
    if end.lost:
        lost = end.lost[0]
        return Judgement(proven, str(lost.error))
    own = [error for error in end.errors if (error.lsn or 0) < limit]
    ended = end.zeros_lsn is not None and end.zeros_lsn < limit
    if not own and not ended:
        return WHOLE
    if not followed:
        position = end.position if end.records else Position(begin, find=True)
        ending = tail_of(source, position, whole=False)
        if ending.kind is EndKind.CLEAN:
            return Judgement(proven)
    if own:
        return Judgement(proven, str(own[0]))
    return Judgement(proven, f"zeros follow the last record at {format_lsn(proven)}")
