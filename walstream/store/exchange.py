"""A WAL directory as PostgreSQL's archive: what ``restore_command`` and ``archive_command`` do.

Both are synchronous, run beside a receiver that writes to the same directory, and leave a file
either whole or not there at all.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from walstream.errors import SegmentMissing, StoreError, WalError, WrongCluster
from walstream.store.compressed import read_segment
from walstream.store.file_layer import FileLayer, storage_error, write_fully
from walstream.store.proof import prove
from walstream.store.segment_file import PARTIAL
from walstream.store.start import SUFFIXES
from walstream.store.verify import LongHeader, read_long_header
from walstream.wal.model import format_lsn
from walstream.wal.segment import (
    is_valid_segment_size,
    parse_history_file_name,
    parse_segment_file_name,
)

_SEGMENT = re.compile(r"[0-9A-F]{24}")
_BACKUP_LABEL = re.compile(r"[0-9A-F]{24}\.[0-9A-F]{8}\.backup")


class Restored(NamedTuple):
    """What was restored: from which file, and up to which LSN it holds WAL (0: all of it)."""

    source: str
    end_lsn: int


def restore_file(directory: Path, name: str, target: Path) -> Restored:
    """Puts a WAL file of the archive at ``target``, as a restore_command must.

    A segment that is still ``.partial`` is given too: up to its last whole record, the rest
    zeros, so that recovery loses nothing that was received.

    Raises:
        SegmentMissing: the archive does not hold it (recovery takes that for the end of WAL).
        WalError: what the archive holds is damaged.
        StorageError: a system call failed.
    """
    if "/" in name or name.startswith("."):
        raise StoreError(f"not a WAL file name: {name!r}")
    if _SEGMENT.fullmatch(name) is None:
        source = directory / name
        if not source.is_file():
            raise SegmentMissing(f"{name} is not in {directory}")
        _copy(read_segment(source), target)
        return Restored(source.name, 0)
    for suffix in SUFFIXES:
        source = directory / (name + suffix)
        if source.is_file():
            header = _header(source)
            _check_name(name, source, header)
            _copy(_exactly(source, header.segment_size), target)
            return Restored(source.name, 0)
    for suffix in SUFFIXES:
        source = directory / (name + suffix + PARTIAL)
        if source.is_file():
            return _restore_partial(name, source, target)
    raise SegmentMissing(f"{name} is not in {directory}")


def _restore_partial(name: str, source: Path, target: Path) -> Restored:
    try:
        header = _header(source)
    except WalError:
        raise SegmentMissing(f"{source.name} holds no WAL yet") from None
    _check_name(name, source, header)
    size = header.segment_size
    proof = prove(
        [source],
        header.page_lsn,
        version=header.version,
        segment_size=size,
        system_id=header.system_id,
    )
    length = proof.end_lsn - header.page_lsn
    if length <= 0:
        # One record may fill the whole segment: then its pages are all that can be checked.
        raise SegmentMissing(f"{source.name} holds no whole record yet")

    def padded() -> Iterator[bytes]:
        left = length
        for piece in read_segment(source):
            yield piece[:left]
            left -= min(left, len(piece))
            if not left:
                break
        zeros = bytes(1 << 20)
        left = size - length
        while left:
            yield zeros[:left]
            left -= min(left, len(zeros))

    _copy(padded(), target)
    return Restored(source.name, proof.end_lsn)


def _exactly(source: Path, size: int) -> Iterator[bytes]:
    total = 0
    for piece in read_segment(source):
        total += len(piece)
        yield piece
    if total != size:
        raise WalError(f"{source}: size: expected {size} bytes, got {total}")


def _header(source: Path) -> LongHeader:
    head = b""
    for piece in read_segment(source):
        head += piece
        if len(head) >= 64:
            break
    header = read_long_header(head)
    if header is None:
        raise WalError(f"{source}: no page header of a known PostgreSQL at its start")
    return header


def _check_name(name: str, source: Path, header: LongHeader) -> None:
    if not is_valid_segment_size(header.segment_size):
        raise WalError(f"{source}: segment size in its header: {header.segment_size}")
    segment = parse_segment_file_name(name, header.segment_size)
    expected = segment.segment_number * header.segment_size if segment else -1
    if header.page_lsn != expected:
        raise WalError(
            f"{source}: its first page is at {format_lsn(header.page_lsn)}, "
            f"its name says {format_lsn(expected)}"
        )


def _copy(pieces: Iterator[bytes], target: Path, files: FileLayer | None = None) -> None:
    """Writes ``target`` whole and durable, through a temporary name beside it."""
    layer = files or FileLayer()
    temporary = target.with_name(target.name + ".walstream.tmp")
    try:
        fd = layer.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            at = 0
            for piece in pieces:
                write_fully(layer, fd, piece, at, temporary)
                at += len(piece)
            layer.fsync(fd)
        except BaseException:
            layer.unlink(temporary)
            raise
        finally:
            layer.close(fd)
        layer.rename(temporary, target)
        layer.fsync_directory(target.parent)
    except OSError as exc:
        raise storage_error("write", target, exc) from exc


def archive_file(
    directory: Path, source: Path, *, system_id: int | None = None, files: FileLayer | None = None
) -> bool:
    """Puts a WAL file into the archive, verified; returns False where it was there already.

    Segments are walked record by record; a segment of another cluster is refused. The same file
    may come again, as PostgreSQL does after a crash.

    Raises:
        WrongCluster: the segment is another cluster's.
        StoreError: a file of that name with other content is there, or the name is not WAL's.
        WalError: the segment is damaged.
        StorageError: a system call failed.
    """
    name = source.name
    target = directory / name
    plain = name.removesuffix(PARTIAL)
    if _SEGMENT.fullmatch(plain) is not None:
        if name != plain and any((directory / (plain + s)).exists() for s in ("", PARTIAL)):
            return False  # the end of an old timeline; the receiver has it already
        header = _header(source)
        _check_name(plain, source, header)
        _check_cluster(directory, source, header, system_id)
        proof = prove(
            [source],
            header.page_lsn,
            version=header.version,
            segment_size=header.segment_size,
            system_id=header.system_id,
        )
        if proof.error is not None and name == plain:
            raise WalError(f"{source} is damaged: {proof.error}", proof.error.lsn)
    elif parse_history_file_name(name) is None and _BACKUP_LABEL.fullmatch(name) is None:
        raise StoreError(f"not the name of a WAL file: {name!r}")
    for suffix in SUFFIXES:
        stored = directory / (name + suffix)
        if stored.is_file():
            if not _same(stored, source):
                raise StoreError(f"{stored} is there already, with other content than {source}")
            return False
    _copy(read_segment(source), target, files)
    return True


def _check_cluster(
    directory: Path, source: Path, header: LongHeader, system_id: int | None
) -> None:
    if system_id is None:
        for path in sorted(directory.iterdir(), reverse=True):
            if _SEGMENT.fullmatch(path.name) and path.is_file():
                system_id = _header(path).system_id
                break
    if system_id is not None and header.system_id != system_id:
        raise WrongCluster(
            f"{source} is of the cluster with system identifier {header.system_id}, "
            f"{directory} belongs to {system_id}"
        )


def _same(stored: Path, source: Path) -> bool:
    left, right = read_segment(stored), read_segment(source)
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
