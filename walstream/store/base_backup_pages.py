"""Pages of a base backup: how long each relation fork was, and single blocks of it, proven.

A byte that differs from what the backup brought is never handed out. In a cluster with page
checksums each page proves itself each time it is read; in one without, and for a page of zeros,
which has none, the whole file is proven (``backup_files.py``).
"""

from __future__ import annotations

import os
import re
import threading
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

from walstream.errors import BackupDamaged, PageDamaged
from walstream.redo.rules.checksum import page_checksum, prove_pages
from walstream.store.backup_files import BackupFiles, reported
from walstream.store.manifest import ManifestFile
from walstream.wal.model import BLCKSZ, BufferTag, ForkNumber, RelFileLocator
from walstream.wal.relpath import RELSEG_SIZE, block_place, parse_relation_file, relation_file

# Kept open; and known by name.
OPEN_FILES = 64
KNOWN_FILES = 4096
# An OID of a tablespace, and TABLESPACE_VERSION_DIRECTORY: major version and catalog version.
_IN_TABLESPACE = re.compile(r"pg_tblspc/([0-9]+)/(PG_[0-9]+_[0-9]{9})/.*", re.DOTALL)


class _File(NamedTuple):
    """A file of the backup: its path below the directory, what the manifest says of it."""

    name: str
    path: str
    entry: ManifestFile | None


class _OpenFile:
    """An open file, for as long as anyone holds this; ``state`` is that of when it was opened."""

    __slots__ = ("descriptor", "state")

    def __init__(self, path: str) -> None:
        self.descriptor = -1
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.state: tuple[int, ...] = ()

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


class BasePages:
    """The relation files of a plain base backup directory, read only. Any thread may call.

    Args:
        path: the directory.
        checksums: the cluster has page checksums.
        needs_manifest: see ``BackupFiles``.
    """

    def __init__(
        self, path: Path, *, checksums: bool = False, needs_manifest: bool = False
    ) -> None:
        self.path = path
        self.files = BackupFiles(path, needs_manifest=needs_manifest)
        self._checksums = checksums
        self._lock = threading.Lock()
        self._known: dict[tuple[RelFileLocator, int, int], _File] = {}
        self._opened: OrderedDict[str, _OpenFile] = OrderedDict()
        self._version_directories: dict[int, str] | None = None

    def sizes(self) -> dict[tuple[RelFileLocator, int], int]:
        """Returns the length in blocks of every relation fork of the backup, as it was taken.

        As PostgreSQL counts (mdnblocks): a fork ends with its first file that is not full. What
        people and other programs leave in a data directory is passed over.

        Raises:
            StoreError: the manifest is missing or malformed.
            StorageError: a directory cannot be read.
        """
        parts: dict[tuple[RelFileLocator, int], dict[int, int]] = {}
        for name, size in self.files.sizes():
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
        file = self._file(tag.locator, tag.fork, segment)
        entry = file.entry
        if self.files.listed is not None and (entry is None or (block + 1) * BLCKSZ > entry.size):
            return None
        with reported(self.path / file.name):
            try:
                opened, status = self._open(file)
            except FileNotFoundError:
                if entry is None:
                    return None
                raise self._damaged(tag, file.name, f"{entry.size} bytes", "no such file") from None
            page = os.pread(opened.descriptor, BLCKSZ, block * BLCKSZ)
        if entry is not None and status.st_size != entry.size:
            raise self._damaged(tag, file.name, f"{entry.size} bytes", str(status.st_size))
        if len(page) != BLCKSZ:
            return None
        self._prove(tag, file, page, status)
        return page

    def read_run(
        self, locator: RelFileLocator, fork: int, first: int, count: int
    ) -> tuple[bytes, bytes]:
        """Returns neighbouring blocks of a fork in one read, and which of them are proven.

        The second value has one byte for each page of the first: 1 where ``read`` would give that
        page, 0 where it has to be asked. There may be fewer pages than ``count``, at the end of a
        file of at most 1 GB or where something is not as it should be.
        """
        segment, block = divmod(first, RELSEG_SIZE)
        file = self._file(locator, fork, segment)
        entry = file.entry
        count = min(count, RELSEG_SIZE - block)
        try:
            if self.files.listed is not None and entry is None:
                return b"", b""
            opened, status = self._open(file)
            data = os.pread(opened.descriptor, count * BLCKSZ, block * BLCKSZ)
        except OSError:
            return b"", b""
        if entry is not None and status.st_size != entry.size:
            return b"", b""
        proven = bytearray(len(data) // BLCKSZ)
        if self._checksums:
            prove_pages(data, first, proven)
        elif self.files.is_proven(file.name, status):
            proven[:] = b"\x01" * len(proven)
        return data, bytes(proven)

    def _file(self, locator: RelFileLocator, fork: int, segment: int) -> _File:
        """Returns one of the files of a fork, whether it is there or not."""
        key = (locator, fork, segment)
        file = self._known.get(key)
        if file is None:
            directory = self._directories().get(locator.spc_oid, "")
            name = relation_file(locator, fork, segment, directory)
            listed = self.files.listed
            entry = None if listed is None else listed.get(name)
            file = _File(name, str(self.path / name), entry)
            if len(self._known) >= KNOWN_FILES:
                self._known.clear()
            self._known[key] = file
        return file

    def _open(self, file: _File) -> tuple[_OpenFile, os.stat_result]:
        """Returns the file that has the name now, open, and what the system says of it.

        Somebody may put a good copy in the place of a damaged file.

        Raises:
            OSError: it cannot be opened.
        """
        status = os.stat(file.path)  # noqa: PTH116 (a hot path)
        state = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        with self._lock:
            opened = self._opened.get(file.name)
            if opened is not None and opened.state == state:
                self._opened.move_to_end(file.name)
                return opened, status
        opened = _OpenFile(file.path)
        status = os.fstat(opened.descriptor)
        opened.state = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        with self._lock:
            self._opened[file.name] = opened
            if len(self._opened) > OPEN_FILES:
                self._opened.popitem(last=False)
        return opened, status

    def _prove(self, tag: BufferTag, file: _File, page: bytes, status: os.stat_result) -> None:
        """Raises PageDamaged where the page is not what the backup brought."""
        name = file.name
        if not self._checksums or page[14:16] == b"\0\0":
            # PageIsNew: PostgreSQL accepts a page without a checksum only when all of it is zeros.
            if self._checksums and any(page):
                raise self._damaged(tag, name, "a page with pd_upper, or zeros", "neither")
            if not self.files.is_proven(name, status):
                try:
                    self.files.prove(name)
                except BackupDamaged as error:
                    raise self._damaged(tag, name, error.expected, error.got) from error
            return
        stored = int.from_bytes(page[8:10], "little")
        computed = page_checksum(page, tag.block)
        if stored != computed:
            raise self._damaged(tag, name, f"checksum {computed:04X}", f"{stored:04X}")

    def _damaged(self, tag: BufferTag, name: str, expected: str, got: str) -> PageDamaged:
        fork = ForkNumber(tag.fork).name.lower()
        return PageDamaged(
            f"block {tag.block} of relation {tag.locator} fork {fork}: its page in the base backup "
            f"is damaged: {self.path / name}: expected {expected}, got {got}",
            tag,
            str(self.path / name),
        )

    def _directories(self) -> dict[int, str]:
        """Returns the version directory (``PG_15_202209061``) of each tablespace."""
        if self._version_directories is None:
            matches = (_IN_TABLESPACE.fullmatch(name) for name, _ in self.files.sizes())
            self._version_directories = {int(found[1]): found[2] for found in matches if found}
        return self._version_directories
