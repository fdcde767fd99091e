"""What an unfinished segment holds that was flushed: proven from the segments before it.

What follows may be zeros, what a crash left of writes that were never flushed, or an earlier life
of the file; none of it may be taken for WAL. But nothing that was flushed may be missing: it may
have been acknowledged as committed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from walstream.errors import FileDamaged, SegmentMissing, StorageError, StoreError, WalError
from walstream.segments.choice import timelines_of
from walstream.segments.files import read_error, read_file, read_head, read_prefix
from walstream.segments.header import LongHeader, read_long_header
from walstream.segments.names import COMPLETE, history_file_name, segment_file_name
from walstream.store.continuation import continuation_length
from walstream.store.stored import (
    check_header,
    is_there,
    segment_header,
    segment_of,
    stored_files,
)
from walstream.store.verified_end import VerifiedEnd, verify_end
from walstream.wal.layout import XLOG_BLCKSZ, SizeOfXLogLongPHD, SizeOfXLogShortPHD
from walstream.wal.model import format_lsn
from walstream.wal.reason import Reason
from walstream.wal.segment import is_valid_segment_size
from walstream.wal.timeline import parse_history

_MANY_TIMELINES = 64


class Flushed(NamedTuple):
    """How far a receiver said that WAL is on disk, and on which timeline."""

    timeline: int
    lsn: int


class Unfinished(NamedTuple):
    """An unfinished segment: WAL before ``end_lsn`` is to be handed out, zeros behind it.

    ``note`` says what could not be proven, empty where nothing is to be said.
    """

    source: Path
    header: LongHeader
    end_lsn: int
    note: str

    def pieces(self) -> Iterator[bytes]:
        """Yields the whole segment, zeros from ``end_lsn`` on."""
        length = self.end_lsn - self.header.page_lsn
        for piece in read_prefix(self.source, length):
            yield piece
            length -= len(piece)
        if length:
            raise WalError(f"{self.source} became shorter while it was read")
        left = self.header.page_lsn + self.header.segment_size - self.end_lsn
        zeros = bytes(1 << 20)
        while left:
            yield zeros[:left]
            left -= min(left, len(zeros))


def read_unfinished(
    directory: Path,
    name: str,
    source: Path,
    *,
    system_id: int | None = None,
    flushed: Flushed | None = None,
) -> Unfinished:
    """Returns how much of ``source``, an unfinished file of the segment ``name``, is WAL.

    Where the segments before it are missing or damaged, what they would prove is taken by its
    page headers: PostgreSQL, which has them or needs nothing of them, checks the rest.

    Args:
        directory: where the segments before it are.
        system_id: the cluster's, None for not known.
        flushed: what was once said to be on disk.

    Raises:
        SegmentMissing: it holds nothing whole yet.
        WalError: it is damaged: no WAL at its start, or flushed WAL that cannot be read.
        WrongCluster: it is another cluster's.
        StorageError: a file cannot be read.
    """
    header = read_long_header(_readable_head(source))
    if header is None:
        if flushed is None or not _is_flushed(name, source, flushed):
            raise SegmentMissing(f"{source.name} holds no WAL yet")
        raise WalError(f"{source} was flushed to {format_lsn(flushed.lsn)}, but is empty now")
    check_header(name, source, header, system_id)
    begin = header.page_lsn
    before, note = _segments_before(directory, name, header)
    verified = _verify_end([*before, source], begin - len(before) * header.segment_size, header)
    if before and verified.end_lsn <= begin:
        ahead = _verify_end(before, begin - len(before) * header.segment_size, header)
        alone = _verify_end([source], begin, header)
        if ahead.error is not None:
            note = f"{before[-1].name} is damaged"
            verified = alone
        elif alone.end_lsn > begin:
            raise WalError(
                f"{source} does not go on from {before[-1].name}, but holds WAL: {verified.error}",
                begin,
            )
    end = verified.end_lsn
    if note and end <= begin:
        data = b"".join(_readable(source))
        end = begin + continuation_length(data, begin, header.segment_size)
    if flushed is not None:
        _check_flushed(name, source, header, before, end, flushed)
    if end <= begin:
        raise SegmentMissing(f"{source.name} holds no whole record yet")
    if note:
        note = f"{source.name} could not be proven from the segment before: {note}"
    elif verified.error is not None and verified.error.reason != Reason.ZERO_LENGTH:
        note = f"{source.name} ends at {format_lsn(end)}: {verified.error}"
    return Unfinished(source, header, end, note)


def _verify_end(
    paths: list[Path], start_lsn: int, header: LongHeader, limit_lsn: int | None = None
) -> VerifiedEnd:
    return verify_end(
        paths,
        start_lsn,
        version=header.version,
        segment_size=header.segment_size,
        system_id=header.system_id,
        limit_lsn=limit_lsn,
        past_switch=True,
    )


def _readable(source: Path) -> Iterator[bytes]:
    """Yields what can be decompressed; where WAL ends in it is for ``verify_end`` to say."""
    try:
        yield from read_file(source)
    except FileDamaged:
        return


def _readable_head(source: Path) -> bytes:
    """Returns the first bytes of a segment; none where nothing was written to the file yet.

    Raises:
        WalError: there are bytes, but not those of a segment.
    """
    try:
        head = read_head(source, SizeOfXLogLongPHD)
    except FileDamaged:
        if any(_raw_head(source)):
            raise
        return b""
    if read_long_header(head) is None and any(head) and len(head) >= SizeOfXLogLongPHD:
        raise WalError(f"{source}: no page header of a known PostgreSQL at its start")
    return head


def _raw_head(source: Path) -> bytes:
    try:
        with source.open("rb") as file:
            return file.read(XLOG_BLCKSZ)
    except OSError as exc:
        raise read_error("read", source, exc) from exc


def _is_flushed(name: str, source: Path, flushed: Flushed) -> bool:
    """Whether an empty file ought to hold what was flushed; its size tells the segment's."""
    size = source.stat().st_size
    segment = segment_of(name, size) if is_valid_segment_size(size) else None
    return (
        segment is not None
        and segment.timeline == flushed.timeline
        and flushed.lsn > segment.number * size
    )


def _check_flushed(
    name: str, source: Path, header: LongHeader, before: list[Path], end: int, flushed: Flushed
) -> None:
    """Raises WalError where bytes that were flushed are not there, or are not WAL."""
    begin = header.page_lsn
    limit = min(flushed.lsn, begin + header.segment_size)
    segment = segment_of(name, header.segment_size)
    if segment is None or segment.timeline != flushed.timeline or limit <= max(end, begin):
        return
    verified = _verify_end(
        [*before, source], begin - len(before) * header.segment_size, header, limit
    )
    if verified.error is not None and verified.end_lsn < begin and before:
        verified = _verify_end([source], begin, header, limit)
    size = sum(map(len, _readable(source)))
    if verified.error is not None or begin + size < limit:
        raise WalError(
            f"{source} is damaged: it was flushed to {format_lsn(flushed.lsn)}, but holds WAL "
            f"only to {format_lsn(end)}{f': {verified.error}' if verified.error else ''}; to take "
            "that as the end, move the store's status.json away",
            end,
        )


def _segments_before(directory: Path, name: str, header: LongHeader) -> tuple[list[Path], str]:
    """Returns the segments before, back to one in which a record starts; else why there are none.

    A record of up to 1 GB may fill many segments.
    """
    segment = segment_of(name, header.segment_size)
    assert segment is not None
    timeline, number = segment
    size = header.segment_size
    room = size // XLOG_BLCKSZ * (XLOG_BLCKSZ - SizeOfXLogShortPHD) - (
        SizeOfXLogLongPHD - SizeOfXLogShortPHD
    )
    found: list[Path] = []
    while number > 0:
        number -= 1
        path = _segment_of(directory, timeline, number, size)
        if path is None:
            return [], f"{segment_file_name(timeline, number, size)} is not there"
        try:
            other = segment_header(path)
            check_header(path.name[:24], path, other, header.system_id)
        except (WalError, StoreError, StorageError) as exc:
            return [], str(exc)
        found.insert(0, path)
        if other.rem_len <= room:
            break
    return found, "" if found else "there is none"


def _segment_of(directory: Path, timeline: int, number: int, size: int) -> Path | None:
    """Returns the complete file of a segment on a timeline, else on the nearest ancestor."""
    timelines: list[int] = []
    history = directory / history_file_name(timeline)
    if is_there(history):
        with contextlib.suppress(OSError, WalError):
            known = parse_history(timeline, history.read_bytes())
            timelines += timelines_of(known, number, size)
    # Without a history file, or with one that is wrong, any older one may be the ancestor.
    timelines += range(timeline, max(0, timeline - _MANY_TIMELINES), -1)
    for each in timelines:
        if found := stored_files(directory, segment_file_name(each, number, size), COMPLETE):
            return found[0]
    return None
