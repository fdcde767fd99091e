"""The files of the moment that an opening has removed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


class Gone:
    """The names of files of the moment that were removed; kept in a file, a line each."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        content = b""
        while part := os.pread(self._fd, 1 << 20, len(content)):
            content += part
        # A line that is cut was never synced.
        self._names = set(content.split(b"\n")[:-1])
        self._dirty = False

    def __contains__(self, path: str) -> bool:
        return os.fsencode(path) in self._names

    def __iter__(self) -> Iterator[str]:
        return map(os.fsdecode, sorted(self._names))

    def add(self, path: str) -> None:
        name = os.fsencode(path)
        if name not in self._names:
            self._names.add(name)
            os.write(self._fd, name + b"\n")
            self._dirty = True

    def sync(self) -> None:
        """Waits until all names are on disk."""
        if self._dirty:
            self._dirty = False
            os.fdatasync(self._fd)

    def close(self) -> None:
        os.close(self._fd)
