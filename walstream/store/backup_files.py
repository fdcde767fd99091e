"""The files of a base backup, read only and proven: what a byte of them says is what was backed up.

The backup's manifest says which files there are, how long each is and what checksum it has. Small
files are compared as they are read, large ones once for as long as they are not changed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from walstream.errors import BackupDamaged, ReadError, StoreError
from walstream.store.manifest import ALGORITHMS, MANIFEST, ManifestFile, Sum, parse_manifest

_READ_SIZE = 1 << 20


@contextmanager
def reported(path: Path) -> Iterator[None]:
    """Turns OSError of a read into ReadError."""
    try:
        yield
    except OSError as error:
        raise ReadError(f"cannot read {path}: {error.strerror}", str(path)) from error


def _unreadable(error: OSError) -> None:
    raise ReadError(f"cannot read {error.filename}: {error.strerror}", str(error.filename))


class BackupFiles:
    """The files of a plain base backup directory. Any thread may call.

    Args:
        path: the directory.
        needs_manifest: a directory without a manifest is refused. Otherwise it counts as it is, as
            a data directory of a server does, and nothing can be proven.
    """

    def __init__(self, path: Path, *, needs_manifest: bool = False) -> None:
        self.path = path
        self._needs_manifest = needs_manifest
        # Files that were compared with the manifest: inode, size and time of change then.
        self._proven: dict[str, tuple[int, int, int]] = {}

    @cached_property
    def listed(self) -> dict[str, ManifestFile] | None:
        """What the manifest says, by path below the directory; None without one.

        Raises:
            StoreError: the manifest is malformed, or missing where it is needed.
        """
        path = self.path / MANIFEST
        with reported(path):
            try:
                text = path.read_bytes()
            except FileNotFoundError:
                if not self._needs_manifest:
                    return None
                raise StoreError(
                    f"{path} is missing: without it nothing of the base backup can be proven; "
                    "put a copy in place",
                    str(path),
                ) from None
        return parse_manifest(text, str(path))

    def sizes(self) -> Iterator[tuple[str, int]]:
        """Yields every file by its path below the directory, and its length as it was backed up.

        Raises:
            StoreError: see ``listed``.
            ReadError: a directory cannot be read.
        """
        if self.listed is not None:
            for name, file in self.listed.items():
                yield name, file.size
            return
        for directory, _, names in os.walk(self.path, onerror=_unreadable):
            for name in names:
                path = Path(directory, name)
                if path.is_file():
                    with reported(path):
                        yield path.relative_to(self.path).as_posix(), path.stat().st_size

    def has(self, name: str) -> bool:
        """Whether the backup has a file of that name."""
        if self.listed is not None:
            return name in self.listed
        return (self.path / name).is_file()

    def read(self, name: str) -> bytes:
        """Returns the content of a file.

        Raises:
            BackupDamaged: it is not what was backed up, or not there.
            ReadError: it cannot be read.
        """
        path = self.path / name
        with reported(path):
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                raise self._damaged(name, self._expected_length(name), "no such file") from None
        entry = self._entry(name)
        if entry is not None:
            if len(data) != entry.size:
                raise self._damaged(name, f"{entry.size} bytes", str(len(data)))
            total = self._sum(name, entry)
            if total is not None:
                total.update(data)
                self._compare(name, entry, total.hexdigest())
        return data

    def problems(self, progress: Callable[[int], None]) -> list[str]:
        """Returns what of the directory is not what was backed up, one line each.

        WAL below ``pg_wal`` is no part of it. ``progress`` is told the bytes of each file.

        Raises:
            StoreError: the manifest is missing or malformed, or a checksum of an unknown kind.
            ReadError: a file or directory cannot be read.
        """
        listed = self.listed
        assert listed is not None
        found = []
        for name, entry in listed.items():
            try:
                self.prove(name)
            except BackupDamaged as error:
                found.append(str(error))
            progress(entry.size)
        for directory, _, names in os.walk(self.path, onerror=_unreadable):
            there = [Path(directory, name).relative_to(self.path).as_posix() for name in names]
            found += [
                f"{self.path / name}: the manifest does not list it"
                for name in there
                if name not in listed and name != MANIFEST and not name.startswith("pg_wal/")
            ]
        return found

    def prove(self, name: str) -> None:
        """Compares a file with the manifest: its length and its checksum.

        Raises:
            BackupDamaged: it is not what was backed up, or not there.
            StoreError: its checksum is of an unknown kind.
            ReadError: it cannot be read.
        """
        entry = self._entry(name)
        if entry is None:
            return
        path = self.path / name
        with reported(path):
            try:
                file = path.open("rb")
            except FileNotFoundError:
                raise self._damaged(name, f"{entry.size} bytes", "no such file") from None
            with file:
                status = os.fstat(file.fileno())
                state = (status.st_ino, status.st_size, status.st_mtime_ns)
                if self._proven.get(name) == state:
                    return
                if status.st_size != entry.size:
                    raise self._damaged(name, f"{entry.size} bytes", str(status.st_size))
                total = self._sum(name, entry)
                if total is not None:
                    while piece := file.read(_READ_SIZE):
                        total.update(piece)
                    self._compare(name, entry, total.hexdigest())
        self._proven[name] = state

    def is_proven(self, name: str, status: os.stat_result) -> bool:
        """Whether ``prove`` was called for this very file, and it was not changed since."""
        state = (status.st_ino, status.st_size, status.st_mtime_ns)
        return self.listed is None or self._proven.get(name) == state

    def _entry(self, name: str) -> ManifestFile | None:
        if self.listed is None:
            return None
        entry = self.listed.get(name)
        if entry is None:
            raise self._damaged(name, "a file of the manifest", "one that it does not list")
        return entry

    def _expected_length(self, name: str) -> str:
        entry = None if self.listed is None else self.listed.get(name)
        return "a file" if entry is None else f"{entry.size} bytes"

    def _sum(self, name: str, entry: ManifestFile) -> Sum | None:
        if entry.algorithm is None:
            return None
        if entry.algorithm not in ALGORITHMS:
            path = self.path / name
            raise StoreError(
                f"{path}: checksum algorithm {entry.algorithm} is not known here", str(path)
            )
        return ALGORITHMS[entry.algorithm]()

    def _compare(self, name: str, entry: ManifestFile, got: str) -> None:
        if got != entry.checksum:
            expected = f"{entry.algorithm} {entry.checksum} of the whole file"
            raise self._damaged(name, expected, got)

    def _damaged(self, name: str, expected: str, got: str) -> BackupDamaged:
        path = self.path / name
        return BackupDamaged(
            f"the base backup is damaged: {path}: expected {expected}, got {got}",
            str(path),
            expected,
            got,
        )
