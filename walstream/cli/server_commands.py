"""What a server starts once a segment: its archive_command and its restore_command.

The server waits for each, and a recovery for one after the other. As a server calls them they need
no click, whose import takes longer than what they do.
"""

from __future__ import annotations

import os
from pathlib import Path

from walstream.cli.exit_codes import FAILED
from walstream.cli.output import say

SERVER_COMMANDS = ("archive-push", "restore-wal")


def run_server_command(arguments: list[str]) -> bool:
    """Runs ``archive-push STORE %p`` or ``restore-wal STORE %f %p``; returns whether it was that.

    Everything else is for click, which also says what is wrong with it: an option, the number of
    arguments, a store or a file that is not there or cannot be read.

    Raises:
        WalstreamError: see ``archive_push`` and ``restore_wal``.
        SystemExit: interrupted.
    """
    if any(word.startswith("-") for word in arguments):
        return False
    try:
        match arguments:
            case ["archive-push", store, source] if _is_store(store) and _is_file(source):
                archive_push(Path(store), Path(source))
            case ["restore-wal", store, name, target] if _is_store(store):
                restore_wal(Path(store), name, Path(target))
            case _:
                return False
    except KeyboardInterrupt:
        # As click: that a signal had killed it would be fatal to the server's archiver.
        say("\nAborted!")
        raise SystemExit(FAILED) from None
    return True


def _is_store(path: str) -> bool:
    return os.path.isdir(path) and os.access(path, os.R_OK)  # noqa: PTH112 (as given, not "." for "")


def _is_file(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.R_OK)  # noqa: PTH113 (as given)


def archive_push(store: Path, source: Path) -> None:
    """Puts a WAL file into a store or a directory of segments.

    Raises:
        WalstreamError: see ``archive_file``.
    """
    from walstream.app.wal_directory import system_id_of, wal_path
    from walstream.store.archive_push import archive_file

    archive_file(wal_path(store), source, system_id=system_id_of(store))


def restore_wal(store: Path, name: str, target: Path) -> None:
    """Puts a WAL file of a store or a directory of segments at ``target``; says what it notes.

    Raises:
        WalstreamError: see ``restore_file``.
    """
    from walstream.app.wal_directory import flushed_of, note_recovery, system_id_of, wal_path
    from walstream.store.restore_wal import restore_file

    note_recovery(store, name)
    restored = restore_file(
        wal_path(store), name, target, system_id=system_id_of(store), flushed=flushed_of(store)
    )
    for note in restored.notes:
        say(f"walstream: {note}")
