"""The index of a store, put together from what the store has: for ``run``, and to make it again."""

from __future__ import annotations

from functools import partial

from walstream.app.page_service import base_pages
from walstream.index.ingest import Ingest, begin_index
from walstream.index.page_index import PageIndex
from walstream.segments.reader import SegmentReader
from walstream.state.cluster import base_tablespaces
from walstream.state.folder import StateFolder
from walstream.store.base_backup import BaseBackup, list_base_backups
from walstream.store.store import Store


def open_ingest(
    store: Store, index: PageIndex, backups: list[BaseBackup], source: SegmentReader
) -> Ingest:
    """Returns what brings the WAL of a store into its index, which is begun where it is empty.

    ``source`` is the caller's to close; only ingest reads with it.

    Raises:
        StoreError: the index has begun elsewhere.
        WalError, StorageError: base backup or index cannot be read, or the index not be written.
    """
    first, identity = backups[0], store.identity
    sizes = base_pages(store, first).sizes().items()
    begin_index(index, first.start_lsn, sizes, base_tablespaces(first))
    return Ingest(
        index,
        source,
        identity.version,
        identity.segment_size,
        identity.system_id,
        source.current_history,
        StateFolder(index, source, partial(list_base_backups, store.base_path), identity.version),
    )
