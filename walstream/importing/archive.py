"""The WAL files in a directory of another tool: which there are, and what each is.

Looks for names below a path, at any depth, since archives hash segments into directories. Nothing
is read but the lists that tools keep beside their files, and the beginnings of files whose names
do not say what they are packed with.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from walstream.errors import NoWalFound, ReadError
from walstream.importing.barman import WAL_LIST, listed_wal
from walstream.importing.names import ArchivedName, parse_archived_name
from walstream.importing.packing import first_bytes, packing_of
from walstream.segments.files import read_error
from walstream.segments.header import read_long_header
from walstream.wal.segment import is_valid_segment_size

PGBACKREST_INFO = "archive.info"
_CLUSTER = re.compile(r"([0-9]+)=(\{.*\})")


class ArchivedFile(NamedTuple):
    """A file of an archive.

    ``packing`` is the suffix of what it is packed with, "" for a plain file. ``linkable``: nobody
    writes to it any more, so that a second name for it is as good as a copy.
    """

    path: Path
    name: ArchivedName
    packing: str
    linkable: bool


class Found(NamedTuple):
    """What is below a path: its WAL files, and those that a list says should be there."""

    files: list[ArchivedFile]
    listed: frozenset[str]


def find_archived(path: Path, system_id: int, segment_size: int, *, linkable: bool) -> Found:
    """Returns the WAL files below an archive's directory, in the order of their names.

    Of a Barman server's directory those in ``wals`` and ``streaming``; of a pgBackRest archive with
    several clusters those of the cluster ``system_id``.

    Raises:
        NoWalFound: there is none.
        ReadError: a directory or list cannot be read.
    """
    places = [path]
    if (path / "wals").is_dir() and (path / "base").is_dir():
        places = [path / "wals", *([path / "streaming"] if (path / "streaming").is_dir() else [])]
    files: list[ArchivedFile] = []
    listed: set[str] = set()
    for place in places:
        for directory, names in _walk(place, system_id):
            for name in names:
                parsed = parse_archived_name(name)
                if parsed is not None:
                    files.append(
                        _archived(Path(directory, name), parsed, segment_size, linkable=linkable)
                    )
            if WAL_LIST in names:
                listed.update(_listed(Path(directory, WAL_LIST)))
    if not files:
        raise NoWalFound(f"could not find any WAL file in {path}", str(path))
    files.sort(key=lambda file: (file.name, str(file.path)))
    return Found(files, frozenset(listed))


def find_live(path: Path, segment_size: int) -> list[ArchivedFile]:
    """Returns the WAL files of a ``pg_wal`` directory, without what is there for later.

    A server makes segments ahead, of zeros or of old ones; their first page says so.

    Raises:
        ReadError: the directory or a segment cannot be read.
    """
    found = []
    try:
        with os.scandir(path) as entries:
            names = [entry.name for entry in entries if entry.is_file()]
    except OSError as exc:
        raise read_error("read", path, exc) from exc
    for name in sorted(names):
        parsed = parse_archived_name(name)
        if parsed is None:
            continue
        file = _archived(path / name, parsed, segment_size, linkable=False)
        if not parsed.is_segment or file.packing or _in_place(file, segment_size):
            found.append(file)
    return found


def _in_place(file: ArchivedFile, segment_size: int) -> bool:
    header = read_long_header(first_bytes(file.path))
    return header is not None and header.page_lsn == segment_lsn(file.name.stem, segment_size)


def segment_lsn(stem: str, segment_size: int) -> int:
    """Returns where the segment of that name begins."""
    return (int(stem[8:16], 16) << 32) + int(stem[16:24], 16) * segment_size


def _walk(place: Path, system_id: int) -> Iterator[tuple[str, list[str]]]:
    def fail(error: OSError) -> None:
        raise read_error("read", error.filename, error) from error

    for directory, below, names in os.walk(place, onerror=fail, followlinks=True):
        if PGBACKREST_INFO in names:
            ours = _archive_ids(Path(directory, PGBACKREST_INFO), system_id)
            below[:] = [name for name in below if name in ours]
        below.sort()
        yield directory, names


def _archive_ids(path: Path, system_id: int) -> set[str]:
    """Returns the directories of a cluster's WAL by pgBackRest's ``archive.info``: ``15-1``.

    Raises:
        NoWalFound: the archive has no WAL of that cluster.
        ReadError: it cannot be read, or is encrypted.
    """
    try:
        text = path.read_text()
    except OSError as exc:
        raise read_error("read", path, exc) from exc
    except UnicodeDecodeError as exc:
        raise ReadError(
            f"{path} cannot be read: the repository is encrypted; get its WAL out with "
            "pgbackrest repo-get first",
            str(path),
        ) from exc
    ours = set()
    others = []
    for line in text.partition("[db:history]")[2].splitlines():
        match = _CLUSTER.fullmatch(line.strip())
        if match is None:
            continue
        try:
            entry = json.loads(match[2])
            number, version = int(entry["db-system-id"]), str(entry["db-version"])
        except (ValueError, KeyError, TypeError) as exc:
            raise ReadError(f"{path}: malformed: {exc}", str(path)) from exc
        if number == system_id:
            ours.add(f"{version}-{match[1]}")
        else:
            others.append(number)
    if not ours:
        raise NoWalFound(
            f"{path}: no WAL of the cluster with system identifier {system_id}, only of "
            f"{', '.join(map(str, others)) or 'none'}",
            str(path),
        )
    return ours


def _listed(path: Path) -> Iterator[str]:
    try:
        yield from listed_wal(path.read_text(errors="replace"))
    except OSError as exc:
        raise read_error("read", path, exc) from exc


def _archived(path: Path, name: ArchivedName, segment_size: int, *, linkable: bool) -> ArchivedFile:
    packing = name.packing
    if not packing:
        # Barman's names do not say; nothing that is packed has the size of a segment.
        try:
            size = path.stat().st_size
        except OSError as exc:
            raise read_error("look at", path, exc) from exc
        if not (name.is_segment and (size == segment_size or is_valid_segment_size(size))):
            packing = packing_of(first_bytes(path))
    return ArchivedFile(path, name, packing, linkable)
