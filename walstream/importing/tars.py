"""Base backups as tar archives: ``base.tar``, ``OID.tar`` of tablespaces, ``pg_wal.tar``.

As ``pg_basebackup -Ft`` writes them, plain or packed with gzip, lz4 or zstd. They are read in one
pass from front to end: packed ones cannot be sought in, and may be large.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from walstream.errors import FileDamaged, StoreError
from walstream.importing.packing import KEPT, open_packed
from walstream.segments.files import read_error
from walstream.store.manifest import MANIFEST

_TAR = re.compile(r"(base|pg_wal|[1-9][0-9]*)\.(tar|tgz)(\.gz|\.lz4|\.zst|\.bz2|\.xz)?")
_LARGEST_SMALL = 1 << 20


class TarParts(NamedTuple):
    """The archives of one backup; ``tablespaces`` by oid."""

    base: Path
    tablespaces: dict[int, Path]
    wal: Path | None
    manifest: Path | None


def find_tars(path: Path) -> TarParts | None:
    """Returns the archives of the backup in a directory, or whose ``base.tar`` the path is.

    Raises:
        ReadError: the directory cannot be read.
    """
    directory = path if path.is_dir() else path.parent
    try:
        names = sorted(each.name for each in directory.iterdir() if each.is_file())
    except OSError as exc:
        raise read_error("read", directory, exc) from exc
    found: dict[str, Path] = {}
    for name in names:
        match = _TAR.fullmatch(name)
        if match is not None:
            found.setdefault(match[1], directory / name)
    base = found.pop("base", None) if path.is_dir() else path
    if base is None or (not path.is_dir() and _TAR.fullmatch(path.name) is None):
        return None
    wal = found.pop("pg_wal", None)
    manifest = directory / MANIFEST
    return TarParts(
        base,
        {int(name): place for name, place in found.items() if name.isdecimal()},
        wal,
        manifest if manifest.is_file() else None,
    )


@contextmanager
def open_tar(path: Path) -> Iterator[tarfile.TarFile]:
    """A tar archive, to be read in order.

    Raises:
        ReadError: it cannot be read.
        FileDamaged: it is cut, damaged, or no tar archive.
    """
    packing = ".gz" if path.name.endswith(".tgz") else path.suffix
    packing = packing if packing in (*KEPT, ".bz2", ".xz") else ""
    try:
        with (
            open_packed(path, packing) as stream,
            tarfile.open(fileobj=stream, mode="r:" if not packing else "r|") as tar,
        ):
            yield tar
    except (tarfile.TarError, EOFError) as exc:
        raise FileDamaged(f"could not read {path}: {exc}", str(path)) from exc
    except OSError as exc:
        # What is written meanwhile has an error of its own.
        raise read_error("read", path, exc) from exc


def member_name(member: tarfile.TarInfo, where: Path) -> str:
    """Returns the path of a member below its archive's root.

    Raises:
        StoreError: it would lead elsewhere.
    """
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        raise StoreError(f"{where}: unsafe file name {member.name!r}")
    return str(path)


def open_member(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    """Returns the content of a regular file of an archive."""
    stream = tar.extractfile(member)
    assert stream is not None
    return stream


def read_members(path: Path, names: set[str]) -> dict[str, bytes]:
    """Returns the content of small files of an archive, of those that are there.

    Raises:
        ReadError, FileDamaged, StoreError: as ``open_tar`` and ``member_name``.
    """
    found: dict[str, bytes] = {}
    with open_tar(path) as tar:
        for member in tar:
            name = member_name(member, path)
            if name in names and member.isreg() and member.size <= _LARGEST_SMALL:
                found[name] = open_member(tar, member).read()
            # The control file comes last; what pg_basebackup -R adds behind is none of these.
            if name == "global/pg_control":
                break
    return found
