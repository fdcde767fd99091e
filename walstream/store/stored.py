"""A WAL file of an archive as it lies there: by which name, and what its first page says."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from walstream.errors import ReadError, StoreError, WalError, WrongCluster
from walstream.segments.files import read_error, read_file, read_head
from walstream.segments.header import LongHeader, read_long_header
from walstream.segments.names import parse_segment_name
from walstream.wal.layout import SizeOfXLogLongPHD
from walstream.wal.model import format_lsn
from walstream.wal.segment import is_valid_segment_size


class Segment(NamedTuple):
    """A segment of some size: its timeline and number."""

    timeline: int
    number: int


def segment_of(name: str, segment_size: int) -> Segment | None:
    """Returns the segment that a file name says, None where there is none such of that size."""
    parsed = parse_segment_name(name)
    number = None if parsed is None else parsed.number(segment_size)
    return None if parsed is None or number is None else Segment(parsed.timeline, number)


def is_there(path: Path) -> bool:
    """Returns whether a regular file is there. Only that no such name exists counts as not.

    Raises:
        StorageError: it cannot be known: no permission, a failing disk, a link to nowhere.
        StoreError: it is something else than a file.
    """
    try:
        found = path.stat()
    except FileNotFoundError as exc:
        if os.path.lexists(path):
            raise ReadError(
                f"look at {path}: a link to a file that is not there", str(path)
            ) from exc
        try:
            path.parent.stat()
        except OSError as missing:
            raise read_error("look at", path.parent, missing) from missing
        return False
    except OSError as exc:
        raise read_error("look at", path, exc) from exc
    if not stat.S_ISREG(found.st_mode):
        raise StoreError(f"{path} is not a file", str(path))
    return True


def stored_files(
    directory: Path, name: str, kinds: tuple[tuple[str, str, bool], ...]
) -> list[Path]:
    """Returns the files of some kinds (``names.KINDS``) that hold what ``name`` names.

    Raises:
        StorageError, StoreError: as ``is_there``.
    """
    return [path for ending, *_ in kinds if is_there(path := directory / (name + ending))]


def segment_header(source: Path) -> LongHeader:
    """Returns the page header at a segment's start.

    Raises:
        WalError: there is none.
        StorageError: it cannot be read.
    """
    header = read_long_header(read_head(source, SizeOfXLogLongPHD))
    if header is None:
        raise WalError(f"{source}: no page header of a known PostgreSQL at its start")
    return header


def check_header(name: str, source: Path, header: LongHeader, system_id: int | None = None) -> None:
    """Compares a segment's page header with the name it has, and with its cluster.

    Raises:
        WalError: it is not the segment of that name.
        WrongCluster: it is another cluster's.
    """
    if not is_valid_segment_size(header.segment_size):
        raise WalError(f"{source}: segment size in its header: {header.segment_size}")
    segment = segment_of(name, header.segment_size)
    expected = segment.number * header.segment_size if segment else -1
    if segment is None or header.page_lsn != expected:
        raise WalError(
            f"{source}: its first page is at {format_lsn(header.page_lsn)}, "
            f"its name says {format_lsn(expected) if segment else 'no LSN that there is'}"
        )
    if header.timeline > segment.timeline:
        raise WalError(
            f"{source}: its first page is of timeline {header.timeline}, "
            f"its name says {segment.timeline}"
        )
    if system_id is not None and header.system_id != system_id:
        raise WrongCluster(
            f"{source} is of the cluster with system identifier {header.system_id}, "
            f"the archive belongs to {system_id}",
            str(source),
        )


def exactly(source: Path, size: int) -> Iterator[bytes]:
    """Yields the bytes of a segment.

    Raises:
        WalError: at its end, when it was not ``size`` bytes long.
        StorageError: it cannot be read, or its compression is damaged.
    """
    total = 0
    for piece in read_file(source):
        total += len(piece)
        if total > size:
            break
        yield piece
    if total != size:
        got = f"more than {size}" if total > size else f"{total}"
        raise WalError(f"{source}: size: expected {size} bytes, got {got}")
