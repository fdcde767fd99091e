"""Where the index of a store begins: with its base backups."""

from __future__ import annotations

from collections.abc import Sequence

from walstream.app.page_service import base_pages
from walstream.index.ingest import begin_again, begin_index
from walstream.index.page_index import PageIndex
from walstream.state.cluster import base_tablespaces
from walstream.store.base_backup import BaseBackup
from walstream.store.base_directory import first_needed
from walstream.store.store import Store


def start_index(index: PageIndex, store: Store, backups: Sequence[BaseBackup]) -> None:
    """Makes an empty index ready for what follows these backups, oldest first. Blocks.

    It knows the sizes of the first; what changes them until the next ones is in WAL.

    Raises:
        StoreError: the index begins later than they need, or a manifest is malformed.
        StorageError: the manifest cannot be read, or the index not be written.
    """
    sizes = base_pages(store, backups[0]).sizes()
    start_lsn = first_needed(backups).first_needed_lsn
    begin_index(index, start_lsn, sizes.items(), base_tablespaces(backups[0]))


def start_again(index: PageIndex, store: Store, backups: Sequence[BaseBackup]) -> None:
    """Has an index go on with these backups, oldest first, where WAL before them is gone. Blocks.

    Raises:
        StoreError, StorageError: as ``start_index``.
    """
    sizes = base_pages(store, backups[0]).sizes()
    start_lsn = first_needed(backups).first_needed_lsn
    begin_again(index, start_lsn, sizes, base_tablespaces(backups[0]))
