"""Pages of a base backup: how long each relation fork was, and single blocks of it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from walstream.errors import StorageError
from walstream.wal.model import BLCKSZ, BufferTag, RelFileLocator
from walstream.wal.relpath import RELSEG_SIZE, block_place, parse_relation_file, relation_file

# TABLESPACE_VERSION_DIRECTORY: the major version and the catalog version, a date and a number.
_VERSION_DIRECTORY = re.compile(r"PG_[0-9]+_[0-9]{9}")


@contextmanager
def reading(path: Path) -> Iterator[Iterator[os.DirEntry[str]]]:
    """Yields the entries of a directory, none where it is not there.

    Raises:
        StorageError: it, or an entry of it, cannot be looked at.
    """
    try:
        entries = os.scandir(path)
    except FileNotFoundError:
        yield iter(())
        return
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}", str(path)) from error
    try:
        with entries:
            yield entries
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}", str(path)) from error


def subdirectories(path: Path) -> list[str]:
    """Returns the names of the directories in a directory, sorted."""
    with reading(path) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir())


def is_oid(name: str) -> bool:
    return name.isascii() and name.isdigit()


class BasePages:
    """The relation files of a plain base backup directory, read only."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._version_directories: dict[int, str] = {}
        for space in subdirectories(path / "pg_tblspc"):
            for child in subdirectories(path / "pg_tblspc" / space):
                if is_oid(space) and _VERSION_DIRECTORY.fullmatch(child):
                    self._version_directories[int(space)] = child

    def sizes(self) -> dict[tuple[RelFileLocator, int], int]:
        """Returns the length in blocks of every relation fork of the backup.

        What people and other programs leave in a data directory is passed over.

        Raises:
            StorageError: a directory cannot be read.
        """
        found: dict[tuple[RelFileLocator, int], int] = {}
        parents = ["base"]
        for spc_oid, version_directory in self._version_directories.items():
            parents.append(f"pg_tblspc/{spc_oid}/{version_directory}")
        directories = ["global"]
        for parent in parents:
            databases = filter(is_oid, subdirectories(self.path / parent))
            directories += (f"{parent}/{database}" for database in databases)
        for below in directories:
            with reading(self.path / below) as files:
                for file in files:
                    parsed = parse_relation_file(f"{below}/{file.name}")
                    if parsed is None or not file.is_file():
                        continue
                    blocks = file.stat().st_size // BLCKSZ
                    key = (parsed.locator, parsed.fork)
                    end = parsed.segment * RELSEG_SIZE + blocks
                    found[key] = max(found.get(key, 0), end)
        return found

    def read(self, tag: BufferTag) -> bytes | None:
        """Returns one block as it stands in the backup, or None where the backup has no such block.

        Raises:
            StorageError: the file is there and cannot be read.
        """
        segment, block = block_place(tag)
        name = relation_file(
            tag.locator, tag.fork, segment, self._version_directories.get(tag.spc_oid, "")
        )
        path = self.path / name
        try:
            with path.open("rb") as file:
                file.seek(block * BLCKSZ)
                page = file.read(BLCKSZ)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error.strerror}", str(path)) from error
        return page if len(page) == BLCKSZ else None
