"""A WAL file of an archive as it lies there: by which name, and what its first page says."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from walstream.errors import ReadError, StoreError, WalError, WrongCluster
from walstream.store.compressed import read_segment
from walstream.store.file_layer import storage_error
from walstream.store.segment_file import PARTIAL
from walstream.store.start_plan import SUFFIXES
from walstream.store.verifier import LongHeader, read_long_header
from walstream.wal.layout import LONG_PAGE_HEADER
from walstream.wal.model import format_lsn
from walstream.wal.segment import is_valid_segment_size, parse_segment_file_name

SEGMENT_NAME = re.compile(r"[0-9A-F]{24}")
OTHER_NAME = re.compile(
    r"[0-9A-F]{8}\.history|[0-9A-F]{24}\.[0-9A-F]{8}\.backup|[0-9A-F]{24}\.partial"
)
COMPLETE = tuple(SUFFIXES)
UNFINISHED = tuple(
    dict.fromkeys([*(s + PARTIAL for s in SUFFIXES), *(PARTIAL + s for s in SUFFIXES)])
)


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
            raise storage_error("look at", path.parent, missing) from missing
        return False
    except OSError as exc:
        raise storage_error("look at", path, exc) from exc
    if not stat.S_ISREG(found.st_mode):
        raise StoreError(f"{path} is not a file")
    return True


def stored_files(directory: Path, name: str, suffixes: tuple[str, ...]) -> list[Path]:
    """Returns the files that hold what ``name`` names, plain or compressed.

    Raises:
        StorageError, StoreError: as ``is_there``.
    """
    return [path for suffix in suffixes if is_there(path := directory / (name + suffix))]


def read_head(source: Path) -> bytes:
    """Returns the first bytes of a segment, enough for its page header, fewer where it ends."""
    head = b""
    for piece in read_segment(source):
        head += piece
        if len(head) >= LONG_PAGE_HEADER:
            break
    return head


def segment_header(source: Path) -> LongHeader:
    """Returns the page header at a segment's start.

    Raises:
        WalError: there is none.
        StorageError: it cannot be read.
    """
    header = read_long_header(read_head(source))
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
    segment = parse_segment_file_name(name, header.segment_size)
    expected = segment.segment_number * header.segment_size if segment else -1
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
            f"the archive belongs to {system_id}"
        )


def exactly(source: Path, size: int) -> Iterator[bytes]:
    """Yields the bytes of a segment.

    Raises:
        WalError: at its end, when it was not ``size`` bytes long.
        StorageError: it cannot be read, or its compression is damaged.
    """
    total = 0
    for piece in read_segment(source):
        total += len(piece)
        if total > size:
            break
        yield piece
    if total != size:
        got = f"more than {size}" if total > size else f"{total}"
        raise WalError(f"{source}: size: expected {size} bytes, got {got}")
