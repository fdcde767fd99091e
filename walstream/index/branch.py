"""By which history of timelines the index came to its end, and whether the server has left it."""

from __future__ import annotations

import json

from walstream.index.page_index import PageIndex
from walstream.wal.timeline import TimelineHistory, TimelinePart, fork_lsn


def encode_history(history: TimelineHistory) -> bytes:
    """Returns a history as the index keeps it: (timeline, begin, end) of each part."""
    return json.dumps(history.parts).encode()


def decode_history(stored: bytes) -> TimelineHistory:
    """Returns a history from what ``encode_history`` made of it."""
    return TimelineHistory(tuple(TimelinePart(*part) for part in json.loads(stored)))


def branch_end(index: PageIndex, history: TimelineHistory) -> int | None:
    """Returns where ``history`` has left what was indexed; None where all of it is of that history.

    The index keeps with its end by which history it came there.
    """
    stored, end = index.meta("history"), int(index.meta("last_record_end") or 0)
    if stored is None:
        return None
    lsn = fork_lsn(decode_history(stored), history)
    return lsn if lsn < end else None
