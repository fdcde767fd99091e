"""What a base backup says of itself beside its files: ``backup_label``, ``.backup``. Pure.

Lines ``KEY: VALUE`` (xlogbackup.c). The label lies in the backup and says where it began; the
backup history file lies in the archive and says where it ended as well.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from walstream.errors import StoreError
from walstream.wal.model import format_lsn, parse_lsn

LABEL_FILE = "backup_label"
TABLESPACE_MAP = "tablespace_map"

_LSN = r"([0-9A-F]{1,8}/[0-9A-F]{1,8})"
_START = re.compile(rf"^START WAL LOCATION: {_LSN}", re.MULTILINE)
_STOP = re.compile(rf"^STOP WAL LOCATION: {_LSN}", re.MULTILINE)
_CHECKPOINT = re.compile(rf"^CHECKPOINT LOCATION: {_LSN}", re.MULTILINE)
_TIMELINE = re.compile(r"^START TIMELINE: ([0-9]+)", re.MULTILINE)
_STANDBY = re.compile(r"^BACKUP FROM: standby", re.MULTILINE)
_INCREMENTAL = re.compile(rf"^INCREMENTAL FROM LSN: {_LSN}", re.MULTILINE)
# A backslash escapes a line end in a path.
_MAPPED = re.compile(r"([0-9]+) ((?:[^\\\n\r]|\\.)+)", re.DOTALL)


class BackupLabel(NamedTuple):
    """Where a backup began. ``from_standby``: its end is the least recovery point of its files."""

    start_lsn: int
    checkpoint_lsn: int
    timeline: int
    from_standby: bool


def parse_label(content: bytes, where: str) -> BackupLabel:
    """Returns what a ``backup_label`` says; ``where`` is told of.

    Raises:
        StoreError: it is not one, or of an incremental backup.
    """
    text = content.decode("utf-8", "replace")
    start, checkpoint, timeline = (
        pattern.search(text) for pattern in (_START, _CHECKPOINT, _TIMELINE)
    )
    if start is None or checkpoint is None or timeline is None:
        raise StoreError(f"{where}: no start, checkpoint or timeline of a backup in it")
    incremental = _INCREMENTAL.search(text)
    if incremental is not None:
        raise StoreError(
            f"{where}: an incremental backup, from {incremental[1]} on: "
            "make it whole with pg_combinebackup first"
        )
    return BackupLabel(
        parse_lsn(start[1]),
        parse_lsn(checkpoint[1]),
        int(timeline[1]),
        _STANDBY.search(text) is not None,
    )


def stop_of_history(content: bytes, start_lsn: int) -> int | None:
    """Returns where the backup that began at ``start_lsn`` ended, by a backup history file.

    None where the file is of another one.
    """
    text = content.decode("utf-8", "replace")
    start, stop = _START.search(text), _STOP.search(text)
    if start is None or stop is None or parse_lsn(start[1]) != start_lsn:
        return None
    return parse_lsn(stop[1])


def backup_history_name(timeline: int, start_lsn: int, segment_size: int) -> str:
    """Returns the name of a backup's history file (BackupHistoryFileName)."""
    per_id = (1 << 32) // segment_size
    number, offset = divmod(start_lsn, segment_size)
    return f"{timeline:08X}{number // per_id:08X}{number % per_id:08X}.{offset:08X}.backup"


def parse_tablespace_map(content: bytes, where: str) -> dict[int, str]:
    """Returns the paths of tablespaces on the server, by oid, that a ``tablespace_map`` tells.

    Raises:
        StoreError: a line is not ``OID PATH``.
    """
    found = {}
    text = content.decode("utf-8", "surrogateescape")
    at = 0
    while at < len(text):
        match = _MAPPED.match(text, at)
        if match is None:
            raise StoreError(f"{where}: expected an oid and a path, got {text[at : at + 40]!r}")
        found[int(match[1])] = re.sub(r"\\(.)", r"\1", match[2], flags=re.DOTALL)
        at = match.end()
        while at < len(text) and text[at] in "\r\n":
            at += 1
    return found


def no_end(where: str, start_lsn: int) -> StoreError:
    """Returns the error for a backup whose end nothing tells."""
    return StoreError(
        f"{where}: nothing tells where the backup that began at {format_lsn(start_lsn)} ended: "
        "it has no manifest, and neither its backup history file nor the WAL record of its end is "
        "among the WAL; give that with --wal"
    )
