"""Pages of a base backup: how long each relation fork was, and single blocks of it, proven.

A byte that differs from what the backup brought is never handed out. In a cluster with page
checksums each page proves itself each time it is read; in one without, and for a page of zeros,
which has none, the whole file is proven (``backup_files.py``).
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from walstream.errors import BackupDamaged, PageDamaged
from walstream.redo.rules.checksum import page_checksum
from walstream.store.backup_files import BackupFiles, reported
from walstream.wal.model import BLCKSZ, BufferTag, ForkNumber, RelFileLocator
from walstream.wal.relpath import RELSEG_SIZE, block_place, parse_relation_file, relation_file

# An OID of a tablespace, and TABLESPACE_VERSION_DIRECTORY: major version and catalog version.
_IN_TABLESPACE = re.compile(r"pg_tblspc/([0-9]+)/(PG_[0-9]+_[0-9]{9})/.*", re.DOTALL)


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
        directory = self._directories().get(tag.spc_oid, "")
        name = relation_file(tag.locator, tag.fork, segment, directory)
        listed = self.files.listed
        entry = None if listed is None else listed.get(name)
        if listed is not None and (entry is None or (block + 1) * BLCKSZ > entry.size):
            return None
        path = self.path / name
        with reported(path):
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
        self._prove(tag, name, page)
        return page

    def _prove(self, tag: BufferTag, name: str, page: bytes) -> None:
        """Raises PageDamaged where the page is not what the backup brought."""
        if not self._checksums or page[14:16] == b"\0\0":
            # PageIsNew: PostgreSQL accepts a page without a checksum only when all of it is zeros.
            if self._checksums and any(page):
                raise self._damaged(tag, name, "a page with pd_upper, or zeros", "neither")
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
