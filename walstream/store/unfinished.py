"""What an unfinished segment holds that was flushed: proven from the segments before it.

What follows may be zeros, what a crash left of writes that were never flushed, or an earlier life
of the file; none of it may be taken for WAL. But nothing that was flushed may be missing: it may
have been acknowledged as committed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from walstream.errors import SegmentMissing, StorageError, StoreError, WalError
from walstream.store.compressed import read_prefix, read_segment
from walstream.store.continuation import continuation_length
from walstream.store.file_layer import storage_error
from walstream.store.stored import (
    COMPLETE,
    check_header,
    is_there,
    read_head,
    segment_header,
    stored_files,
)
from walstream.store.verified_end import VerifiedEnd, verify_end
from walstream.store.verifier import LongHeader, read_long_header
from walstream.wal.layout import LONG_PAGE_HEADER, SHORT_PAGE_HEADER, XLOG_BLCKSZ
from walstream.wal.model import format_lsn
from walstream.wal.reason import Reason
from walstream.wal.segment import history_file_name, parse_segment_file_name, segment_file_name
from walstream.wal.timeline import parse_history

_REM_LEN = struct.Struct("<16xI")
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
        yield from read_segment(source)
    except StorageError as exc:
        if isinstance(exc.__cause__, OSError):
            raise


def _readable_head(source: Path) -> bytes:
    """Returns the first bytes of a segment; none where nothing was written to the file yet.

    Raises:
        WalError: there are bytes, but not those of a segment.
    """
    try:
        head = read_head(source)
    except StorageError as exc:
        if isinstance(exc.__cause__, OSError) or any(_raw_head(source)):
            raise
        return b""
    if read_long_header(head) is None and any(head) and len(head) >= LONG_PAGE_HEADER:
        raise WalError(f"{source}: no page header of a known PostgreSQL at its start")
    return head


def _raw_head(source: Path) -> bytes:
    try:
        with source.open("rb") as file:
            return file.read(XLOG_BLCKSZ)
    except OSError as exc:
        raise storage_error("read", source, exc) from exc


def _is_flushed(name: str, source: Path, flushed: Flushed) -> bool:
    """Whether an empty file ought to hold what was flushed; its size tells the segment's."""
    segment = parse_segment_file_name(name, max(source.stat().st_size, 1))
    return (
        segment is not None
        and segment.timeline == flushed.timeline
        and flushed.lsn > segment.segment_number * source.stat().st_size
    )


def _check_flushed(
    name: str, source: Path, header: LongHeader, before: list[Path], end: int, flushed: Flushed
) -> None:
    """Raises WalError where bytes that were flushed are not there, or are not WAL."""
    begin = header.page_lsn
    limit = min(flushed.lsn, begin + header.segment_size)
    segment = parse_segment_file_name(name, header.segment_size)
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
    segment = parse_segment_file_name(name, header.segment_size)
    assert segment is not None
    timeline, number = segment
    size = header.segment_size
    room = size // XLOG_BLCKSZ * (XLOG_BLCKSZ - SHORT_PAGE_HEADER) - (
        LONG_PAGE_HEADER - SHORT_PAGE_HEADER
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
            rem_len = _REM_LEN.unpack_from(read_head(path))[0]
        except (WalError, StoreError, StorageError) as exc:
            return [], str(exc)
        found.insert(0, path)
        if rem_len <= room:
            break
    return found, "" if found else "there is none"


def _segment_of(directory: Path, timeline: int, number: int, size: int) -> Path | None:
    """Returns the complete file of a segment on a timeline, else on the nearest ancestor."""
    ancestors = range(timeline - 1, max(0, timeline - _MANY_TIMELINES), -1)
    history = directory / history_file_name(timeline)
    if is_there(history):
        try:
            parts = parse_history(timeline, history.read_bytes()).parts
        except (OSError, WalError):
            parts = ()
        known = [part.timeline for part in reversed(parts) if part.begin < (number + 1) * size]
        for each in known:
            if found := stored_files(directory, segment_file_name(each, number, size), COMPLETE):
                return found[0]
    for each in (timeline, *ancestors):
        if found := stored_files(directory, segment_file_name(each, number, size), COMPLETE):
            return found[0]
    return None
