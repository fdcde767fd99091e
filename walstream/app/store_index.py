"""The index of a store, put together from what the store has: for ``run``, and to make it again."""

from __future__ import annotations

import logging
import shutil

from walstream.app.index_start import start_again, start_index
from walstream.app.page_service import is_indexed
from walstream.errors import StoreError, WriteError
from walstream.index.ingest import Ingest
from walstream.index.page_index import FORMAT, PageIndex, stored_format
from walstream.segments.reader import SegmentReader
from walstream.state.folder import StateFolder
from walstream.store.base_backup import BaseBackup, list_base_backups
from walstream.store.base_directory import of_history
from walstream.store.store import Store

log = logging.getLogger("walstream")


def open_index(store: Store) -> tuple[PageIndex, bool]:
    """Returns the index of a store, open for writing, and whether it is made anew.

    One of an older release is removed: ingest makes it again from the base backup and WAL, while
    WAL comes in. Interrupted, that is gone on with like any other ingest.

    Raises:
        StoreError: it cannot be opened, or is of a later release.
        NoSpace: the disk is full.
        StorageError: the old one cannot be removed.
    """
    old = store.path / "index.old"
    shutil.rmtree(old, ignore_errors=True)
    try:
        return PageIndex(store.index_path), False
    except StoreError:
        stored = stored_format(store.index_path)
        if stored is None or stored >= FORMAT:
            raise
    log.warning(
        "the index is of an older release (format %d): it is made again while WAL comes in, and "
        "pages can be had as far as it has come",
        stored,
    )
    try:
        # At once, so that nobody ever takes what is left of it for an index.
        store.index_path.rename(old)
        shutil.rmtree(old)
    except OSError as exc:
        raise WriteError(f"cannot remove {old}: {exc.strerror}", str(old)) from exc
    return PageIndex(store.index_path), True


def open_ingest(
    store: Store,
    index: PageIndex,
    backups: list[BaseBackup],
    source: SegmentReader,
    *,
    again: bool = False,
) -> Ingest:
    """Returns what brings the WAL of a store into its index, which is begun where it is empty.

    ``again``: it goes on at these backups, for WAL before them is gone.
    ``source`` is the caller's to close; only ingest reads with it.

    Raises:
        StoreError: the index has begun elsewhere.
        WalError, StorageError: base backup or index cannot be read, or the index not be written.
    """
    identity = store.identity
    if again:
        start_again(index, store, backups)
    else:
        start_index(index, store, backups)

    def known() -> list[BaseBackup]:
        there = list_base_backups(store.base_path)
        return [
            backup
            for backup in of_history(there, source.current_history())
            if is_indexed(index, backup)
        ]

    return Ingest(
        index,
        source,
        identity.version,
        identity.segment_size,
        identity.system_id,
        source.current_history,
        StateFolder(index, source, known, identity.version),
    )
