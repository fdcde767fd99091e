"""The directory ``base/`` as a whole: who makes a backup in it, and which of them count.

Several backups may be made there over the years: by a server, or from the pages of the store. One
at a time is made, under a lock of its own, so that ``walstream run`` goes on beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from walstream.errors import StoreError
from walstream.store.base_backup import BaseBackup
from walstream.store.file_layer import DirectoryLock, file_mode_below
from walstream.wal.model import format_lsn
from walstream.wal.timeline import TimelineHistory

LOCK = "lock"


def lock_bases(base_path: Path) -> DirectoryLock:
    """Takes the lock of whoever makes or removes base backups; held until ``release``.

    Whatever is unfinished below ``base/`` is nobody's while it is held.

    Raises:
        StoreError: another process holds it.
        StorageError: it cannot be opened.
    """
    what = f"{base_path} (a base backup is being made)"
    return DirectoryLock(base_path / LOCK, what, file_mode_below(base_path))


def is_of_history(backup: BaseBackup, history: TimelineHistory) -> bool:
    """Whether WAL of that history goes on from a backup.

    One that was taken of a server that was then left behind by a promotion is of a dead branch.
    """
    if backup.stop_timeline is not None:
        part = history.part_of(backup.stop_timeline)
        return part is not None and backup.stop_lsn <= part.end
    # Earlier releases did not write down on which timeline a backup ended.
    part = history.part_of(backup.timeline)
    return part is not None and backup.start_lsn < part.end


def of_history(backups: Sequence[BaseBackup], history: TimelineHistory) -> list[BaseBackup]:
    """Returns the backups, at least one, that WAL of that history goes on from.

    Raises:
        StoreError: none of them is one.
    """
    found = [backup for backup in backups if is_of_history(backup, history)]
    if not found and backups:
        newest = backups[-1]
        raise StoreError(
            f"the base backup at {format_lsn(newest.start_lsn)} is of a dead branch: the server "
            f"is on timeline {history.current}, which does not come from its end; make a new store"
        )
    return found


def first_needed(backups: Sequence[BaseBackup]) -> BaseBackup:
    """Returns the backup, of at least one, that needs the oldest WAL."""
    return min(backups, key=lambda backup: backup.first_needed_lsn)
