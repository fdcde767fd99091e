"""All WAL of an import as one place: what the store has, and what is to come from elsewhere.

Files have the names that they will have in the store, so that everything that reads a directory of
WAL (``SegmentSource``, the scan, the check of a chain) reads this before anything is copied.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import IO

from walstream.errors import ReadError
from walstream.importing.archive import ArchivedFile
from walstream.importing.packing import KEPT, open_packed
from walstream.segments.files import DirectoryFiles, read_error
from walstream.segments.names import PARTIAL


def stored_name(file: ArchivedFile) -> str:
    """Returns the name that a file is read by: that of PostgreSQL, with a suffix of a store."""
    suffix = file.packing if file.packing in KEPT else ""
    return file.name.stem + suffix + (PARTIAL if file.name.partial else "")


class Collection:
    """The ``Files`` of an import; any thread may read.

    Args:
        store: the store's directory of WAL, None where there is no store yet.
        files: what is to be taken. Of several that PostgreSQL would call the same the first counts,
            until it is given up.
    """

    def __init__(self, store: Path | None, files: Iterable[ArchivedFile]) -> None:
        self._stored = None if store is None else DirectoryFiles(store)
        self._candidates: dict[tuple[str, bool], list[ArchivedFile]] = {}
        for file in files:
            self._candidates.setdefault((file.name.stem, file.name.partial), []).append(file)
        self._files = {stored_name(each[0]): each[0] for each in self._candidates.values()}
        # A scan asks for many names that are not there: the store is not asked each time.
        self._stored_names = set(self._stored.names()) if self._stored is not None else set()

    def names(self) -> list[str]:
        return sorted(self._stored_names | self._files.keys())

    def has(self, name: str) -> bool:
        return name in self._files or name in self._stored_names

    def stored(self, names: Iterable[str]) -> str | None:
        """Returns the first of some names that the store had when this was made."""
        return next((name for name in names if name in self._stored_names), None)

    def open(self, name: str) -> IO[bytes]:
        if name in self._stored_names:
            assert self._stored is not None
            return self._stored.open(name)
        file = self._files[name]
        try:
            if file.packing in KEPT:
                # Whoever reads it unpacks it, by the suffix of the name.
                return file.path.open("rb", buffering=0)
            return open_packed(file.path, file.packing)
        except OSError as exc:
            raise ReadError(f"could not open {file.path}: {exc.strerror}", str(file.path)) from exc

    def candidates(self, stem: str, *, partial: bool) -> list[ArchivedFile]:
        """Returns the files of one name that were not given up, that which counts in front."""
        return list(self._candidates.get((stem, partial), ()))

    def give_up(self, file: ArchivedFile) -> None:
        """Leaves out a file that cannot be used; the next of that name counts."""
        rest = self._candidates[file.name.stem, file.name.partial]
        rest.remove(file)
        del self._files[stored_name(file)]
        if rest:
            self._files[stored_name(rest[0])] = rest[0]

    def where(self) -> str:
        return "the WAL that is to be imported"

    def changed_ns(self) -> int:
        return 1

    def close(self) -> None:
        """Nothing is held open."""


def state_of(path: Path) -> tuple[int, int, int]:
    """Returns what tells that a file is still the same: inode, size, time of its last change.

    Raises:
        ReadError: it cannot be looked at.
    """
    try:
        found = path.stat()
    except OSError as exc:
        raise read_error("look at", path, exc) from exc
    return found.st_ino, found.st_size, found.st_mtime_ns
