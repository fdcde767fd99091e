"""A WAL directory as PostgreSQL's archive: what a ``restore_command`` takes out of it.

Runs beside a receiver that writes to the same directory, and leaves a file either whole or not
there at all. That a file is not in the archive is told apart from everything else: PostgreSQL
takes it for the end of WAL.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from walstream.errors import ConfigError, SegmentMissing, StorageError, WalError
from walstream.store.compressed import read_segment
from walstream.store.placement import replace_whole
from walstream.store.stored import (
    COMPLETE,
    OTHER_NAME,
    SEGMENT_NAME,
    UNFINISHED,
    check_header,
    exactly,
    segment_header,
    stored_files,
)
from walstream.store.unfinished import Flushed, Unfinished, read_unfinished
from walstream.store.verified_end import goes_on, segment_decoder
from walstream.store.verifier import LongHeader
from walstream.wal.record import COMPILED
from walstream.wal.segment import parse_segment_file_name, segment_file_name


class Restored(NamedTuple):
    """What was restored: from which file, and up to which LSN it holds WAL (0: all of it).

    ``notes`` is what the operator should know of it.
    """

    source: str
    end_lsn: int
    notes: tuple[str, ...] = ()


def restore_file(
    directory: Path,
    name: str,
    target: Path,
    *,
    system_id: int | None = None,
    flushed: Flushed | None = None,
) -> Restored:
    """Puts a WAL file of the archive at ``target``, as a restore_command must.

    A segment that is still ``.partial`` is given too: what of it is proven by the segments before
    (see ``read_unfinished``), the rest zeros, so that recovery loses nothing that was flushed.

    Raises:
        SegmentMissing: the archive does not hold it (recovery takes that for the end of WAL).
        WalError: what the archive holds is damaged.
        StoreError: that is not the name of a WAL file.
        StorageError: a system call failed.
    """
    if SEGMENT_NAME.fullmatch(name) is None:
        return _restore_other(directory, name, target)
    # A receiver may complete the segment between two looks; the third finds what there is.
    for look in range(3):
        complete = stored_files(directory, name, COMPLETE)
        unfinished = [] if complete else stored_files(directory, name, UNFINISHED)
        try:
            if complete:
                return _restore_complete(directory, name, complete, target, system_id)
            if unfinished:
                return _restore_unfinished(directory, name, unfinished, target, system_id, flushed)
        except StorageError as exc:
            if look == 2 or not isinstance(exc.__cause__, FileNotFoundError):
                raise
    raise SegmentMissing(f"{name} is not in {directory}")


def _restore_other(directory: Path, name: str, target: Path) -> Restored:
    if OTHER_NAME.fullmatch(name) is None:
        raise ConfigError(f"not a WAL file name: {name!r}; restore_command wants %f, then %p")
    found = stored_files(directory, name, COMPLETE)
    if not found:
        raise SegmentMissing(f"{name} is not in {directory}")
    content = b"".join(read_segment(found[0]))
    if not content:
        raise WalError(f"{found[0]} is empty: a copy was cut")
    replace_whole(target, iter([content]))
    return Restored(found[0].name, 0)


def _restore_complete(
    directory: Path, name: str, sources: list[Path], target: Path, system_id: int | None
) -> Restored:
    """Takes the first that is sound: a segment may be there plain and compressed."""
    errors: list[WalError | StorageError] = []
    for source in sources:
        try:
            header = segment_header(source)
            check_header(name, source, header, system_id)
            if COMPILED:
                _check_records(directory, name, source, header)
            replace_whole(target, exactly(source, header.segment_size))
        except (WalError, StorageError) as exc:
            errors.append(exc)
        else:
            return Restored(source.name, 0, tuple(map(str, errors)))
    raise errors[0]


def _restore_unfinished(
    directory: Path,
    name: str,
    sources: list[Path],
    target: Path,
    system_id: int | None,
    flushed: Flushed | None,
) -> Restored:
    """Takes the file that holds the most: there are two where compression was changed."""
    found: list[Unfinished] = []
    errors: list[WalError | StorageError] = []
    for source in sources:
        try:
            found.append(
                read_unfinished(directory, name, source, system_id=system_id, flushed=flushed)
            )
        except (WalError, StorageError) as exc:
            errors.append(exc)
    if not found:
        # "Not there" only where every file says so.
        raise next((exc for exc in errors if not isinstance(exc, SegmentMissing)), errors[0])
    best = max(found, key=lambda each: each.end_lsn)
    replace_whole(target, best.pieces())
    notes = tuple(str(exc) for exc in errors if not isinstance(exc, SegmentMissing))
    return Restored(best.source.name, best.end_lsn, (best.note, *notes) if best.note else notes)


def _check_records(directory: Path, name: str, source: Path, header: LongHeader) -> None:
    """Raises WalError where WAL breaks off in a segment and goes on behind it.

    Recovery would end there, and promote. The newest segment of a server that is gone, copied
    from its ``pg_wal``, ends anywhere: that is handed out as it is.
    """
    decoder = segment_decoder(header)
    try:
        for piece in exactly(source, header.segment_size):
            decoder.verify_bytes(decoder.feed_lsn, [piece])
    except StorageError:
        raise
    except WalError as exc:
        if exc.lsn is None or _next_is_there(directory, name, header) or goes_on(source, header):
            raise WalError(f"{source} is damaged: {exc}", exc.lsn) from exc


def _next_is_there(directory: Path, name: str, header: LongHeader) -> bool:
    segment = parse_segment_file_name(name, header.segment_size)
    assert segment is not None
    follower = segment_file_name(segment.timeline, segment.segment_number + 1, header.segment_size)
    return bool(stored_files(directory, follower, COMPLETE + UNFINISHED))
