"""Failing redo inputs as files: the raw bytes that a child was sent, named so that they replay.

``redo-pg15-hints-20261121T204646.123456-7.request``: the major version, ``hints`` where the
cluster stamps hint bits, when (UTC), and a number. Knows files, not processes.
"""

from __future__ import annotations

import itertools
import re
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from walstream.errors import WriteError

KEEP = 100
_NAME = re.compile(r"redo-pg(\d+)(-hints)?-([\dT.]+)-(\d+)\.request")
_numbers = itertools.count(1)


def write_dump(directory: Path, data: bytes, *, version: int, stamp_hints: bool) -> Path:
    """Writes ``data`` to a new file in ``directory``; keeps the newest ``KEEP`` dumps there.

    Raises:
        StorageError: the directory or the file cannot be written.
    """
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
    hints = "-hints" if stamp_hints else ""
    path = directory / f"redo-pg{version}{hints}-{now}-{next(_numbers)}.request"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.write(data)
        names = (_NAME.fullmatch(entry.name) for entry in directory.iterdir())
        dumps = sorted((match[3], int(match[4]), match[0]) for match in names if match)
        for _, _, name in dumps[:-KEEP]:
            # Threads and processes share the directory: another may have removed it.
            with suppress(FileNotFoundError, IsADirectoryError, PermissionError):
                (directory / name).unlink()
    except OSError as exc:
        raise WriteError(f"cannot write dump {path}: {exc.strerror}", str(path)) from exc
    return path


def dump_settings(path: Path) -> tuple[int, bool] | None:
    """Returns (version, stamp_hints) from a dump's name, None where it has another name."""
    match = _NAME.fullmatch(path.name)
    return (int(match[1]), match[2] is not None) if match else None
