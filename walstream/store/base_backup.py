"""Base backups of a store: unpacked as they arrive, verified by their manifest, found again.

A backup is ``base/START-LSN/`` (16 hexadecimal digits), a plain directory as pg_basebackup -Fp
would have written it, with ``backup_manifest``; tablespaces are directories in ``pg_tblspc``
instead of links. ``base/START-LSN.toml`` beside it says what it needs of WAL. Until it is complete
and on disk it is called ``START-LSN.tmp``.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
import tarfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple, TypeVar

from walstream.errors import (
    BackupDamaged,
    ConfigError,
    NoSpace,
    ReplicationProtocolError,
    StoreError,
)
from walstream.segments.files import read_error
from walstream.store.file_layer import FileLayer, set_mode, storage_error, write_durably
from walstream.store.manifest import MANIFEST, parse_manifest
from walstream.toml import parse_toml
from walstream.wal.model import format_lsn, parse_lsn

_DESCRIPTION = re.compile(r"[0-9A-F]{16}\.toml")
_UNFINISHED = re.compile(r"[0-9A-F]{16}\.(?:toml\.)?tmp")
T = TypeVar("T")

_TAR_BLOCK = 512
_CHECKPOINT = re.compile(rb"^CHECKPOINT LOCATION: ([0-9A-F]+/[0-9A-F]+)$", re.MULTILINE)


class BaseBackup(NamedTuple):
    """A complete backup. It is consistent once WAL ``[start_lsn, stop_lsn)`` was replayed.

    ``tablespaces`` maps the oid of a tablespace that lay outside the data directory to its path on
    the server. ``wal_from``: where a server begins to replay, as far as that is before
    ``start_lsn``: in the pages of a base that was advanced there is already all up to
    ``start_lsn``, what is beside them is told from the checkpoint before it. ``timeline`` is that
    of WAL at ``first_needed_lsn``, ``stop_timeline`` that of its end; None where it is not known.
    """

    path: Path
    start_lsn: int
    stop_lsn: int
    checkpoint_lsn: int
    timeline: int
    tablespaces: Mapping[int, str] = {}
    wal_from: int | None = None
    stop_timeline: int | None = None

    @property
    def first_needed_lsn(self) -> int:
        """The lowest WAL position that is needed to restore the backup, by whomever."""
        return self.start_lsn if self.wal_from is None else min(self.start_lsn, self.wal_from)

    def to_toml(self) -> str:
        """Returns the description that stands beside the backup."""
        lines = [
            f'start_lsn = "{format_lsn(self.start_lsn)}"',
            f'stop_lsn = "{format_lsn(self.stop_lsn)}"',
            f'checkpoint_lsn = "{format_lsn(self.checkpoint_lsn)}"',
            f"timeline = {self.timeline}",
        ]
        if self.stop_timeline is not None:
            lines.append(f"stop_timeline = {self.stop_timeline}")
        if self.wal_from is not None:
            lines.append(f'wal_from = "{format_lsn(self.wal_from)}"')
        if self.tablespaces:
            # A JSON string is a TOML one.
            places = [f"{oid} = {json.dumps(at)}" for oid, at in sorted(self.tablespaces.items())]
            lines += ["", "[tablespaces]", *places]
        return "\n".join(lines) + "\n"


def list_base_backups(base_path: Path) -> list[BaseBackup]:
    """Returns the complete backups below ``base/``, oldest first.

    Whatever else stands there is passed over.

    Raises:
        StoreError: one of their descriptions is malformed.
        StorageError: they cannot be read.
    """
    found = []
    for path in _named(base_path, _DESCRIPTION):
        directory = path.with_suffix("")
        if not directory.is_dir() or not path.is_file():
            continue
        try:
            table = parse_toml(path.read_text(encoding="utf-8"), path)
            found.append(
                BaseBackup(
                    directory,
                    parse_lsn(table["start_lsn"]),
                    parse_lsn(table["stop_lsn"]),
                    parse_lsn(table["checkpoint_lsn"]),
                    int(table["timeline"]),
                    {int(oid): str(at) for oid, at in table.get("tablespaces", {}).items()},
                    parse_lsn(table["wal_from"]) if "wal_from" in table else None,
                    int(table["stop_timeline"]) if "stop_timeline" in table else None,
                )
            )
        except (ConfigError, KeyError, ValueError, TypeError, AttributeError) as exc:
            raise StoreError(f"{path}: missing or malformed {exc}", str(path)) from exc
        except OSError as exc:
            raise read_error("read", path, exc) from exc
    return found


def _named(directory: Path, pattern: re.Pattern[str]) -> list[Path]:
    """Returns what is in a directory under names that match, sorted; none where it is not there."""
    try:
        return sorted(path for path in directory.iterdir() if pattern.fullmatch(path.name))
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise read_error("read", directory, exc) from exc


def _remove(path: Path) -> None:
    """Removes a directory with all that is in it, or whatever else has its name.

    Raises:
        OSError: a system call failed.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_unfinished(base_path: Path) -> None:
    """Removes what an interrupted backup left, as far as that can be removed.

    Only for who holds the lock of ``base/``: what is unfinished then is nobody's.
    """
    descriptions = _named(base_path, _DESCRIPTION)
    left = [path for path in descriptions if not path.with_suffix("").is_dir()]
    for path in [*_named(base_path, _UNFINISHED), *left]:
        with suppress(OSError):
            _remove(path)


class BackupWriter:
    """Writes one backup; a ``BackupTarget`` of ``replication/backup.py``. Synchronous.

    ``result`` is set when ``finish`` has returned.

    Args:
        base_path: where backups are kept.
        files: what makes the system calls that must be durable.
        file_mode: of the files; directories are open to the group where they are.
        wait_for_space: called with what was to be written when the disk is full; when it returns,
            that is tried again. None: a full disk is an error.
    """

    def __init__(
        self,
        base_path: Path,
        files: FileLayer | None = None,
        *,
        file_mode: int = 0o600,
        wait_for_space: Callable[[NoSpace], None] | None = None,
    ) -> None:
        self._wait_for_space = wait_for_space
        self._file_mode = file_mode
        self._directory_mode = 0o750 if file_mode & 0o040 else 0o700
        self.result: BaseBackup | None = None
        self.bytes_written = 0
        self._base = base_path
        self._layer = files or FileLayer()
        self._path = base_path / "unnamed.tmp"
        self._start_lsn = self._timeline = 0
        self._tar: _TarReader | None = None
        self._manifest: bytearray | None = None
        self._file: BinaryIO | None = None
        self._name = ""
        from crc32c import crc32c  # slow to import: it asks for its own version

        self._sums: dict[str, tuple[int, str, str]] = {}
        self._crc32c = crc32c
        self._sha = hashlib.sha256()
        self._crc = 0
        self._size = 0
        self._directories: set[Path] = set()
        self._prefix = PurePosixPath()
        self._tablespaces: dict[int, str] = {}

    def begin(self, start_lsn: int, timeline: int) -> None:
        self._start_lsn, self._timeline = start_lsn, timeline
        self._path = self._base / f"{start_lsn:016X}.tmp"
        if (self._base / f"{start_lsn:016X}").exists():
            raise StoreError(
                f"there is a base backup at {format_lsn(start_lsn)} already",
                str(self._path.with_suffix("")),
            )
        try:
            _remove(self._path)
            self._make_directory(self._path)
        except OSError as exc:
            raise storage_error("create", self._path, exc) from exc

    def archive(self, tablespace: int) -> None:
        self._end_archive()
        self._prefix = PurePosixPath(f"pg_tblspc/{tablespace}" if tablespace else ".")
        try:
            self._make_directory(self._path / self._prefix)
        except OSError as exc:
            raise storage_error("create", self._path / self._prefix, exc) from exc
        self._tar = _TarReader(self)

    def manifest(self) -> None:
        self._end_archive()
        self._manifest = bytearray()

    def data(self, data: bytes | memoryview) -> None:
        """Takes bytes of the archive or manifest that began last.

        Raises:
            ReplicationProtocolError: not what a tar archive of PostgreSQL looks like.
            StorageError: a system call failed.
        """
        if self._manifest is not None:
            self._manifest += data
            return
        if self._tar is None:
            raise ReplicationProtocolError("BASE_BACKUP: data before the first archive")
        try:
            self._tar.feed(data)
        except OSError as exc:
            raise storage_error("write", self._path / self._name, exc) from exc

    def finish(self, stop_lsn: int, timeline: int) -> None:
        """Verifies the backup against its manifest and gives it its name, durably.

        Raises:
            StoreError: a file is missing, too much, or differs from the manifest.
            StorageError: a system call failed.
        """
        self._end_archive()
        if self._manifest is None:
            raise ReplicationProtocolError("BASE_BACKUP: no manifest arrived")
        manifest = bytes(self._manifest)
        check_manifest(manifest, self._sums, self._path)
        try:
            label = (self._path / "backup_label").read_bytes()
        except OSError as exc:
            raise read_error("read", self._path / "backup_label", exc) from exc
        found = _CHECKPOINT.search(label)
        if found is None:
            path = self._path / "backup_label"
            raise BackupDamaged(
                f"{path}: no CHECKPOINT LOCATION", str(path), "CHECKPOINT LOCATION", "none"
            )
        checkpoint_lsn = parse_lsn(found[1].decode("ascii"))
        self._write_durably(self._path / MANIFEST, manifest)
        final = self._path.with_suffix("")
        result = BaseBackup(
            final,
            self._start_lsn,
            stop_lsn,
            checkpoint_lsn,
            self._timeline,
            dict(self._tablespaces),
            stop_timeline=timeline,
        )
        try:
            sync_filesystem(self._path)
            for name in [*self._sums, MANIFEST]:
                fd = self._layer.open(self._path / name, os.O_RDONLY)
                try:
                    self._layer.fsync(fd)
                finally:
                    self._layer.close(fd)
            for directory in sorted(self._directories, reverse=True):
                self._layer.fsync_directory(directory)
        except OSError as exc:
            raise storage_error("finish", final, exc) from exc
        # Before the name, which is what makes the backup count; without it, it says nothing.
        self._write_durably(final.with_suffix(".toml"), result.to_toml().encode())
        try:
            self._layer.rename(self._path, final)
            self._layer.fsync_directory(self._base)
        except OSError as exc:
            raise storage_error("finish", final, exc) from exc
        self.result = result

    def _write_durably(self, path: Path, content: bytes) -> None:
        self._with_space(path, partial(write_durably, self._layer, path, content, self._file_mode))

    def abandon(self) -> None:
        """Removes an unfinished backup."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if self.result is None and self._path.suffix == ".tmp":
            shutil.rmtree(self._path, ignore_errors=True)

    # -- called by the tar reader

    def _end_archive(self) -> None:
        if self._tar is not None:
            self._tar.end()
            self._tar = None

    def _make_directory(self, path: Path) -> None:
        self._with_space(
            path, partial(path.mkdir, parents=True, exist_ok=True, mode=self._directory_mode)
        )
        set_mode(path, self._directory_mode)
        self._directories |= {path, path.parent}

    def begin_member(self, member: tarfile.TarInfo) -> None:
        relative = self._prefix / member.name
        if relative.is_absolute() or ".." in relative.parts:
            raise ReplicationProtocolError(f"BASE_BACKUP: unsafe file name {member.name!r}")
        path = self._path / relative
        self._name = str(relative)
        if member.isdir() or member.issym():
            # A link is a tablespace's, or pg_wal's: its content comes as an archive of its own.
            self._make_directory(path)
            if member.issym() and relative.parts[0] == "pg_tblspc" and path.name.isdecimal():
                self._tablespaces[int(path.name)] = member.linkname
            return
        if not member.isreg():
            raise ReplicationProtocolError(
                f"BASE_BACKUP: {member.name!r} is neither file, directory nor link"
            )
        self._sha, self._crc, self._size = hashlib.sha256(), 0, 0
        if path.parent not in self._directories:
            self._make_directory(path.parent)
        # Where there is no space for its name, it is not there: it can be made again.
        file: BinaryIO = self._with_space(path, lambda: path.open("xb", buffering=0))
        self._file = file
        os.fchmod(file.fileno(), self._file_mode)

    def member_data(self, data: memoryview) -> None:
        assert self._file is not None
        self._crc = self._crc32c(data, self._crc)
        self._sha.update(data)
        self._size += len(data)
        self.bytes_written += len(data)
        done = 0
        while done < len(data):
            write = partial(self._file.write, data[done:])
            done += self._with_space(self._path / self._name, write) or 0

    def _with_space(self, path: Path, call: Callable[[], T]) -> T:
        """Returns what ``call`` does, which is tried again for as long as the disk is full."""
        while True:
            try:
                return call()
            except (NoSpace, OSError) as exc:
                full = exc if isinstance(exc, NoSpace) else storage_error("write", path, exc)
                if self._wait_for_space is None or not isinstance(full, NoSpace):
                    raise
                self._wait_for_space(full)

    def end_member(self) -> None:
        if self._file is None:
            return
        self._file.close()
        self._file = None
        crc = self._crc.to_bytes(4, "little").hex()
        self._sums[self._name] = (self._size, crc, self._sha.hexdigest())


class _TarReader:
    """Takes a tar archive in any cuts; the ustar subset that PostgreSQL writes."""

    def __init__(self, target: BackupWriter) -> None:
        self._target = target
        self._head = bytearray()
        self._left = 0
        self._padding = 0
        self._in_member = False

    def feed(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while len(view):
            if self._left:
                piece = view[: self._left]
                self._target.member_data(piece)
                self._left -= len(piece)
                view = view[len(piece) :]
            elif self._padding:
                size = min(self._padding, len(view))
                self._padding -= size
                view = view[size:]
            else:
                if self._in_member:
                    self._end_member()
                need = _TAR_BLOCK - len(self._head)
                self._head += view[:need]
                view = view[need:]
                if len(self._head) == _TAR_BLOCK:
                    self._member(bytes(self._head))
                    self._head.clear()
            if self._in_member and not self._left and not self._padding:
                self._end_member()

    def _end_member(self) -> None:
        self._in_member = False
        self._target.end_member()

    def _member(self, block: bytes) -> None:
        if not any(block):
            return  # the two zero blocks at the end; 14 leaves them out
        try:
            member = tarfile.TarInfo.frombuf(block, sys.getfilesystemencoding(), "surrogateescape")
        except tarfile.TarError as exc:
            raise ReplicationProtocolError(f"BASE_BACKUP: tar header: {exc}") from exc
        self._target.begin_member(member)
        if member.isreg():
            self._left = member.size
            self._padding = -member.size % _TAR_BLOCK
            self._in_member = True

    def end(self) -> None:
        if self._in_member and not self._left:
            self._end_member()  # the padding of the last file may be left out
        if self._left or self._head:
            raise ReplicationProtocolError("BASE_BACKUP: an archive ends within a file")


def sync_filesystem(path: Path) -> None:
    """Has the kernel write everything at once, so that a thousand fsyncs later are cheap.

    They remain what tells of errors, so nothing is checked here.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        import ctypes  # not for every start

        ctypes.CDLL(None).syncfs(fd)
    finally:
        os.close(fd)


def check_manifest(manifest: bytes, sums: dict[str, tuple[int, str, str]], directory: Path) -> None:
    """Compares files with a backup manifest.

    Args:
        manifest: its text.
        sums: file name -> (size, CRC-32C as PostgreSQL prints it, SHA-256), of what there is.
        directory: where they are, which errors tell.

    Raises:
        BackupDamaged: a file is missing, too much, or differs.
        StoreError: the manifest is malformed, or its checksums are of a kind not known here.
    """
    listed = parse_manifest(manifest, str(directory / MANIFEST))
    for name, entry in listed.items():
        if name not in sums:
            raise _damaged(directory / name, "a file of the manifest", "none that arrived")
        size, crc, sha = sums[name]
        if size != entry.size:
            raise _damaged(directory / name, f"{entry.size} bytes", f"{size} bytes")
        expected = {"CRC32C": crc, "SHA256": sha}.get(entry.algorithm or "")
        if entry.algorithm is not None and expected is None:
            path = directory / name
            raise StoreError(
                f"{path}: checksum algorithm {entry.algorithm} is not known here", str(path)
            )
        if expected is not None and expected != entry.checksum:
            raise _damaged(
                directory / name, f"{entry.algorithm} {entry.checksum} of the whole file", expected
            )
    for name in sums.keys() - listed.keys():
        raise _damaged(directory / name, "no such file in the manifest", "one that arrived")


def _damaged(path: Path, expected: str, got: str) -> BackupDamaged:
    return BackupDamaged(
        f"the base backup is damaged: {path}: expected {expected}, got {got}",
        str(path),
        expected,
        got,
    )
