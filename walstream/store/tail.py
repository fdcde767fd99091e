"""The end of what is stored: as much of it as tells one history from another.

Two histories of one cluster (a clone, a restored snapshot) can have the same bytes for long after
they parted: the same work makes the same records with the same transaction ids. What does not come
twice is a moment in time. So the tail that is to be compared with a server goes back until it holds
some records with a timestamp: where those and all that follows are the server's too, so is what
came before. Zeros behind an XLOG_SWITCH tell nothing and are left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from walstream.errors import FileDamaged, WalError
from walstream.segments.choice import timelines_of
from walstream.segments.files import read_file
from walstream.segments.names import COMPLETE, compression_of, segment_names
from walstream.store.verified_end import is_unfinished
from walstream.wal.layout import (
    RM_XACT_ID,
    RM_XLOG_ID,
    XLOG_BLCKSZ,
    XLR_RMGR_INFO_MASK,
    xl_info,
    xl_rmid,
)
from walstream.wal.opcodes import (
    XLOG_CHECKPOINT_ONLINE,
    XLOG_CHECKPOINT_SHUTDOWN,
    XLOG_XACT_ABORT,
    XLOG_XACT_ABORT_PREPARED,
    XLOG_XACT_COMMIT,
    XLOG_XACT_COMMIT_PREPARED,
    XLOG_XACT_OPMASK,
    XLOG_XACT_PREPARE,
)
from walstream.wal.stream import WalStreamDecoder
from walstream.wal.timeline import StoredWal, TimelineHistory

# Records with a timestamp that the tail has to hold, and what is looked through for them: first
# this much, then four times as much, and so on, to the limit. The limit bounds memory, and what
# is received again after each lost connection.
STAMPS = 4
FIRST_WINDOW = 64 << 10
LIMIT = 32 << 20

# The operations with a time in them.
_XLOG_STAMPED = (XLOG_CHECKPOINT_SHUTDOWN, XLOG_CHECKPOINT_ONLINE)
_XACT_STAMPED = (
    XLOG_XACT_COMMIT,
    XLOG_XACT_PREPARE,
    XLOG_XACT_ABORT,
    XLOG_XACT_COMMIT_PREPARED,
    XLOG_XACT_ABORT_PREPARED,
)


class StoredSegment(NamedTuple):
    """A file that holds WAL ``[begin, end)`` of a timeline."""

    path: Path
    timeline: int
    begin: int
    end: int


def segments_before(
    directory: Path, history: TimelineHistory, end_lsn: int, segment_size: int
) -> Iterable[StoredSegment]:
    """Yields the complete segments that end at ``end_lsn``, newest first, up to a missing one.

    Args:
        end_lsn: a segment boundary.
        history: the path to follow; a segment is that of the newest timeline on it.
    """
    number = end_lsn // segment_size - 1
    while number >= 0 and (found := _complete(directory, history, number, segment_size)):
        yield found
        number -= 1


def _complete(
    directory: Path, history: TimelineHistory, number: int, segment_size: int
) -> StoredSegment | None:
    begin, end = number * segment_size, (number + 1) * segment_size
    # The newest timeline has the segment's end; only where that is at hand can it be compared.
    for timeline in timelines_of(history, number, segment_size)[:1]:
        for each in segment_names(timeline, number, segment_size, COMPLETE):
            path = directory / each.name
            if path.is_file():
                return StoredSegment(path, timeline, begin, end)
    return None


def read_tail(segments: Iterable[StoredSegment], segment_size: int) -> list[StoredWal]:
    """Returns the end of what is stored, newest piece first, each within one segment.

    Args:
        segments: consecutive, newest first; read as far back as is needed.

    Raises:
        StorageError: a file cannot be read.
    """
    found: list[StoredWal] = []
    stamps = size = 0
    for segment in segments:
        end = _end_of_bytes(segment)
        window = FIRST_WINDOW
        while end > segment.begin:
            begin = max(segment.begin, end - window)
            begin -= begin % XLOG_BLCKSZ
            data = _read(segment, begin, end)
            held = _stamped(begin, data, segment_size)
            window *= 4
            if begin == segment.begin or stamps + held >= STAMPS or size + len(data) >= LIMIT:
                found.append(StoredWal(segment.timeline, begin, data))
                stamps += held
                size += len(data)
                break
        if stamps >= STAMPS or size >= LIMIT:
            break
    return found


def _stamped(lsn: int, data: bytes, segment_size: int) -> int:
    """Returns how many records with a timestamp begin and end in ``data``.

    WAL that cannot be read (of a version that is not known) tells nothing of its records.
    """
    decoder = WalStreamDecoder(None, segment_size, lsn, find_record=True)
    count = 0
    try:
        decoder.feed_bytes(lsn, data)
        while (record := decoder.poll_decode()) is not None:
            info, manager = record.data[xl_info], record.data[xl_rmid]
            if manager == RM_XACT_ID:
                count += info & XLOG_XACT_OPMASK in _XACT_STAMPED
            elif manager == RM_XLOG_ID:
                count += info & XLR_RMGR_INFO_MASK in _XLOG_STAMPED
    except WalError:
        pass
    return count


def _end_of_bytes(segment: StoredSegment) -> int:
    """Returns where the zeros at the segment's end begin, at the end of a page or of WAL."""
    last = 0
    for at, piece in _pieces(segment):
        kept = len(piece.rstrip(b"\0"))
        if kept:
            last = at + kept
    if not last:
        return segment.begin
    return min(segment.end, last + -last % XLOG_BLCKSZ)


def _read(segment: StoredSegment, begin: int, end: int) -> bytes:
    return b"".join(
        piece[max(0, begin - at) : end - at]
        for at, piece in _pieces(segment, begin)
        if at < end and at + len(piece) > begin
    )


def _pieces(segment: StoredSegment, begin: int = 0) -> Iterable[tuple[int, bytes]]:
    """Yields (LSN, bytes) of a segment up to its end; a plain file from ``begin`` on."""
    lsn = segment.begin
    path = segment.path
    if not compression_of(path.name):
        lsn = max(lsn, begin)
    try:
        for piece in read_file(path, lsn - segment.begin):
            if lsn >= segment.end:
                return
            yield lsn, piece[: segment.end - lsn]
            lsn += len(piece)
    except FileDamaged:
        if not is_unfinished(path.name):  # cut within a compressed frame: it is unfinished
            raise
