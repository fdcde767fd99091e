"""What ``walstream dump`` reads: the arguments of pg_waldump, and where it looks for WAL."""

from __future__ import annotations

import os
from pathlib import Path

from walstream.errors import ConfigError, NoWalFound, ReadError
from walstream.scanning.opening import open_segment, open_wal, wal_directory
from walstream.scanning.range_scan import Wait
from walstream.scanning.wal_range import WalRange
from walstream.segments.names import parse_segment_name
from walstream.segments.source import SegmentSource
from walstream.wal.model import format_lsn

# How long a follower sleeps where nothing tells it of a change.
IDLE_S = 1.0


def find_directory(path: Path | None, name: str | None) -> Path:
    """Returns the directory that has WAL file ``name`` (or any), as pg_waldump looks for it.

    Below ``path`` also ``pg_wal`` and ``wal`` (of a store); without a path the current directory
    and $PGDATA.

    Raises:
        NoWalFound: nothing is there.
        ReadError: it cannot be read.
    """
    roots = [path] if path is not None else [Path()]
    if path is None and "PGDATA" in os.environ:
        roots.append(Path(os.environ["PGDATA"]))
    for root in roots:
        directory = wal_directory(root, name)
        if directory is not None:
            return directory
    if path is not None and path.is_file():
        raise NoWalFound(f"{path} is no WAL segment, directory or tar archive", str(path))
    if path is not None and not path.is_dir():
        raise ReadError(f'could not open directory "{path}"', str(path))
    if name is not None:
        raise NoWalFound(f'could not locate WAL file "{name}"', name)
    raise NoWalFound(
        f"could not find any WAL file in {path or 'the current directory'}", str(path or ".")
    )


def open_segments(
    path: Path | None, segments: tuple[str, ...], timeline: int | None, wanted: WalRange
) -> tuple[SegmentSource, WalRange]:
    """Opens what the arguments of pg_waldump name; returns what of it they mean, too.

    Raises:
        NoWalFound: nothing is there.
        ReadError: it cannot be read.
        ConfigError: the arguments contradict one another.
    """
    first = Path(segments[0]) if segments else None
    if first is not None and parse_segment_name(first.name) is None:
        # A directory or an archive instead of a segment.
        if path is not None or len(segments) > 1:
            raise ConfigError(f"{first} is not a WAL segment file")
        path, first, segments = first, None, ()
    if first is None:
        return open_wal(path or find_directory(None, None), timeline), wanted
    if path is None and first.parent != Path():
        path = first.parent
    directory = find_directory(path, first.name)
    names = [parse_segment_name(Path(segment).name) for segment in segments]
    last = names[-1]
    begin = names[0]
    if last is None or begin is None:
        raise ConfigError(f"{segments[-1]} is not a WAL segment file")
    source, last_begin = open_segment(directory, last, timeline)
    size = source.segment_size
    for file in names:
        assert file is not None
        if not (directory / file.name).exists():
            raise ConfigError(f'could not open file "{file.name}"')
    start, end = source.begin_of(begin), last_begin + size
    if end <= start:
        raise ConfigError(f"ENDSEG {segments[-1]} is before STARTSEG {segments[0]}")
    if wanted.start_lsn is not None and not start <= wanted.start_lsn < start + size:
        raise ConfigError(
            f"start WAL location {format_lsn(wanted.start_lsn)} is not inside file {begin.name}"
        )
    if wanted.end_lsn is not None and not end - size <= wanted.end_lsn <= end:
        raise ConfigError(
            f"end WAL location {format_lsn(wanted.end_lsn)} is not inside file {last.name}"
        )
    return source, wanted.within(start, end)


def follower(source: SegmentSource) -> Wait:
    """Returns what waits for more WAL in a directory."""
    # Brings ctypes, which takes its time; few follow.
    from walstream.scanning.watch import DirectoryWatch

    watch = DirectoryWatch(Path(source.files.where()))

    def wait() -> bool:
        watch.wait(IDLE_S)
        return True

    return wait
