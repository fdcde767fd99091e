"""Pages of a base backup: how long each relation fork was, and single blocks of it."""

from __future__ import annotations

import os
from pathlib import Path

from walstream.errors import StorageError
from walstream.wal.model import BLCKSZ, BufferTag, RelFileLocator
from walstream.wal.relpath import RELSEG_SIZE, block_place, parse_relation_file, relation_file


class BasePages:
    """The relation files of a plain base backup directory, read only."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._version_directories: dict[int, str] = {}
        tablespaces = path / "pg_tblspc"
        if tablespaces.is_dir():
            for link in tablespaces.iterdir():
                for child in link.iterdir() if link.is_dir() else ():
                    if child.name.startswith("PG_"):
                        self._version_directories[int(link.name)] = child.name

    def sizes(self) -> dict[tuple[RelFileLocator, int], int]:
        """Returns the length in blocks of every relation fork of the backup."""
        found: dict[tuple[RelFileLocator, int], int] = {}
        directories = [self.path / "global", *(self.path / "base").glob("*")]
        for spc_oid, version_directory in self._version_directories.items():
            directories += (self.path / "pg_tblspc" / str(spc_oid) / version_directory).glob("*")
        for directory in directories:
            below = directory.relative_to(self.path).as_posix()
            with os.scandir(directory) as files:
                for file in files:
                    parsed = parse_relation_file(f"{below}/{file.name}")
                    if parsed is None:
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
