"""What Barman keeps beside its files: ``backup.info`` of a backup, ``xlog.db`` of the WAL. Pure."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

from walstream.errors import StoreError
from walstream.importing.names import parse_archived_name
from walstream.wal.model import parse_lsn

INFO_FILE = "backup.info"
WAL_LIST = "xlog.db"
DONE = ("DONE", "WAITING_FOR_WALS")
_LINE = re.compile(r"([a-z_0-9]+)=(.*)")


class BarmanBackup(NamedTuple):
    """One ``backup.info``. ``label`` is the text of its backup_label, where that is no file.

    ``tablespaces`` maps an oid to its path on the server; its files are in a directory of that
    name beside ``data``.
    """

    status: str
    start_lsn: int
    stop_lsn: int | None
    tablespaces: dict[int, str]
    label: bytes | None


def parse_backup_info(text: str, where: str) -> BarmanBackup:
    """Returns what a ``backup.info`` says: lines ``key=value``, ``None`` for nothing.

    Raises:
        StoreError: it is malformed.
    """
    values = {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line.strip())
        if match is not None and match[2] != "None":
            values[match[1]] = match[2]
    try:
        stop = values.get("end_xlog")
        spaces = ast.literal_eval(values.get("tablespaces", "[]"))
        label = values.get("backup_label")
        return BarmanBackup(
            values["status"],
            parse_lsn(values["begin_xlog"]),
            None if stop is None else parse_lsn(stop),
            {int(oid): str(place) for _, oid, place in spaces},
            None if label is None else _unquoted(label).encode(),
        )
    except (KeyError, ValueError, TypeError, SyntaxError) as exc:
        raise StoreError(f"{where}: missing or malformed {exc}") from exc


def _unquoted(label: str) -> str:
    """Returns the label, which some releases write as a literal of Python."""
    if label[:1] in "'\"":
        return str(ast.literal_eval(label))
    return label.replace("\\n", "\n")


def listed_wal(text: str) -> Iterator[str]:
    """Yields the segments that an ``xlog.db`` lists: name, size, time and compression, by tabs."""
    for line in text.splitlines():
        name = line.split("\t")[0].strip()
        parsed = parse_archived_name(name)
        if parsed is not None and parsed.is_segment and not parsed.partial:
            yield parsed.stem
