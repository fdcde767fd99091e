"""The page service of an opened store, put together from what the store has."""

from __future__ import annotations

from walstream.errors import StoreError
from walstream.index.branch import branch_end
from walstream.index.page_index import MAX_LSN, PageIndex
from walstream.pages.service import Base, ClusterFacts, PageService
from walstream.redo.manager import RedoManager
from walstream.segments.reader import SegmentReader
from walstream.store.base_backup import BaseBackup
from walstream.store.base_backup_pages import BasePages
from walstream.store.removed import answerable, read_removed
from walstream.store.store import Store
from walstream.tasks.watermark import Watermark
from walstream.wal.model import format_lsn


def base_pages(store: Store, backup: BaseBackup) -> BasePages:
    """Returns the pages of a backup of a store."""
    return BasePages(backup.path, checksums=store.identity.checksums, needs_manifest=True)


def base_of(store: Store, backup: BaseBackup) -> Base:
    """Returns a backup of a store as pages start from it."""
    return Base(backup.start_lsn, backup.stop_lsn, base_pages(store, backup))


def is_indexed(index: PageIndex, backup: BaseBackup) -> bool:
    """Whether the index has all that happened since a backup.

    Of one that is before its beginning it has not: there is a hole in WAL behind it.
    """
    return backup.first_needed_lsn >= int(index.meta("start_lsn") or 0)


def indexed_backups(index: PageIndex, backups: list[BaseBackup]) -> list[BaseBackup]:
    """Returns the backups that pages may start from: those that the index begins at or before.

    Raises:
        StoreError: there is none.
    """
    found = [backup for backup in backups if is_indexed(index, backup)]
    if not found:
        raise StoreError(
            f"the index begins at {format_lsn(int(index.meta('start_lsn') or 0))}, behind every "
            "base backup of the store: run walstream reindex"
        )
    return found


def page_service(
    store: Store,
    index: PageIndex,
    redo: RedoManager,
    backups: list[BaseBackup],
    archive: SegmentReader,
    last_valid: Watermark | None = None,
) -> PageService:
    """Returns the page service of an opened store; ``archive`` is the caller's to close.

    ``last_valid``: of the ingest in this process, which takes the index back itself where the
    server has left what was indexed.

    Raises:
        StoreError: the base backup is of a branch that the server has left.
        WalError, StorageError: index or history cannot be read.
    """
    identity = store.identity
    left = branch_end(index, archive.current_history()) if last_valid is None else None
    if left is not None:
        index.check_branch(left)
    return PageService(
        index,
        archive,
        [base_of(store, backup) for backup in backups],
        ClusterFacts(identity.version, identity.stamp_hints, identity.checksums),
        redo,
        last_valid,
        MAX_LSN if left is None else left,
        answerable(backups, read_removed(store.wal_path)),
    )
