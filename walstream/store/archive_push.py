"""A WAL directory as PostgreSQL's archive: what an ``archive_command`` puts into it.

Many may push at the same time, the same file too, beside a receiver that writes to the same
directory. Nothing that is in the archive is ever replaced.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from walstream.errors import (
    ConfigError,
    FileDamaged,
    SegmentMissing,
    StorageError,
    StoreError,
    WalError,
    WrongCluster,
)
from walstream.segments.files import DirectoryFiles, read_file, read_prefix
from walstream.segments.header import LongHeader
from walstream.segments.names import COMPLETE, KINDS, is_archive_name, parse_segment_name
from walstream.store.file_layer import FileLayer
from walstream.store.placement import make_durable, place_new
from walstream.store.stored import (
    check_header,
    segment_header,
    stored_files,
)
from walstream.store.unfinished import Unfinished, read_unfinished
from walstream.store.verified_end import goes_on, verify_end
from walstream.wal.reason import Reason


def archive_file(
    directory: Path, source: Path, *, system_id: int | None = None, files: FileLayer | None = None
) -> bool:
    """Puts a WAL file into the archive, verified; returns False where it was there already.

    Segments are walked record by record; a segment of another cluster is refused. The same file
    may come again, as PostgreSQL does after a crash. Either way the file is durable.

    Raises:
        WrongCluster: the segment is another cluster's.
        StoreError: a file of that name with other content is there.
        ConfigError: no WAL file has such a name.
        WalError: the segment is damaged.
        StorageError: a system call failed.
    """
    name = source.name
    if not is_archive_name(name):
        raise ConfigError(f"not the name of a WAL file: {name!r}")
    segment = parse_segment_name(name)
    if segment is not None:
        plain = segment.stem
        header = segment_header(source)
        check_header(plain, source, header)
        _check_cluster(directory, source, header, system_id)
        if name != plain and _has_end_of_timeline(directory, plain, source):
            return False
        if name == plain:
            _check_records(source, header)
    elif not source.stat().st_size:
        raise WalError(f"{source} is empty")
    for stored in stored_files(directory, name, COMPLETE):
        return _check_same(stored, source, files)
    if place_new(directory / name, read_file(source), files):
        return True
    return _check_same(directory / name, source, files)


def _check_same(stored: Path, source: Path, files: FileLayer | None) -> bool:
    try:
        same = _same(read_file(stored), read_file(source))
    except FileDamaged as exc:
        raise StoreError(
            f"{stored} is there already, damaged: {exc}; move it away", str(stored)
        ) from exc
    if not same:
        raise StoreError(
            f"{stored} is there already, with other content than {source}", str(stored)
        )
    make_durable(stored, files)
    return False


def _check_records(source: Path, header: LongHeader) -> None:
    size = source.stat().st_size
    if size != header.segment_size:
        raise WalError(f"{source}: size: expected {header.segment_size} bytes, got {size}")
    verified = verify_end(
        [source],
        header.page_lsn,
        version=header.version,
        segment_size=header.segment_size,
        system_id=header.system_id,
    )
    error = verified.error
    # The last segment of a server that was stopped, pushed by hand, may end before its end.
    if error is not None and (not _is_end(error) or goes_on(source, header)):
        raise WalError(f"{source} is damaged: {error}", error.lsn)


def _is_end(error: WalError) -> bool:
    """Whether zeros, or a page that the file had in an earlier life, stand there (recycling)."""
    if error.reason == Reason.UNEXPECTED_PAGEADDR:
        return error.got < error.expected
    return error.reason == Reason.ZERO_LENGTH or (
        error.reason == Reason.INVALID_MAGIC and error.got == 0
    )


def _has_end_of_timeline(directory: Path, plain: str, source: Path) -> bool:
    """Whether the archive has the WAL of ``source``, the last segment of a left timeline.

    A receiver has it too, as far as it came; what follows the WAL in the server's file is old.

    Raises:
        StoreError: what is there has less, or other WAL.
    """
    stored = stored_files(directory, plain, KINDS)
    if not stored:
        return False
    # The server's own segments prove what goes on from the one before.
    wal = _wal_of(source.parent, plain, source)
    if wal is None:
        return True
    length = wal.end_lsn - wal.header.page_lsn
    for path in stored:
        if _same(_readable_prefix(path, length), read_prefix(source, length)):
            make_durable(path)
            return True
    raise StoreError(
        f"{stored[0]} is there already, with other or less WAL than {source}, "
        "which has it to its end: move the former away",
        str(stored[0]),
    )


def _wal_of(directory: Path, plain: str, source: Path) -> Unfinished | None:
    try:
        return read_unfinished(directory, plain, source)
    except SegmentMissing:
        return None


def _readable_prefix(path: Path, length: int) -> Iterator[bytes]:
    try:
        yield from read_prefix(path, length)
    except FileDamaged:
        return


def _check_cluster(
    directory: Path, source: Path, header: LongHeader, system_id: int | None
) -> None:
    """Compares a segment with the newest of the archive that can be read.

    Others that cannot be read are in nobody's way: what is to be archived is sound.
    """
    if system_id is None:
        system_id = _system_id_of(directory)
    if system_id is not None and header.system_id != system_id:
        raise WrongCluster(
            f"{source} is of the cluster with system identifier {header.system_id}, "
            f"{directory} belongs to {system_id}",
            str(source),
        )


def _system_id_of(directory: Path) -> int | None:
    ours = [name for name in DirectoryFiles(directory).names() if parse_segment_name(name)]
    for name in sorted(ours, reverse=True):
        path = directory / name
        try:
            header = segment_header(path)
            check_header(name, path, header)
        except (WalError, StorageError):
            continue
        return header.system_id
    return None


def _same(left: Iterator[bytes], right: Iterator[bytes]) -> bool:
    left, right = filter(None, left), filter(None, right)
    a = b = b""
    while True:
        a = a or next(left, b"")
        b = b or next(right, b"")
        if not a or not b:
            return not a and not b
        size = min(len(a), len(b))
        if a[:size] != b[:size]:
            return False
        a, b = a[size:], b[size:]
