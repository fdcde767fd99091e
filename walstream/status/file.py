"""The status file: a receiver's newest snapshot as JSON, replaced each second.

Both functions block: in a program of Trio, call them in a thread (``report.py`` does). The format
is described in docs/how-to/monitor.md. Imports no Trio.
"""

from __future__ import annotations

from pathlib import Path

from walstream.errors import WriteError
from walstream.status.snapshot import ReceiverStatus, from_table, to_table
from walstream.store.file_layer import free_space, replace_file
from walstream.text import to_json


def write_status(path: Path, status: ReceiverStatus) -> None:
    """Replaces the status file, atomically, without an fsync: a crash may lose it.

    Raises:
        WriteError: it cannot be written.
    """
    content = to_json(to_table(status), indent=1) + "\n"
    try:
        replace_file(path, content.encode())
    except OSError as exc:
        raise WriteError(
            f"write {path}: {exc.strerror}, {free_space(str(path))}", str(path)
        ) from exc


def read_status(path: Path) -> ReceiverStatus | None:
    """Returns what the status file says, None where there is none that can be read.

    After a power cut it may be empty.
    """
    import json  # not for every start

    try:
        return from_table(json.loads(path.read_bytes()))
    except (OSError, ValueError):
        return None
