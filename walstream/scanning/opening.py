"""Opens WAL by a path: the one place that says what may be called WAL, and where in it WAL lies.

That is a directory of segments, a data directory (``pg_wal``), a store (``wal``), a tar archive of
segments, or one segment. WAL without a path, a pipe, is in ``segments/pipe.py``.
"""

from __future__ import annotations

from pathlib import Path

from walstream.errors import NoWalFound, ReadError
from walstream.scanning.wal_range import WalRange
from walstream.segments.files import DirectoryFiles, TarFiles, is_tar
from walstream.segments.names import SegmentName, parse_segment_name
from walstream.segments.source import SegmentSource

# Where WAL lies in a directory: right there, in a data directory, in a store.
_PLACES = ("", "pg_wal", "wal")


def wal_directory(path: Path, name: str | None = None) -> Path | None:
    """Returns the directory at or below ``path`` that holds the file ``name``, or any segment.

    Raises:
        ReadError: a directory cannot be read.
    """
    for place in (path / below for below in _PLACES):
        if not place.is_dir():
            continue
        if name is not None:
            found = (place / name).exists()
        else:
            found = any(map(parse_segment_name, DirectoryFiles(place).names()))
        if found:
            return place
    return None


def open_wal(path: Path, timeline: int | None = None) -> SegmentSource:
    """Returns the segments of a store, a data directory, a directory of WAL, or a tar archive.

    Args:
        path: which.
        timeline: the one to follow, through its ancestors; None for the newest.

    Raises:
        NoWalFound: there is no WAL.
        ReadError: it cannot be read.
        WalError: a history file or all page headers are damaged.
    """
    if path.is_file():
        if not is_tar(path.name):
            raise NoWalFound(
                f"{path} is no directory of WAL, data directory, store or tar archive", str(path)
            )
        return SegmentSource(TarFiles(path), timeline)
    if not path.is_dir():
        raise ReadError(f'could not open directory "{path}"', str(path))
    directory = wal_directory(path)
    if directory is None:
        raise NoWalFound(f"could not find any WAL file in {path}", str(path))
    return SegmentSource(DirectoryFiles(directory), timeline)


def open_segment(
    directory: Path, file: SegmentName, timeline: int | None = None
) -> tuple[SegmentSource, int]:
    """Returns the segments beside one, on the way to its timeline, and the LSN where it begins.

    Raises:
        NoWalFound: no segment of the size that they have there is called so.
        ReadError: the directory cannot be read.
    """
    source = SegmentSource(DirectoryFiles(directory), timeline or file.timeline)
    return source, source.begin_of(file)


def open_range(
    path: Path, wanted: WalRange, timeline: int | None = None
) -> tuple[SegmentSource, WalRange]:
    """Opens what a path names, one segment too; returns what of it is wanted.

    Raises:
        NoWalFound, ReadError, WalError: as ``open_wal``.
    """
    file = parse_segment_name(path.name)
    if file is None or not path.is_file():
        return open_wal(path, timeline), wanted
    source, begin = open_segment(path.parent, file, timeline)
    return source, wanted.within(begin, begin + source.segment_size)
