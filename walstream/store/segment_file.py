"""One segment being written: ``.partial`` at full size, bytes, fdatasync, durable rename.

Synchronous; called in a worker thread by ``wal_files.py``. The order of fsyncs is that of
walmethods.c and durable_rename: file and directory after creation; file, rename, file, directory
at completion. A failed fsync is never tried again: the kernel may have dropped the dirty pages.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ParamSpec, Protocol, TypeVar

from walstream.errors import NoSpace, WriteError
from walstream.store.file_layer import FileLayer, storage_error

P = ParamSpec("P")
R = TypeVar("R")

PARTIAL = ".partial"
_ZEROS = bytes(1 << 20)
_MAX_BUFFERS = 256
# Written without a flush until the kernel is told to begin with it.
_WRITE_AHEAD = 4 << 20


class Segment(Protocol):
    """A segment being written; ``comparable`` ones can be read back."""

    comparable: bool

    def write(self, offset: int, buffers: list[bytes | memoryview]) -> int: ...
    def read(self, offset: int, length: int) -> bytes: ...
    def flush(self) -> None: ...
    def complete(self) -> None: ...
    def close(self) -> None: ...


class SegmentFile:
    """An open segment ``directory/name.partial`` of ``size`` bytes.

    Args:
        files: the system calls.
        directory: where the segment lives.
        name: final name.
        size: segment size.
        sync: False skips every fsync (``--no-sync``).
        zero_fill: write the zeros instead of reserving them. Slower at creation, but later
            fdatasyncs then change data only: what a synchronous standby wants.
        mode: permissions of a new file.
    """

    comparable = True

    def __init__(
        self,
        files: FileLayer,
        directory: Path,
        name: str,
        size: int,
        *,
        sync: bool = True,
        zero_fill: bool = False,
        mode: int = 0o600,
    ) -> None:
        self.name = name
        self.size = size
        self._files = files
        self._directory = directory
        self._sync = sync
        self._zero_fill = zero_fill
        self._started = 0
        self.path = directory / (name + PARTIAL)
        existed = files.exists(self.path)
        self._fd = self._call("open", files.open, self.path, os.O_RDWR | os.O_CREAT, mode)
        try:
            if not existed or files.size(self._fd) != size:
                self._make_full_size(zero_fill)
        except BaseException:
            self._release()
            if not existed:
                # A torn file would be in the way of the next attempt.
                files.unlink(self.path)
            raise

    def _call(self, action: str, function: Callable[P, R], *args: P.args, **named: P.kwargs) -> R:
        try:
            return function(*args, **named)
        except OSError as exc:
            raise storage_error(action, self.path, exc) from exc

    def _make_full_size(self, zero_fill: bool) -> None:
        """Repairs a torn padding as well: what is there is kept, the rest becomes zeros."""
        files = self._files
        at = self._call("stat", files.size, self._fd)
        if at > self.size:
            self._call("truncate", files.truncate, self._fd, self.size)
        if zero_fill:
            while at < self.size:
                piece = _ZEROS[: min(len(_ZEROS), self.size - at)]
                at += self._write_some([piece], at)
        else:
            self._call("allocate", files.allocate, self._fd, self.size)
        if self._sync:
            self._call("fsync", files.fsync, self._fd)
            self._call("fsync directory of", files.fsync_directory, self._directory)

    def _write_some(self, buffers: Sequence[bytes | memoryview], offset: int) -> int:
        done = self._call("write", self._files.write, self._fd, buffers, offset)
        if done <= 0:
            raise NoSpace(f"write {self.path}: no space left (short write)", str(self.path))
        return done

    def write(self, offset: int, buffers: list[bytes | memoryview]) -> int:
        """Writes ``buffers`` from ``offset`` on; returns how many bytes the kernel took.

        That can be less than given; never 0.

        Raises:
            NoSpace: the disk is full; nothing was written.
            StorageError: the write failed.
        """
        done = self._write_some(buffers[:_MAX_BUFFERS], offset)
        if self._sync and not self._zero_fill:
            self._start_writing(offset + done)
        return done

    def _start_writing(self, end: int) -> None:
        """Keeps the disk busy while more is received, so that the fsync at the end finds little."""
        begin = self._started
        if end < begin:
            self._started = end
        elif end - begin >= _WRITE_AHEAD:
            self._started = end
            self._call("fadvise", self._files.start_writing, self._fd, begin, end - begin)

    def read(self, offset: int, length: int) -> bytes:
        """Returns bytes of the file, fewer at its end.

        Raises:
            StorageError: the read failed.
        """
        return self._call("read", self._files.read, self._fd, length, offset)

    def write_again(self, length: int) -> None:
        """Writes the first ``length`` bytes of the file once more, so that a flush covers them.

        Raises:
            StorageError: a read or write failed.
        """
        at = 0
        while at < length:
            data = self.read(at, min(1 << 20, length - at))
            done = 0
            while done < len(data):
                done += self._write_some([memoryview(data)[done:]], at + done)
            at += len(data)

    def flush(self) -> None:
        """Returns when everything written is on disk.

        Raises:
            StorageError: fdatasync failed; the file must not be used any more.
        """
        if self._sync:
            self._fatal("fdatasync", self._files.fdatasync, self._fd)

    def _fatal(
        self, action: str, function: Callable[P, None], *args: P.args, **named: P.kwargs
    ) -> None:
        """As ``_call``, but a full disk is no excuse: what fsync failed for is lost."""
        try:
            function(*args, **named)
        except OSError as exc:
            raise WriteError(f"{action} {self.path}: {exc.strerror}", str(self.path)) from exc

    def complete(self) -> None:
        """Makes the file durable under its final name and closes it.

        Raises:
            StorageError: fsync or rename failed; the file must not be used any more.
        """
        final = self._directory / self.name
        if self._sync:
            self._fatal("fsync", self._files.fsync, self._fd)
        self._fatal("rename", self._files.rename, self.path, final)
        self.path = final
        if self._sync:
            self._fatal("fsync", self._files.fsync, self._fd)
            self._fatal("fsync directory of", self._files.fsync_directory, self._directory)
        self._release()

    def close(self) -> None:
        """Closes the file as it is: still ``.partial``, not flushed."""
        self._release()

    def _release(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            self._files.close(fd)
