"""A file system in memory that knows what a power cut leaves, and fails where it is told to."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from walstream.store.file_layer import FileLayer


class PowerCut(BaseException):
    """The machine is off; the process is gone."""


class Inode:
    """``data`` is what reads see, ``durable`` what the disk has."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.durable = b""
        self.dirty: set[int] = set()
        # After a failed fsync the kernel calls the pages clean: reads still see them, but no later
        # fsync writes them. Only writing the bytes again does.
        self.lost: set[int] = set()


class MemoryFiles(FileLayer):
    """``fault`` is asked before each call: None, ``eio``, ``enospc``, ``short`` or ``cut``."""

    def __init__(self, fault: Callable[[str], str | None]) -> None:
        self._fault = fault
        self._open: dict[int, Inode] = {}
        self._next_fd = 1000
        self.entries: dict[Path, Inode] = {}
        self.durable_entries: dict[Path, Inode] = {}

    def _ask(self, call: str, *, short: bool = False) -> bool:
        kind = self._fault(call)
        if kind == "cut":
            raise PowerCut(call)
        if kind == "eio":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if kind == "enospc" and call in ("open", "allocate", "write"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return short and kind == "short"

    def power_off(self) -> None:
        """Keeps what is durable only; every file is closed."""
        self._open.clear()
        self.entries = dict(self.durable_entries)
        for inode in self.entries.values():
            inode.data = bytearray(inode.durable)
            inode.dirty.clear()
            inode.lost.clear()

    def process_died(self) -> None:
        """Keeps everything; every file is closed."""
        self._open.clear()

    def exists(self, path: Path) -> bool:
        return path in self.entries

    def open(self, path: Path, flags: int, mode: int = 0o600) -> int:
        self._ask("open")
        if path not in self.entries:
            if not flags & os.O_CREAT:
                raise FileNotFoundError(path)
            self.entries[path] = Inode()
        if flags & os.O_TRUNC:
            self.entries[path].data.clear()
        self._next_fd += 1
        self._open[self._next_fd] = self.entries[path]
        return self._next_fd

    def close(self, fd: int) -> None:
        self._open.pop(fd, None)

    def size(self, fd: int) -> int:
        return len(self._open[fd].data)

    def allocate(self, fd: int, size: int) -> None:
        self._ask("allocate")
        data = self._open[fd].data
        data.extend(bytes(max(0, size - len(data))))

    def truncate(self, fd: int, size: int) -> None:
        self._ask("truncate")
        del self._open[fd].data[size:]

    def write(self, fd: int, buffers: Sequence[bytes | memoryview], offset: int) -> int:
        short = self._ask("write", short=True)
        content = b"".join(buffers)
        if short:
            content = content[: len(content) // 2]
        data = self._open[fd].data
        if len(data) < offset:
            data.extend(bytes(offset - len(data)))
        data[offset : offset + len(content)] = content
        written = range(offset, offset + len(content))
        self._open[fd].dirty.update(written)
        self._open[fd].lost.difference_update(written)
        return len(content)

    def read(self, fd: int, length: int, offset: int) -> bytes:
        self._ask("read")
        return bytes(self._open[fd].data[offset : offset + length])

    def start_writing(self, fd: int, offset: int, length: int) -> None:
        pass

    def fdatasync(self, fd: int) -> None:
        self._sync(fd, "fdatasync")

    def fsync(self, fd: int) -> None:
        self._sync(fd, "fsync")

    def _sync(self, fd: int, call: str) -> None:
        inode = self._open[fd]
        try:
            self._ask(call)
        except OSError:
            inode.lost |= inode.dirty
            inode.dirty.clear()
            raise
        durable = bytearray(inode.data)
        for at in inode.lost:
            durable[at] = inode.durable[at] if at < len(inode.durable) else 0
        inode.durable = bytes(durable)
        inode.dirty.clear()

    def fsync_directory(self, path: Path) -> None:
        self._ask("fsync_directory")
        self.durable_entries = dict(self.entries)

    def rename(self, old: Path, new: Path) -> None:
        self._ask("rename")
        self.entries[new] = self.entries.pop(old)

    def unlink(self, path: Path) -> None:
        self.entries.pop(path, None)
