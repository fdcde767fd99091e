"""A directory that is being made: its temporary place, its files, and which of them are complete.

Everything is written to ``DIR.partial`` and gets its name when it is whole and on disk. Complete
files are noted in a journal after they were synced, so that a run that was killed is gone on with.
Tablespaces outside the directory are written where they will stay. Synchronous: call it in threads.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

from walstream.errors import StoreError
from walstream.store.base_backup import sync_filesystem
from walstream.store.copy_range import NO_COPY_RANGE, copy_range
from walstream.store.file_layer import set_mode, storage_error

PARTIAL_SUFFIX = ".partial"
JOURNAL = "walstream.journal"
SYNC_FILES = 512
SYNC_BYTES = 256 << 20
_NO_CLONE = (*NO_COPY_RANGE, errno.ENOTTY, errno.EBADF)
_FICLONE = 0x40049409  # of linux/fs.h: _IOW(0x94, 9, int)


def check_target(path: Path, what: str) -> None:
    """Checks that a directory may be made at ``path``.

    Raises:
        StoreError: there is something already.
    """
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise StoreError(f"{what} {path} exists and is not empty", str(path))
    except OSError as exc:
        raise storage_error("read", path, exc) from exc


def read_identity(line: str) -> dict[str, str] | None:
    """Returns what work the first line of a journal says it is of, None where it says nothing."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


class WorkDirectory:
    """``DIR.partial`` of one materialization.

    Args:
        target: the directory that will be.
        identity: what the work is; another run goes on with it only where all of it is the same.
        tablespaces: oid -> directory outside, for those that are not inside the data directory.
        owner: user and group of everything that is made; None: whoever runs this.
        path: where it is made until it is whole; None: ``TARGET.partial``.
        file_mode: of the files; directories are open to the group where they are.

    Raises:
        StoreError: the target is there, or an unfinished directory is of other work.
        StorageError: a system call failed; so say all methods.
    """

    def __init__(
        self,
        target: Path,
        identity: Mapping[str, str],
        tablespaces: Mapping[int, Path],
        owner: tuple[int, int] | None = None,
        *,
        path: Path | None = None,
        file_mode: int = 0o600,
    ) -> None:
        self.target = target
        self.path = path or target.with_name(target.name + PARTIAL_SUFFIX)
        self.file_mode = file_mode
        self._directory_mode = 0o750 if file_mode & 0o040 else 0o700
        self._tablespaces = dict(tablespaces)
        self._owner = owner
        self._lock = threading.Lock()
        self._unsynced: list[tuple[str, int, str]] = []
        self._unsynced_bytes = 0
        self._directories: set[Path] = set()
        self._journal = self.path / JOURNAL
        check_target(target, "directory")
        self.complete = self._begin(dict(identity))

    def _begin(self, identity: dict[str, str]) -> dict[str, tuple[int, str]]:
        """Returns the files that an earlier run completed: their sizes, and what was noted."""
        try:
            if not self._journal.exists():
                check_target(self.path, "directory")
                for place in self._tablespaces.values():
                    check_target(place, "tablespace directory")
                self._make(self.path)
                self._journal.write_text(json.dumps(identity) + "\n")
                return {}
            lines = self._journal.read_text(errors="surrogateescape").split("\n")
        except OSError as exc:
            raise storage_error("create", self.path, exc) from exc
        if read_identity(lines[0]) != identity:
            raise StoreError(
                f"{self.path} is an unfinished directory of another moment, store or mapping: "
                "remove it, or ask for the same again to have it finished",
                str(self.path),
            )
        # The last line may be cut: what follows the last line end does not count.
        complete = {}
        for line in lines[1:-1]:
            name, _, entry = line.rpartition("\t")
            size, _, note = entry.partition(" ")
            if size.isdecimal():
                complete[name] = (int(size), note)
        return complete

    def place(self, name: str) -> Path:
        """Returns where a file of the data directory is written."""
        parts = name.split("/", 2)
        if parts[0] == "pg_tblspc" and len(parts) == 3:
            outside = self._tablespaces.get(int(parts[1]))
            if outside is not None:
                return outside / parts[2]
        return self.path / name

    def has(self, name: str) -> bool:
        """Returns whether an earlier run completed that file."""
        found = self.complete.get(name)
        if found is None:
            return False
        try:
            return self.place(name).stat().st_size == found[0]
        except FileNotFoundError:
            return False
        except OSError as exc:
            raise storage_error("read", self.place(name), exc) from exc

    def directory(self, name: str) -> None:
        """Makes a directory of the data directory, with those above it."""
        self._make(self.place(name))

    def _make(self, path: Path) -> None:
        if path in self._directories:
            return
        try:
            missing = []
            at = path
            while not at.exists():
                missing.append(at)
                at = at.parent
            for one in reversed(missing):
                with contextlib.suppress(FileExistsError):  # two threads
                    one.mkdir(mode=self._directory_mode)
                set_mode(one, self._directory_mode)
                self._give(one)
        except OSError as exc:
            raise storage_error("create", path, exc) from exc
        self._directories.add(path)

    def _give(self, path: Path | int) -> None:
        if self._owner is not None:
            os.chown(path, *self._owner)

    def open(self, name: str) -> int:
        """Returns the descriptor of a new file, for writing; the caller closes it."""
        path = self.place(name)
        self._make(path.parent)
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            fd = os.open(path, flags, 0o600)
            os.fchmod(fd, self.file_mode)
            self._give(fd)
        except OSError as exc:
            raise storage_error("create", path, exc) from exc
        return fd

    def write(self, name: str, data: bytes, size: int | None = None, note: str = "") -> None:
        """Writes a whole small file; zeros follow up to ``size`` where that is given."""
        fd = self.open(name)
        try:
            at = 0
            while at < len(data):
                at += os.pwrite(fd, memoryview(data)[at:], at)
            if size is not None:
                os.ftruncate(fd, size)
        except OSError as exc:
            raise storage_error("write", self.place(name), exc) from exc
        finally:
            os.close(fd)
        self.done(name, len(data) if size is None else size, note)

    def copy(self, source: Path, name: str) -> int:
        """Copies a file as it is, by reference where the file system can; returns its size."""
        fd = self.open(name)
        try:
            size = copy_range(source, fd, None)
        finally:
            os.close(fd)
        self.done(name, size)
        return size

    def done(self, name: str, size: int, note: str = "") -> None:
        """Notes a file that is complete; now and then what was noted is put on disk.

        ``note`` is found in ``complete`` by the run that goes on with the work; no tabs.
        """
        with self._lock:
            self._unsynced.append((name, size, note))
            self._unsynced_bytes += size
            if len(self._unsynced) < SYNC_FILES and self._unsynced_bytes < SYNC_BYTES:
                return
            names, self._unsynced, self._unsynced_bytes = self._unsynced, [], 0
        self._sync(names)

    def _sync(self, names: Iterable[tuple[str, int, str]]) -> None:
        try:
            for place in (self.path, *self._tablespaces.values()):
                if place.exists():
                    sync_filesystem(place)
            for name, _, _ in names:
                sync_path(self.place(name))
            with self._lock, self._journal.open("a", errors="surrogateescape") as journal:
                journal.writelines(f"{name}\t{size} {note}\n" for name, size, note in names)
                journal.flush()
                os.fsync(journal.fileno())
        except OSError as exc:
            raise storage_error("sync", self.path, exc) from exc

    def link(self, name: str, to: Path) -> None:
        """Makes a symbolic link of the data directory."""
        path = self.place(name)
        self._make(path.parent)
        self._make(to)
        try:
            path.unlink(missing_ok=True)
            path.symlink_to(to)
            if self._owner is not None:
                os.chown(path, *self._owner, follow_symlinks=False)
        except OSError as exc:
            raise storage_error("link", path, exc) from exc

    def finish(self) -> None:
        """Puts everything on disk and gives the directory its name."""
        names, self._unsynced = self._unsynced, []
        self._sync(names)
        try:
            for directory in sorted(self._directories, reverse=True):
                sync_path(directory)
            self._journal.unlink()
            sync_path(self.path)
            if self.target.exists():
                self.target.rmdir()
            self.path.rename(self.target)
            sync_path(self.target.parent)
        except OSError as exc:
            raise storage_error("finish", self.target, exc) from exc

    def remove(self) -> None:
        """Removes what was made; for work that is not to be gone on with."""
        for place in (self.path, *self._tablespaces.values()):
            shutil.rmtree(place, ignore_errors=True)


def sync_path(path: Path) -> None:
    """Waits until a file or directory is on disk."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def clone(source: int, target: int) -> bool:
    """Gives an empty file the content of another by reference (FICLONE); False: it cannot be."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as exc:
        if exc.errno in _NO_CLONE:
            return False
        raise
    return True
