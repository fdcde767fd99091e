"""What a store holds and how far it is: a value, read from the store's own files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from walstream.errors import StorageError, StoreError, WalError
from walstream.index.page_index import PageIndex
from walstream.segments.files import regular_files
from walstream.status.file import read_status
from walstream.status.snapshot import ReceiverStatus, to_table
from walstream.status.window import Window, take_window, window_table
from walstream.store.base_backup import BaseBackup, list_base_backups
from walstream.store.drills import DrillReport, last_drill
from walstream.store.store import Store, StoreIdentity
from walstream.wal.model import format_lsn


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """A store at one moment.

    ``indexed_lsn``: the end of the newest record in the index; None: nothing yet, or it cannot be
    read now, which ``index_problem`` then says. ``receiver``: its status file, None without one.
    ``window``: the moments that can be had; None where there are none yet, or they cannot be told,
    which ``window_problem`` then says. ``drill``: the newest report, ``good_drill`` the newest in
    which nothing failed.
    """

    path: str
    identity: StoreIdentity
    wal_files: int
    wal_bytes: int
    base_backups: tuple[BaseBackup, ...]
    indexed_lsn: int | None
    index_problem: str | None
    receiver: ReceiverStatus | None
    window: Window | None = None
    window_problem: str | None = None
    drill: DrillReport | None = None
    good_drill: DrillReport | None = None


def store_status(path: Path) -> StoreStatus:
    """Returns what a store holds, next to whoever writes to it. Blocks.

    Raises:
        StoreError: it is no store.
        StorageError: it cannot be read.
    """
    store = Store.open(path, lock=False)
    sizes = file_sizes(store.wal_path)
    backups = tuple(list_base_backups(store.base_path))
    indexed_lsn, problem, window = _indexed(store, bool(backups))
    return StoreStatus(
        str(store.path),
        store.identity,
        len(sizes),
        sum(sizes),
        backups,
        indexed_lsn,
        problem,
        read_status(store.status_path),
        window if isinstance(window, Window) else None,
        window if isinstance(window, str) else None,
        last_drill(store.path),
        last_drill(store.path, passed=True),
    )


def _indexed(store: Store, has_base: bool) -> tuple[int | None, str | None, Window | str | None]:
    """Returns how far the index is, what is wrong with it, and what can be had or why not."""
    if not (store.index_path / "CURRENT").exists():
        return None, None, None
    try:
        index = PageIndex(store.index_path, read_only=True)
    except StoreError as error:
        # It is being made, taken back, or must be made again: the rest can be told.
        return None, str(error), None
    try:
        end = index.meta("last_record_end")
        window: Window | str | None = None
        if has_base and end is not None:
            try:
                window = take_window(store, index)
            except (StoreError, StorageError, WalError) as error:
                window = str(error)
        return None if end is None else int(end), None, window
    finally:
        index.close()


def file_sizes(directory: Path) -> list[int]:
    """Returns the size of every file there; a writer may rename them meanwhile."""
    return [size for _, size in regular_files(directory)]


def store_table(store: StoreStatus) -> dict[str, object]:
    """Returns what ``status --json`` prints. LSNs are text; sizes are bytes."""
    identity = store.identity
    table: dict[str, object] = {
        "store": store.path,
        "system_id": str(identity.system_id),
        "version": identity.version,
        "segment_size": identity.segment_size,
        "checksums": identity.checksums,
        "wal_files": store.wal_files,
        "wal_bytes": store.wal_bytes,
        "base_backups": [
            {
                "start_lsn": format_lsn(backup.start_lsn),
                "stop_lsn": format_lsn(backup.stop_lsn),
                "timeline": backup.timeline,
            }
            for backup in store.base_backups
        ],
        "indexed_to": None if store.indexed_lsn is None else format_lsn(store.indexed_lsn),
    }
    if store.index_problem is not None:
        table["index"] = store.index_problem
    if store.window is not None:
        table["window"] = window_table(store.window)
    if store.drill is not None:
        table["drill"] = store.drill.to_json()
        table["good_drill"] = store.good_drill and store.good_drill.to_json()
    if store.receiver is not None:
        table["receiver"] = to_table(store.receiver)
    return table
