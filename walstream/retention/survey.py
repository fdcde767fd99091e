"""Reads what a store holds, for a plan. Fails closed: what cannot be understood is an error."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from walstream.errors import StoreError
from walstream.retention.contents import Base, Contents, Dump, Pin, WalFile
from walstream.retention.places import named_places
from walstream.segments.files import DirectoryFiles, read_error, regular_files
from walstream.segments.names import is_archive_name, parse_segment_name
from walstream.segments.source import SegmentSource
from walstream.store.base_backup import BaseBackup, list_base_backups
from walstream.store.leases import read_leases
from walstream.store.removed import read_removed
from walstream.store.segment_directory import DEAD_DIRECTORY
from walstream.store.store import Store
from walstream.wal.timeline import INFINITY

TOMBSTONE = ".gone"
SWEPT = ".swept"
_BASE = re.compile(r"([0-9A-F]{16})((?:\.toml|\.advance)?(?:\.tmp)?)")
_NUMBERED = re.compile(r"(.+)\.[0-9]+")
# Returns seconds since 1970 of the newest commit at or before each LSN, None where there is none.
TimesAt = Callable[[Sequence[int]], Sequence[float | None]]


def survey(
    store: Store,
    latest_lsn: int,
    protected_lsn: int = INFINITY,
    times_at: TimesAt | None = None,
    now: datetime | None = None,
    sizes: Mapping[Path, int] | None = None,
) -> Contents:
    """Returns what a store holds. Call it within ``closed_gate``. Blocks.

    Args:
        store: it need not be locked.
        latest_lsn: the newest moment that can be rebuilt.
        protected_lsn: see ``Contents``.
        times_at: tells when the cluster was at an LSN; None: when a backup was completed counts.
        now: (aware) by which holds expire.
        sizes: of base backups, as far as they are known (``base_sizes``).

    Raises:
        StoreError: something there is not understood: a base backup without a description, a
            lease, a hold, a branch.
        WalError: the history of timelines is malformed.
        StorageError: something cannot be read.
    """
    now = datetime.now(UTC) if now is None else now
    size = store.identity.segment_size
    source = SegmentSource(DirectoryFiles(store.wal_path), None, size)
    bases, unfinished = _bases(store, times_at, sizes or {})
    pins = [
        Pin(f"needed by {lease.who} since {lease.since}", lease.from_lsn, lease.to_lsn)
        for lease in read_leases(store.path, now.timestamp())
    ]
    return Contents(
        size,
        source.history,
        [*wal_files(store.wal_path, "wal", size), *_dead_files(store, size)],
        bases,
        _dumps(store),
        pins,
        named_places(store.path, now),
        unfinished,
        read_removed(store.wal_path),
        latest_lsn,
        protected_lsn,
    )


def wal_files(directory: Path, place: str, segment_size: int) -> list[WalFile]:
    """Returns the segments of a directory, and what is named after one, by LSN.

    Raises:
        StoreError: a file has the name of a segment that there is none of that size.
        StorageError: the directory cannot be read.
    """
    found = []
    for name, size in regular_files(directory):
        stem = name
        if place != "wal" and (numbered := _NUMBERED.fullmatch(name)):
            stem = numbered[1]  # set aside a second time under the same name
        if is_archive_name(name) and name.endswith(".backup"):
            stem = name[:24]
        segment = parse_segment_name(stem)
        if segment is None:
            continue
        number = segment.number(segment_size)
        if number is None:
            raise StoreError(
                f"{directory / name}: no segment of {segment_size >> 20} MB is called that, "
                "nothing is removed while it is there",
                str(directory / name),
            )
        begin = number * segment_size
        found.append(
            WalFile(
                f"{place}/{name}",
                segment.timeline,
                begin,
                begin + segment_size,
                size,
                not segment.partial,
                place == "wal"
                and stem == name
                and (segment.partial or bool(segment.compression) or size == segment_size),
            )
        )
    return sorted(found, key=lambda file: (file.begin, file.timeline, file.path))


def _dead_files(store: Store, segment_size: int) -> list[WalFile]:
    directory = store.wal_path / DEAD_DIRECTORY
    if not directory.is_dir():
        return []
    return wal_files(directory, f"wal/{DEAD_DIRECTORY}", segment_size)


def base_sizes(store: Store) -> dict[Path, int]:
    """Returns the bytes of each base backup; slow, for it looks at every file of them.

    Raises:
        StoreError, StorageError: as ``survey``.
    """
    return {
        backup.path: directory_size(backup.path) for backup in list_base_backups(store.base_path)
    }


def _bases(
    store: Store, times_at: TimesAt | None, sizes: Mapping[Path, int]
) -> tuple[list[Base], list[int]]:
    """Returns the complete bases, and where those begin that are being taken."""
    described = list_base_backups(store.base_path)
    known = {backup.path.name for backup in described}
    unfinished = []
    try:
        names = sorted(path.name for path in store.base_path.iterdir())
    except FileNotFoundError:
        names = []
    except OSError as exc:
        raise read_error("read", store.base_path, exc) from exc
    for name in names:
        found = _BASE.fullmatch(name)
        # A description without its directory says nothing: it is written first.
        if found is None or found[1] in known or found[2] == ".toml":
            continue
        if not found[2].endswith(".tmp"):
            raise StoreError(
                f"{store.base_path / name}: a base backup without its description {name}.toml "
                "cannot be understood, nothing is removed while it is there: move it away",
                str(store.base_path / name),
            )
        unfinished.append(int(found[1], 16))
    times = _times(described, times_at)
    bases = [
        Base(
            f"base/{backup.path.name}",
            backup.start_lsn,
            backup.stop_lsn,
            backup.first_needed_lsn,
            backup.timeline,
            sizes[backup.path] if backup.path in sizes else directory_size(backup.path),
            time,
            backup.stop_timeline,
        )
        for backup, time in zip(described, times, strict=True)
    ]
    return bases, unfinished


def _times(backups: Sequence[BaseBackup], times_at: TimesAt | None) -> list[float]:
    """Returns when the cluster was at the end of each; else when it was completed."""
    known: Sequence[float | None] = [None] * len(backups)
    if times_at is not None:
        known = times_at([backup.stop_lsn for backup in backups])
    found = []
    for backup, time in zip(backups, known, strict=True):
        description = backup.path.with_suffix(".toml")
        try:
            found.append(description.stat().st_mtime if time is None else time)
        except OSError as exc:
            raise read_error("look at", description, exc) from exc
    return found


def directory_size(path: Path) -> int:
    """Returns the bytes of all files below a directory.

    Raises:
        StorageError: a directory cannot be read.
    """
    total = 0
    waiting = [str(path)]
    try:
        while waiting:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
    except OSError as exc:
        raise read_error("read", path, exc) from exc
    return total


def _dumps(store: Store) -> list[Dump]:
    found = []
    try:
        for path in sorted(store.dumps_path.iterdir()):
            if path.suffix in (TOMBSTONE, SWEPT) or not path.is_file():
                continue
            status = path.stat()
            found.append(Dump(f"dumps/{path.name}", status.st_size, status.st_mtime))
    except FileNotFoundError:
        return found
    except OSError as exc:
        raise read_error("read", store.dumps_path, exc) from exc
    return found
