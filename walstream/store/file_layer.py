"""The system calls that a store's files go through, as one object that tests can replace.

Every durable effect of the receiver is a call here, so a test can fail or crash at each of them.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from walstream.errors import NoSpace, StoreError, WriteError
from walstream.segments.files import read_error
from walstream.store.hard_link import link_without_replacing

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


def storage_error(action: str, path: Path | str, error: OSError) -> WriteError:
    """Returns our error for a system call that failed while something was written."""
    kind = NoSpace if error.errno in NO_SPACE else WriteError
    return kind(f"{action} {path}: {error.strerror or error}", str(path))


def free_space(path: str | None) -> str:
    """Returns in words how much the file system of ``path`` has left for us."""
    place = Path(path or "/")
    for directory in place.parents:
        with suppress(OSError):
            found = os.statvfs(directory)
            return f"{found.f_bavail * found.f_frsize} bytes free below {directory}"
    return "free space not known"


class FileLayer:
    """The real file system. Paths are absolute; file descriptors are the caller's to close."""

    def open(self, path: Path, flags: int, mode: int = 0o600) -> int:
        return os.open(path, flags | os.O_CLOEXEC, mode)

    def exists(self, path: Path) -> bool:
        return path.exists()

    def close(self, fd: int) -> None:
        os.close(fd)

    def size(self, fd: int) -> int:
        return os.fstat(fd).st_size

    def allocate(self, fd: int, size: int) -> None:
        """Gives the file ``size`` bytes that are really there, zeros where nothing was."""
        os.posix_fallocate(fd, 0, size)

    def truncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def write(self, fd: int, buffers: Sequence[bytes | memoryview], offset: int) -> int:
        return os.pwritev(fd, buffers, offset)

    def read(self, fd: int, length: int, offset: int) -> bytes:
        return os.pread(fd, length, offset)

    def start_writing(self, fd: int, offset: int, length: int) -> None:
        """Has the kernel begin to write these bytes to the disk; a hint, nothing is waited for.

        That is what Linux makes of this advice for dirty pages; they stay in the cache.
        """
        os.posix_fadvise(fd, offset, length, os.POSIX_FADV_DONTNEED)

    def fdatasync(self, fd: int) -> None:
        os.fdatasync(fd)

    def fsync(self, fd: int) -> None:
        os.fsync(fd)

    def fsync_directory(self, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def rename(self, old: Path, new: Path) -> None:
        old.rename(new)

    def link_new(self, old: Path, new: Path) -> None:
        """Gives a file a name that must be free; see ``link_without_replacing``."""
        link_without_replacing(old, new)

    def unlink(self, path: Path) -> None:
        path.unlink(missing_ok=True)


def file_mode_below(directory: Path) -> int:
    """Returns the mode of new files: readable by the group where ``directory`` is (initdb -g).

    Raises:
        StorageError: the directory cannot be looked at.
    """
    try:
        return 0o640 if directory.stat().st_mode & 0o050 == 0o050 else 0o600
    except OSError as exc:
        raise read_error("look at", directory, exc) from exc


def set_mode(path: Path, mode: int) -> None:
    """Gives a file or directory of ours its mode, whatever the umask; keeps set-group-ID.

    Raises:
        OSError: it is not ours.
    """
    path.chmod(mode | (path.stat().st_mode & 0o2000))


def write_fully(files: FileLayer, fd: int, content: bytes, offset: int, path: Path) -> None:
    """Writes all of ``content`` at ``offset``.

    Raises:
        OSError: a write failed.
        NoSpace: a write took nothing.
    """
    done = 0
    while done < len(content):
        wrote = files.write(fd, [memoryview(content)[done:]], offset + done)
        if wrote <= 0:
            raise NoSpace(f"write {path}: no space left (short write)", str(path))
        done += wrote


def write_durably(files: FileLayer, path: Path, content: bytes, mode: int = 0o600) -> None:
    """Writes a small file so that it is there whole or not at all: temporary name, fsync, rename.

    Raises:
        NoSpace: there was no room for it. Can be called again: all is written anew.
        StorageError: a system call failed; the file is as it was.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        fd = files.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        try:
            write_fully(files, fd, content, 0, temporary)
            files.fsync(fd)
        finally:
            files.close(fd)
        files.rename(temporary, path)
        files.fsync_directory(path.parent)
    except OSError as exc:
        raise storage_error("write", path, exc) from exc


def replace_file(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Replaces a small file atomically but without fsync: for status, which a crash may lose.

    Raises:
        OSError: a system call failed.
    """
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    temporary.chmod(mode)
    temporary.replace(path)


def _lock_holder(file: os.stat_result) -> str:
    """Returns who has locked a file, with the process id where /proc/locks tells (proc(5))."""
    unknown = "another walstream process"
    try:
        lines = Path("/proc/locks").read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return unknown
    inode = f":{file.st_ino}"
    device = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}"
    held = [fields for line in lines if (fields := line.split())[1] == "FLOCK"]
    same = [fields for fields in held if fields[5].endswith(inode) and int(fields[4]) > 0]
    # Some file systems (btrfs, overlays) show another device there than stat does.
    exact = [fields for fields in same if fields[5] == device + inode]
    found = exact or same
    return f"{unknown} (process id {found[0][4]})" if found else unknown


class DirectoryLock:
    """An exclusive lock (flock) on a directory or file, held until ``release`` or process end.

    It belongs to the inode: it is the same one by whatever path or link the directory is reached.
    """

    def __init__(self, path: Path, what: str, mode: int = 0o600) -> None:
        """Takes the lock; ``mode`` is that of a file that is not there yet.

        Raises:
            StoreError: another process holds it.
            StorageError: ``path`` cannot be opened.
        """
        try:
            flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT
            self._fd = os.open(path, flags | os.O_CLOEXEC, mode)
        except OSError as exc:
            raise storage_error("open", path, exc) from exc
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            holder = _lock_holder(os.fstat(self._fd))
            os.close(self._fd)
            self._fd = -1
            if exc.errno in (errno.EWOULDBLOCK, errno.EAGAIN):
                raise StoreError(f"{what} is in use by {holder}", str(path)) from exc
            raise storage_error("lock", path, exc) from exc

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
