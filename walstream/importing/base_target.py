"""A base backup that comes into a store from elsewhere: written, proven by its manifest, named.

It is ``base/START-LSN.tmp`` until it is whole and on disk. An import that was killed leaves that,
and the next one goes on with it: a file that has the length and the time of change of the one it
was made of is read again, to be proven, and not written.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

from walstream.errors import BackupDamaged, StoreError
from walstream.redo.rules.checksum import page_checksum
from walstream.segments.files import read_error
from walstream.store.base_backup import BaseBackup, sync_filesystem
from walstream.store.copy_range import copy_range
from walstream.store.file_layer import (
    FileLayer,
    set_mode,
    storage_error,
    write_durably,
    write_fully,
)
from walstream.store.manifest import (
    ALGORITHMS,
    MANIFEST,
    ManifestEntry,
    ManifestFile,
    Sum,
    encode_manifest,
    parse_manifest,
)
from walstream.wal.model import BLCKSZ
from walstream.wal.relpath import RELSEG_SIZE, parse_relation_file
from walstream.wal.timeline import TimelinePart

_PIECE = 1 << 20
# Of a backup without a manifest.
_ALGORITHM = "CRC32C"
# What may differ from the manifest: it was written behind it (pg_basebackup -R), or by whoever
# restored the backup. pg_verifybackup passes them over as well.
CHANGEABLE = {"postgresql.auto.conf", "recovery.signal", "standby.signal"}


class BaseFacts(NamedTuple):
    """What is known of a backup beside its files; see ``store.base_backup.BaseBackup``."""

    start_lsn: int
    checkpoint_lsn: int
    timeline: int
    version: int
    system_id: int
    tablespaces: dict[int, str]


class BaseTarget:
    """One backup on its way into a store. Any thread may call ``add``, each for another file.

    Args:
        base_path: the store's ``base/``.
        facts: see there.
        manifest: that of the backup, None where it has none; one is made then.
        file_mode: of the files.
        whole_pages: there is no manifest, but every page must be whole and have a right checksum.
        links: hard links may be made instead of copies.
        progress: called with the bytes of a file that is done.

    Raises:
        StoreError: the manifest is malformed.
        StorageError: the directory cannot be made.
    """

    def __init__(
        self,
        base_path: Path,
        facts: BaseFacts,
        manifest: bytes | None,
        *,
        file_mode: int,
        whole_pages: bool = False,
        links: bool = False,
        progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.facts = facts
        self.path = base_path / f"{facts.start_lsn:016X}.tmp"
        self._base = base_path
        self._manifest = manifest
        self._listed = None if manifest is None else parse_manifest(manifest)
        self._file_mode = file_mode
        self._directory_mode = 0o750 if file_mode & 0o040 else 0o700
        self._whole_pages = whole_pages
        self._links = links
        self._progress = progress
        self._layer = FileLayer()
        self._lock = threading.Lock()
        self._directories: set[Path] = set()
        self._files: dict[str, ManifestFile] = {}
        self.directory("")

    @property
    def is_there(self) -> bool:
        """Whether the store has this backup already."""
        return self.path.with_suffix("").is_dir() and self.path.with_suffix(".toml").is_file()

    def wants(self, name: str) -> bool:
        """Returns whether a file belongs to the backup: all do where there is no manifest."""
        return self._listed is None or name in self._listed

    def missing(self) -> list[str]:
        """Returns the files of the manifest that have not come."""
        return sorted((self._listed or {}).keys() - self._files.keys())

    def directory(self, name: str) -> None:
        """Makes a directory of the backup."""
        path = self.path / name if name else self.path
        if path in self._directories:
            return
        try:
            path.mkdir(parents=True, exist_ok=True, mode=self._directory_mode)
            set_mode(path, self._directory_mode)
        except OSError as exc:
            raise storage_error("create", path, exc) from exc
        with self._lock:
            self._directories |= {path, path.parent}

    def add_file(self, name: str, source: Path) -> None:
        """Takes a file of a directory: by reference or link where that can be, and reads it once.

        Raises:
            BackupDamaged: it is not what the manifest says, or a page is damaged.
            StorageError: it cannot be read or written.
        """
        path = self.path / name
        self.directory(str(Path(name).parent) if "/" in name else "")
        try:
            status = source.stat()
        except OSError as exc:
            raise read_error("look at", source, exc) from exc
        if not self._is_made_of(path, status):
            self._bring(path, source)
        found = self._read(name, path, source)
        if found.size != status.st_size and not self._links:
            raise StoreError(f"{source} changed while it was copied: is a server running there?")
        self._note(name, found, source)
        if not self._links:
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    def _is_made_of(self, path: Path, status: os.stat_result) -> bool:
        try:
            found = path.stat()
        except FileNotFoundError:
            return False
        except OSError as exc:
            raise read_error("look at", path, exc) from exc
        return (found.st_size, found.st_mtime_ns) == (status.st_size, status.st_mtime_ns)

    def _bring(self, path: Path, source: Path) -> None:
        try:
            with source.open("rb"):
                pass
        except OSError as exc:
            raise read_error("read", source, exc) from exc
        try:
            path.unlink(missing_ok=True)
            if self._links:
                try:
                    os.link(source, path)
                except OSError:
                    self._links = False
                else:
                    return
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, self._file_mode)
        except OSError as exc:
            raise storage_error("create", path, exc) from exc
        try:
            os.fchmod(fd, self._file_mode)
            copy_range(source, fd, None)
        finally:
            os.close(fd)

    def _read(self, name: str, path: Path, source: Path) -> ManifestFile:
        """Returns length and checksum of a file as it is in the store now."""
        total = self._sum(name)
        pages = self._pages(name, source)
        size = 0
        try:
            with path.open("rb", buffering=0) as file:
                while piece := file.read(_PIECE):
                    if total is not None:
                        total[1].update(piece)
                    pages(piece, size)
                    size += len(piece)
        except OSError as exc:
            raise read_error("read", path, exc) from exc
        self._progress(size)
        if total is None:
            return ManifestFile(size, None, "")
        return ManifestFile(size, total[0], total[1].hexdigest())

    def add_stream(self, name: str, stream: IO[bytes], where: Path) -> None:
        """Takes a file of an archive.

        Raises:
            BackupDamaged: it is not what the manifest says.
            StorageError: it cannot be written.
        """
        path = self.path / name
        self.directory(str(Path(name).parent) if "/" in name else "")
        total = self._sum(name)
        size = 0
        try:
            fd = os.open(
                path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, self._file_mode
            )
        except OSError as exc:
            raise storage_error("create", path, exc) from exc
        try:
            os.fchmod(fd, self._file_mode)
            while piece := stream.read(_PIECE):
                if total is not None:
                    total[1].update(piece)
                try:
                    write_fully(self._layer, fd, piece, size, path)
                except OSError as exc:
                    raise storage_error("write", path, exc) from exc
                size += len(piece)
                self._progress(len(piece))
        finally:
            os.close(fd)
        algorithm, checksum = (None, "") if total is None else (total[0], total[1].hexdigest())
        self._note(name, ManifestFile(size, algorithm, checksum), where)

    def add_content(self, name: str, content: bytes) -> None:
        """Takes a small file whose content stood elsewhere."""
        path = self.path / name
        write_durably(self._layer, path, content, self._file_mode)
        total = ALGORITHMS[_ALGORITHM]()
        total.update(content)
        with self._lock:
            self._files[name] = ManifestFile(len(content), _ALGORITHM, total.hexdigest())

    def _sum(self, name: str) -> tuple[str, Sum] | None:
        entry = None if self._listed is None else self._listed.get(name)
        algorithm = _ALGORITHM if entry is None else entry.algorithm
        if algorithm is None:
            return None
        if algorithm not in ALGORITHMS:
            raise StoreError(f"{name}: checksum algorithm {algorithm} is not known here")
        return algorithm, ALGORITHMS[algorithm]()

    def _pages(self, name: str, source: Path) -> Callable[[bytes, int], None]:
        """Returns what checks the pages in a piece of a file that begins at some offset."""
        relation = parse_relation_file(name) if self._whole_pages else None
        if relation is None:
            return lambda _piece, _at: None

        def check(piece: bytes, at: int) -> None:
            first = relation.segment * RELSEG_SIZE + at // BLCKSZ
            for number in range(len(piece) // BLCKSZ):
                page = piece[number * BLCKSZ : (number + 1) * BLCKSZ]
                if page[14:16] == b"\0\0" and not any(page):
                    continue
                stored = int.from_bytes(page[8:10], "little")
                computed = page_checksum(page, first + number)
                if stored != computed:
                    raise BackupDamaged(
                        f"{source}: block {first + number} is damaged: checksum: expected "
                        f"{computed:04X}, got {stored:04X}",
                        str(source),
                        f"{computed:04X}",
                        f"{stored:04X}",
                    )

        return check

    def _note(self, name: str, found: ManifestFile, source: Path) -> None:
        entry = None if self._listed is None else self._listed.get(name)
        if entry is not None and found != entry and name not in CHANGEABLE:
            expected = f"{entry.size} bytes, {entry.algorithm} {entry.checksum}"
            got = f"{found.size} bytes, {found.algorithm} {found.checksum}"
            raise BackupDamaged(
                f"{source}: {name} is not what the backup manifest says: expected {expected}, "
                f"got {got}",
                str(source),
                expected,
                got,
            )
        with self._lock:
            self._files[name] = found

    def finish(self, stop_lsn: int) -> BaseBackup:
        """Gives the backup its name, durably.

        Raises:
            StoreError: a file of the manifest has not come.
            StorageError: a system call failed.
        """
        missing = self.missing()
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise StoreError(f"the backup manifest lists {missing[0]}{more}, which is not there")
        self._remove_strangers()
        facts = self.facts
        write_durably(
            self._layer, self.path / MANIFEST, self._manifest_of(stop_lsn), self._file_mode
        )
        final = self.path.with_suffix("")
        result = BaseBackup(
            final, facts.start_lsn, stop_lsn, facts.checkpoint_lsn, facts.timeline,
            facts.tablespaces,
        )  # fmt: skip
        try:
            sync_filesystem(self.path)
            for name in self._files:
                fd = self._layer.open(self.path / name, os.O_RDONLY)
                try:
                    self._layer.fsync(fd)
                finally:
                    self._layer.close(fd)
            for directory in sorted(self._directories, reverse=True):
                self._layer.fsync_directory(directory)
            # A description without a backup counts for nothing: first it, then the name.
            description = final.with_suffix(".toml")
            write_durably(self._layer, description, result.to_toml().encode(), self._file_mode)
            self._layer.rename(self.path, final)
            self._layer.fsync_directory(self._base)
        except OSError as exc:
            raise storage_error("finish", final, exc) from exc
        return result

    def _manifest_of(self, stop_lsn: int) -> bytes:
        """Returns the backup's own manifest where every file is as it says, else a new one."""
        if self._manifest is not None and self._files == self._listed:
            return self._manifest
        facts = self.facts
        return encode_manifest(
            facts.version,
            facts.system_id,
            [
                ManifestEntry(name, file, int((self.path / name).stat().st_mtime))
                for name, file in sorted(self._files.items())
            ],
            [TimelinePart(facts.timeline, facts.start_lsn, stop_lsn)],
        )

    def _remove_strangers(self) -> None:
        """Removes what an earlier run brought that is no file of the backup now."""
        for name in list(_files_below(self.path)):
            if name not in self._files:
                try:
                    (self.path / name).unlink()
                except OSError as exc:
                    raise storage_error("remove", self.path / name, exc) from exc


def _files_below(path: Path) -> Iterator[str]:
    for directory, _, names in os.walk(path):
        for name in names:
            yield Path(directory, name).relative_to(path).as_posix()
