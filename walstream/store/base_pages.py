"""Pages of a base backup: how long each relation fork was, and single blocks of it, proven.

A byte that differs from what the backup brought is never handed out. The backup's manifest says how
long every file is. In a cluster with page checksums each page proves itself each time it is read;
in one without, and for a page of zeros, which has none, the whole file is compared with its
checksum in the manifest, once for as long as the file is not replaced or changed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from walstream.errors import PageDamaged, StorageError, StoreError
from walstream.redo.rules.checksum import page_checksum
from walstream.store.manifest import ALGORITHMS, MANIFEST, ManifestFile, parse_manifest
from walstream.wal.model import BLCKSZ, BufferTag, ForkNumber, RelFileLocator
from walstream.wal.relpath import RELSEG_SIZE, block_place, parse_relation_file, relation_file

_READ_SIZE = 1 << 20
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
    """The relation files of a plain base backup directory, read only. One thread at a time.

    Args:
        path: the directory.
        checksums: the cluster has page checksums.
        needs_manifest: a directory without a manifest is refused. Otherwise it counts as it is, as
            a data directory of a server does.
    """

    def __init__(
        self, path: Path, *, checksums: bool = False, needs_manifest: bool = False
    ) -> None:
        self.path = path
        self._checksums = checksums
        self._needs_manifest = needs_manifest
        self._listed: dict[str, ManifestFile] | None = None
        self._read_listed = False
        self._version_directories: dict[int, str] | None = None
        # Files that were compared with the manifest: inode, size and time of change then.
        self._proven: dict[str, tuple[int, int, int]] = {}

    def sizes(self) -> dict[tuple[RelFileLocator, int], int]:
        """Returns the length in blocks of every relation fork of the backup, as it was taken.

        As PostgreSQL counts (mdnblocks): a fork ends with its first file that is not full.

        Raises:
            StoreError: the manifest is missing or malformed.
        """
        parts: dict[tuple[RelFileLocator, int], dict[int, int]] = {}
        for name, size in self._relation_files():
            parsed = parse_relation_file(name)
            if parsed is not None:
                segments = parts.setdefault((parsed.locator, parsed.fork), {})
                segments[parsed.segment] = size // BLCKSZ
        found = {}
        for key, segments in parts.items():
            number = 0
            while segments.get(number, 0) >= RELSEG_SIZE:
                number += 1
            found[key] = number * RELSEG_SIZE + segments.get(number, 0)
        return found

    def read(self, tag: BufferTag) -> bytes | None:
        """Returns one block as the backup brought it, or None where the backup has no such block.

        Raises:
            PageDamaged: the file is not there, has another length, or other bytes than the backup
                brought.
            StorageError: the file is there and cannot be read.
            StoreError: the manifest is missing or malformed.
        """
        segment, block = block_place(tag)
        directory = self._directories().get(tag.spc_oid, "")
        name = relation_file(tag.locator, tag.fork, segment, directory)
        listed = self._manifest()
        entry = None if listed is None else listed.get(name)
        if listed is not None and (entry is None or (block + 1) * BLCKSZ > entry.size):
            return None
        path = self.path / name
        with _reported(path):
            try:
                with path.open("rb") as file:
                    status = os.fstat(file.fileno())
                    page = os.pread(file.fileno(), BLCKSZ, block * BLCKSZ)
            except FileNotFoundError:
                if entry is None:
                    return None
                raise self._damaged(tag, name, f"{entry.size} bytes", "no such file") from None
        if entry is not None and status.st_size != entry.size:
            raise self._damaged(tag, name, f"{entry.size} bytes", str(status.st_size))
        if len(page) != BLCKSZ:
            return None
        self._prove(tag, name, entry, page)
        return page

    def _prove(self, tag: BufferTag, name: str, entry: ManifestFile | None, page: bytes) -> None:
        """Raises PageDamaged where the page is not what the backup brought."""
        if not self._checksums or page[14:16] == b"\0\0":
            # PageIsNew: PostgreSQL accepts a page without a checksum only when all of it is zeros.
            if self._checksums and any(page):
                raise self._damaged(tag, name, "a page with pd_upper, or zeros", "neither")
            if entry is not None:
                self._prove_file(tag, name, entry)
            return
        stored = int.from_bytes(page[8:10], "little")
        computed = page_checksum(page, tag.block)
        if stored != computed:
            raise self._damaged(tag, name, f"checksum {computed:04X}", f"{stored:04X}")

    def _prove_file(self, tag: BufferTag, name: str, entry: ManifestFile) -> None:
        if entry.algorithm is None:
            return
        if entry.algorithm not in ALGORITHMS:
            raise StoreError(f"{name}: checksum algorithm {entry.algorithm} is not known here")
        path = self.path / name
        with _reported(path), path.open("rb") as file:
            status = os.fstat(file.fileno())
            state = (status.st_ino, status.st_size, status.st_mtime_ns)
            if self._proven.get(name) == state:
                return
            total = ALGORITHMS[entry.algorithm]()
            while piece := file.read(_READ_SIZE):
                total.update(piece)
        if total.hexdigest() != entry.checksum:
            expected = f"{entry.algorithm} {entry.checksum} of the whole file"
            raise self._damaged(tag, name, expected, total.hexdigest())
        self._proven[name] = state

    def _damaged(self, tag: BufferTag, name: str, expected: str, got: str) -> PageDamaged:
        fork = ForkNumber(tag.fork).name.lower()
        return PageDamaged(
            f"block {tag.block} of relation {tag.locator} fork {fork}: its page in the base backup "
            f"is damaged: {self.path / name}: expected {expected}, got {got}",
            tag,
            str(self.path / name),
        )

    # -- files

    def _manifest(self) -> dict[str, ManifestFile] | None:
        if not self._read_listed:
            path = self.path / MANIFEST
            with _reported(path):
                try:
                    text = path.read_bytes()
                except FileNotFoundError:
                    if self._needs_manifest:
                        raise StoreError(
                            f"{path} is missing: without it no page of the base backup can be "
                            "proven; put a copy in place"
                        ) from None
                else:
                    try:
                        self._listed = parse_manifest(text)
                    except StoreError as error:
                        raise StoreError(f"{path}: {error}") from error
            self._read_listed = True
        return self._listed

    def _relation_files(self) -> Iterator[tuple[str, int]]:
        """Yields path and size of every file that may be a relation's."""
        listed = self._manifest()
        if listed is not None:
            for name, entry in listed.items():
                yield name, entry.size
            return
        parents = ["base"]
        for spc_oid, version_directory in self._directories().items():
            parents.append(f"pg_tblspc/{spc_oid}/{version_directory}")
        directories = ["global"]
        for parent in parents:
            databases = filter(is_oid, subdirectories(self.path / parent))
            directories += (f"{parent}/{database}" for database in databases)
        for below in directories:
            with reading(self.path / below) as files:
                for file in files:
                    if file.is_file():
                        yield f"{below}/{file.name}", file.stat().st_size

    def _directories(self) -> dict[int, str]:
        """Returns the version directory (``PG_15_202209061``) of each tablespace."""
        if self._version_directories is not None:
            return self._version_directories
        found: dict[int, str] = {}
        listed = self._manifest()
        if listed is not None:
            parts = (name.split("/") for name in listed if name.startswith("pg_tblspc/"))
            names = ((part[1], part[2]) for part in parts if len(part) > 3)
        else:
            tablespaces = self.path / "pg_tblspc"
            names = (
                (spc_oid, child)
                for spc_oid in subdirectories(tablespaces)
                for child in subdirectories(tablespaces / spc_oid)
            )
        for spc_oid, child in names:
            if is_oid(spc_oid) and _VERSION_DIRECTORY.fullmatch(child):
                found[int(spc_oid)] = child
        self._version_directories = found
        return found


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}", str(path)) from error
