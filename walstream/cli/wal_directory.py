"""Where the WAL of a STORE argument is: a store's ``wal/``, or the directory itself."""

from __future__ import annotations

from pathlib import Path

from walstream.errors import StoreError
from walstream.store.directory import Store
from walstream.store.file_layer import DirectoryLock


def wal_path(directory: Path) -> Path:
    """Returns the directory that holds the segments."""
    return directory / "wal" if Store.exists(directory) else directory


class LockedWalDirectory:
    """A WAL directory that this process alone writes to, until ``close``.

    ``system_id`` is that of the store, None for a plain directory.
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
        if not directory.is_dir():
            raise StoreError(f"directory {directory} does not exist; create it")
        self.path = wal_path(directory.absolute())
        if Store.exists(directory):
            self._store = Store.open(directory)
            self.system_id = self._store.identity.system_id
            self.status_path = self._store.status_path
        else:
            self._lock = DirectoryLock(directory, f"directory {directory}")

    def __enter__(self) -> LockedWalDirectory:
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._store is not None:
            self._store.close()
        if self._lock is not None:
            self._lock.release()
