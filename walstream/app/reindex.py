"""Makes the index of a store again, from its base backup and WAL."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from walstream.app.store_index import open_ingest
from walstream.errors import StoreError, WriteError
from walstream.index.ingest import Ingest
from walstream.index.page_index import PageIndex
from walstream.index.parallel import WalFiles, ingest_parts
from walstream.segments.reader import SegmentReader
from walstream.store.base_backup import BaseBackup, list_base_backups
from walstream.store.base_directory import first_needed, of_history
from walstream.store.leases import Lease
from walstream.store.removed import RemovedWal, read_removed, without
from walstream.store.store import Store


def reindex(path: Path, report: Callable[[int, int], None]) -> int:
    """Makes the index of a store again; returns the end of the newest record. Blocks.

    ``report(done, total)`` is called as it goes, in bytes of WAL.

    Raises:
        StoreError: not a store, in use, or without a base backup.
        WalError: WAL is damaged before its end, or the segments behind the newest base backup are
            missing. The old index stays.
        StorageError: WAL cannot be read, or the index not be written or put in its place.
    """
    with Store.open(path) as store, Lease(store.path):
        backups = list_base_backups(store.base_path)
        if not backups:
            raise StoreError(
                f"store {path} has no base backup: let walstream run finish one", str(path)
            )
        fresh = store.path / "index.new"
        shutil.rmtree(fresh, ignore_errors=True)
        try:
            with (
                closing(SegmentReader(store.wal_path, store.identity.segment_size)) as archive,
                closing(PageIndex(fresh)) as index,
            ):
                end = _index_all(store, backups, archive, index, report)
            replace_directory(fresh, store.index_path)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        return end


def _index_all(
    store: Store,
    backups: list[BaseBackup],
    archive: SegmentReader,
    index: PageIndex,
    report: Callable[[int, int], None],
) -> int:
    """Indexes all WAL that moments are made from; returns the end of the newest record."""
    backups = of_history(backups, archive.current_history())
    stretches = stretches_to_index(archive, backups, read_removed(store.wal_path))
    lengths = [end_lsn - first_needed(begin).first_needed_lsn for begin, end_lsn in stretches]

    def report_stretch(before: int, done: int) -> None:
        report(before + done, sum(lengths))

    end = 0
    for number, (begin, end_lsn) in enumerate(stretches):
        ingest = open_ingest(store, index, begin, archive, again=number > 0)
        before = sum(lengths[:number])
        _index_stretch(store, ingest, end_lsn, partial(report_stretch, before))
        end = ingest.last_record_end
    return end


def _index_stretch(
    store: Store, ingest: Ingest, end_lsn: int, report: Callable[[int], None]
) -> None:
    """Indexes WAL from where the index ends, as far as it can be read."""
    identity = store.identity
    start = ingest.read_lsn
    ingest_parts(
        ingest,
        WalFiles(store.wal_path, identity.segment_size, identity.version, identity.system_id),
        end_lsn,
        len(os.sched_getaffinity(0)),
        lambda lsn: report(lsn - start),
    )
    while ingest.read_lsn < end_lsn and ingest.end_of_wal is None:
        ingest.advance(end_lsn)
        report(ingest.read_lsn - start)


def stretches_to_index(
    archive: SegmentReader, backups: Sequence[BaseBackup], removed: Sequence[RemovedWal]
) -> list[tuple[list[BaseBackup], int]]:
    """Returns the stretches of WAL to index: the base backups each begins at, and where it ends.

    One, all WAL that there is from the oldest backup on, where no segment is missing. Where gc took
    WAL away (``removed``) a stretch ends, and the next with a base backup of its own begins. A hole
    that it did not make has the index begin behind it: what is behind a hole is of no use to what
    is before it, and nobody knows which moments it took. So the last stretch with a base backup
    counts, and those before it as far as gc alone parts them from it. Where no stretch has one, all
    from the oldest backup on.

    Raises:
        StorageError: the directory of WAL cannot be read.
        WalError: the history file of the newest timeline is malformed.
    """
    size = archive.segment_size
    found: list[tuple[list[BaseBackup], int]] = []
    joined: list[tuple[list[BaseBackup], int]] = []
    before = 0
    for begin, end in _runs(archive.source.numbers()):
        if without([RemovedWal(before * size, begin * size)], removed):
            joined = []
        before = end
        fitting = [
            backup
            for backup in backups
            if backup.first_needed_lsn >= begin * size and backup.stop_lsn <= end * size
        ]
        if fitting:
            joined.append((fitting, end * size))
            found = joined
    return found or [(list(backups), archive.end_lsn())]


def _runs(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yields ``[begin, end)`` of ascending numbers that follow each other."""
    begin = end = -1
    for number in numbers:
        if number != end:
            if begin != end:
                yield begin, end
            begin = number
        end = number + 1
    if begin != end:
        yield begin, end


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
