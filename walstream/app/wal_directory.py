"""Where the WAL of a STORE argument is: a store's ``wal/``, or the directory itself."""

from __future__ import annotations

from pathlib import Path

from walstream.errors import StoreError
from walstream.segments.names import segment_number
from walstream.store.file_layer import DirectoryLock
from walstream.store.store import STATUS_FILE, Store
from walstream.store.unfinished import Flushed


def wal_path(directory: Path) -> Path:
    """Returns the directory that holds the segments."""
    return directory / "wal" if Store.exists(directory) else directory


def system_id_of(directory: Path) -> int | None:
    """Returns the cluster that a store belongs to, None for a plain directory."""
    return Store.open(directory, lock=False).identity.system_id if Store.exists(directory) else None


def flushed_of(directory: Path) -> Flushed | None:
    """Returns how far the receiver of a store said that WAL is on disk; None: nobody says."""
    if not Store.exists(directory):
        return None
    from walstream.status.file import read_status  # a plain directory has none

    status = read_status(directory / STATUS_FILE)
    if status is None or not status.timeline:
        return None  # a crash may lose it; it only adds what can be noticed
    return Flushed(status.timeline, status.flushed_lsn)


def note_recovery(directory: Path, name: str) -> None:
    """Keeps gc from the WAL of a store that a recovery, which asks for ``name`` now, still needs.

    A plain directory has no gc; of what is no segment nothing is noted.

    Raises:
        StoreError, StorageError: the store cannot be read.
    """
    if not Store.exists(directory):
        return
    from walstream.store.leases import note_restore

    segment_size = Store.open(directory, lock=False).identity.segment_size
    number = segment_number(name, segment_size)
    if number is not None:
        note_restore(directory, number * segment_size)


class LockedWalDirectory:
    """A WAL directory that this process alone writes to, until ``close``.

    ``system_id`` is that of the store, None for a plain directory; ``file_mode`` that of its files.
    """

    def __init__(self, directory: Path) -> None:
        """Takes the lock.

        Raises:
            StoreError: there is no such directory, or another process writes to it.
        """
        self._store: Store | None = None
        self._lock: DirectoryLock | None = None
        self.system_id: int | None = None
        self.status_path: Path | None = None
        self.file_mode: int | None = None
        if directory.exists() and not directory.is_dir():
            raise StoreError(f"{directory} is not a directory", str(directory))
        if not directory.is_dir():
            raise StoreError(f"directory {directory} does not exist; create it", str(directory))
        self.path = wal_path(directory.absolute())
        if Store.exists(directory):
            self._store = Store.open(directory)
            self.system_id = self._store.identity.system_id
            self.status_path = self._store.status_path
            self.file_mode = self._store.file_mode
        else:
            self._lock = DirectoryLock(directory, f"directory {directory}")

    def __enter__(self) -> LockedWalDirectory:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives up the lock."""
        if self._store is not None:
            self._store.close()
        if self._lock is not None:
            self._lock.release()
