"""Makes the index of a store again, from its base backup and WAL."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from walstream.app.store_index import open_ingest
from walstream.errors import StoreError, WriteError
from walstream.index.page_index import PageIndex
from walstream.index.parallel import WalFiles, ingest_parts
from walstream.segments.reader import SegmentReader
from walstream.store.base_backup import list_base_backups
from walstream.store.base_directory import of_history
from walstream.store.store import Store


def reindex(path: Path, report: Callable[[int, int], None]) -> int:
    """Makes the index of a store again; returns the end of the newest record. Blocks.

    ``report(done, total)`` is called as it goes, in bytes of WAL.

    Raises:
        StoreError: not a store, in use, or without a base backup.
        WalError: WAL is damaged before its end, or a segment is missing. The old index stays.
        StorageError: WAL cannot be read, or the index not be written or put in its place.
    """
    with Store.open(path) as store:
        backups = list_base_backups(store.base_path)
        if not backups:
            raise StoreError(f"store {path} has no base backup: let walstream run finish one")
        identity = store.identity
        fresh = store.path / "index.new"
        shutil.rmtree(fresh, ignore_errors=True)
        try:
            with (
                closing(SegmentReader(store.wal_path, identity.segment_size)) as archive,
                closing(PageIndex(fresh)) as index,
            ):
                end_lsn = archive.end_lsn()
                used = of_history(backups, archive.current_history())
                ingest = open_ingest(store, index, used, archive)
                start = ingest.read_lsn
                files = WalFiles(
                    store.wal_path, identity.segment_size, identity.version, identity.system_id
                )
                ingest_parts(
                    ingest,
                    files,
                    end_lsn,
                    len(os.sched_getaffinity(0)),
                    lambda lsn: report(lsn - start, end_lsn - start),
                )
                while ingest.read_lsn < end_lsn and ingest.end_of_wal is None:
                    ingest.advance(end_lsn)
                    report(ingest.read_lsn - start, end_lsn - start)
            replace_directory(fresh, store.index_path)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        return ingest.last_record_end


def replace_directory(fresh: Path, path: Path) -> None:
    """Puts ``fresh`` in the place of the directory ``path``.

    Raises:
        StorageError: the old one cannot be removed, or the new one not renamed.
    """
    try:
        if path.exists():
            shutil.rmtree(path)
        fresh.rename(path)
    except OSError as exc:
        raise WriteError(f"cannot replace {path}: {exc.strerror}", str(path)) from exc
