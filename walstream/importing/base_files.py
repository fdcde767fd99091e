"""Which files a base backup has, and how they come into a store: from a directory, from archives.

Left out is what PostgreSQL itself leaves out of one (basebackup.c): WAL, what a server makes anew
when it starts, the contents of unlogged and temporary relations.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from walstream.errors import StoreError
from walstream.importing.base_target import BaseTarget
from walstream.importing.bases import FoundBase
from walstream.importing.label import LABEL_FILE
from walstream.importing.names import parse_archived_name
from walstream.importing.tars import member_name, open_member, open_tar
from walstream.scanning.threads import in_order
from walstream.segments.files import read_error
from walstream.store.file_layer import storage_error
from walstream.store.manifest import MANIFEST

WAL_DIRECTORY = "pg_wal"
# Directories whose contents are left out; they themselves stay.
_EMPTY = {
    "pg_dynshmem",
    "pg_notify",
    "pg_replslot",
    "pg_serial",
    "pg_snapshots",
    "pg_stat_tmp",
    "pg_subtrans",
    WAL_DIRECTORY,
}
_LEFT_OUT = {
    MANIFEST,
    "backup_label.old",
    "current_logfiles",
    "current_logfiles.tmp",
    "postgresql.auto.conf.tmp",
    "postmaster.opts",
    "postmaster.pid",
    "recovery.signal",
    "standby.signal",
    "tablespace_map.old",
}
_TEMPORARY = re.compile(r"t[0-9]+_[0-9]+(?:_[a-z]+)?(?:\.[0-9]+)?")
_RELATION = re.compile(r"([0-9]+)(?:_(fsm|vm|init))?(?:\.[0-9]+)?")


class BaseFile(NamedTuple):
    """A file of a backup: its path below the data directory, and where it lies."""

    name: str
    path: Path
    size: int


class Listing(NamedTuple):
    """What a directory has for a backup."""

    files: list[BaseFile]
    directories: list[str]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


def list_directory(base: FoundBase) -> Listing:
    """Returns the files and directories of a backup that is a directory.

    Where it has a manifest that decides which files are taken (``BaseTarget.wants``).

    Raises:
        ReadError: a directory cannot be read.
    """
    assert base.directory is not None
    everything = base.manifest is not None
    roots = [("", base.directory)]
    roots += [(f"pg_tblspc/{oid}", place) for oid, place in sorted(base.tablespace_files.items())]
    files: list[BaseFile] = []
    directories: list[str] = []
    for prefix, root in roots:
        directories += [prefix] if prefix else []
        for directory, below, names in _walk(root):
            relative = Path(directory).relative_to(root).as_posix()
            here = "/".join(part for part in (prefix, relative) if part not in ("", "."))
            kept = [] if here in _EMPTY else sorted(below)
            # Tablespaces are roots of their own, wherever their files are.
            below[:] = [name for name in kept if not _is_tablespace(base, here, name)]
            links = [name for name in below if Path(directory, name).is_symlink()]
            directories += [f"{here}/{name}" if here else name for name in below]
            below[:] = [name for name in below if name not in links or name == WAL_DIRECTORY]
            if here in _EMPTY or here.startswith(f"{WAL_DIRECTORY}/"):
                continue
            unlogged = set() if everything else _unlogged(names)
            for name in sorted(names):
                path = f"{here}/{name}" if here else name
                if everything or not _is_left_out(path, name, unlogged):
                    files.append(_file(path, Path(directory, name)))
    return Listing(files, directories)


def _walk(root: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    def fail(error: OSError) -> None:
        raise read_error("read", error.filename, error) from error

    return os.walk(root, onerror=fail)


def _is_tablespace(base: FoundBase, here: str, name: str) -> bool:
    return here == "pg_tblspc" and name.isdecimal() and int(name) in base.tablespace_files


def _file(name: str, path: Path) -> BaseFile:
    try:
        return BaseFile(name, path, path.stat().st_size)
    except OSError as exc:
        raise read_error("look at", path, exc) from exc


def _unlogged(names: list[str]) -> set[str]:
    """Returns the relations in a directory of which only the init fork is logged."""
    return {
        match[1] for name in names if (match := _RELATION.fullmatch(name)) and match[2] == "init"
    }


def _is_left_out(path: str, name: str, unlogged: set[str]) -> bool:
    if path in _LEFT_OUT or name.startswith(("pgsql_tmp", "pg_internal.init")):
        return True
    if path == "global/pg_internal.init" or _TEMPORARY.fullmatch(name):
        return True
    match = _RELATION.fullmatch(name)
    return match is not None and match[1] in unlogged and match[2] != "init"


def take_directory(base: FoundBase, listing: Listing, target: BaseTarget, threads: int) -> None:
    """Brings all files of a directory, several at a time.

    Raises:
        BackupDamaged, StoreError, StorageError: as ``BaseTarget.add_file``.
    """
    for name in listing.directories:
        target.directory(name)
    files = [file for file in listing.files if target.wants(file.name)]
    # The largest first, so that threads end together.
    files.sort(key=lambda file: -file.size)

    def take(file: BaseFile) -> None:
        target.add_file(file.name, file.path)

    for _ in in_order(threads, lambda: take, files):
        pass
    if base.label is not None:
        target.add_content(LABEL_FILE, base.label)


def take_tars(base: FoundBase, target: BaseTarget, wal: Path, threads: int) -> None:
    """Unpacks the archives of a backup, several at a time; WAL among its files goes to ``wal``.

    Raises:
        BackupDamaged, StoreError, StorageError: as ``BaseTarget.add_stream``.
        FileDamaged: an archive is cut or damaged.
    """
    assert base.tars is not None
    archives = [("", base.tars.base)]
    archives += [(f"pg_tblspc/{oid}", path) for oid, path in sorted(base.tars.tablespaces.items())]

    def take(archive: tuple[str, Path]) -> None:
        _take_tar(*archive, target, wal)

    for _ in in_order(min(threads, len(archives)), lambda: take, archives):
        pass
    control = "global/pg_control"
    if not (target.path / control).is_file():
        raise StoreError(f"{base.tars.base}: there is no {control} in it: it was cut")


def _take_tar(prefix: str, path: Path, target: BaseTarget, wal: Path) -> None:
    target.directory(prefix)
    with open_tar(path) as tar:
        for member in tar:
            below = member_name(member, path)
            name = f"{prefix}/{below}" if prefix else below
            if member.isdir() or member.issym():
                # A link is a tablespace's, or pg_wal's: its content is an archive of its own.
                if below != ".":
                    target.directory(name)
            elif not member.isreg():
                raise StoreError(f"{path}: {member.name!r} is neither file, directory nor link")
            elif name.startswith(f"{WAL_DIRECTORY}/"):
                take_wal_member(name, open_member(tar, member).read, wal)
            elif target.wants(name):
                target.add_stream(name, open_member(tar, member), path)


def take_wal_member(name: str, read: Callable[[int], bytes], wal: Path) -> None:
    """Unpacks a file of WAL from an archive; whatever else is there is passed over.

    Raises:
        WriteError: it cannot be written.
    """
    parsed = parse_archived_name(Path(name).name)
    if parsed is None:
        return
    path = wal / Path(name).name
    try:
        with path.open("wb") as file:
            while piece := read(1 << 20):
                file.write(piece)
    except OSError as exc:
        raise storage_error("write", path, exc) from exc


def unpack_wal(tar: Path, wal: Path) -> None:
    """Unpacks ``pg_wal.tar`` into a directory.

    Raises:
        FileDamaged: it is cut or damaged.
        StorageError: it cannot be read, or a file not be written.
    """
    with open_tar(tar) as archive:
        for member in archive:
            if member.isreg():
                stream = open_member(archive, member)
                take_wal_member(member_name(member, tar), stream.read, wal)
