"""Opens a store for reading: its pages, its moments, its tables."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from datetime import tzinfo
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from walstream.app.page_service import indexed_backups, page_service
from walstream.app.threads import closing_in_thread
from walstream.datadir.past import Past
from walstream.errors import (
    NameNotFound,
    StoreError,
)
from walstream.index.moment import Moment, MomentKind, MomentText, parse_moment
from walstream.index.page_index import PageIndex
from walstream.pages.service import PageService
from walstream.redo.manager import RedoConfig, RedoManager
from walstream.segments.reader import SegmentReader
from walstream.state.cluster import StateSource, cluster_state
from walstream.store.base_backup import list_base_backups
from walstream.store.base_directory import of_history
from walstream.store.leases import Lease
from walstream.store.store import Store
from walstream.tasks.supervise import open_bare_nursery
from walstream.wal.model import RelFileLocator, format_lsn

if TYPE_CHECKING:
    # With every type of value: what asks for a page starts without them.
    from walstream.rows.cluster import ClusterAt
    from walstream.rows.diff import TableDiff

log = logging.getLogger("walstream")


class StoreReader:
    """A store that is only read, and everything of it that has files open.

    Made and closed in a thread. What was opened is closed when the rest cannot be. While it is open
    a lease keeps gc from what it may read, unless the store cannot be written to.

    Raises:
        StoreError: no store, or one without a base backup; the index cannot be read now.
        WalError, StorageError: index or history cannot be read.
    """

    def __init__(self, path: Path, *, sandbox: bool) -> None:
        store = Store.open(path, lock=False)
        with ExitStack() as opened:
            # First the lease, then a look at what is there.
            self.lease = opened.enter_context(Lease(store.path))
            if not self.lease.held:
                log.debug("no lease on %s, which cannot be written to", store.path)
            backups = list_base_backups(store.base_path)
            if not backups:
                raise StoreError(
                    f"store {path} has no base backup yet: let walstream run finish one", str(path)
                )
            self.redo = RedoManager(
                RedoConfig(sandbox=sandbox, warm_spare=False, dump_directory=store.dumps_path)
            )
            index = opened.enter_context(closing(PageIndex(store.index_path, read_only=True)))
            archive = opened.enter_context(
                closing(SegmentReader(store.wal_path, store.identity.segment_size))
            )
            backups = of_history(backups, archive.current_history())
            self.backups = indexed_backups(index, backups)
            self.pages = page_service(store, index, self.redo, self.backups, archive)
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Closes the files."""
        self._opened.close()


@asynccontextmanager
async def open_reader(path: Path, sandbox: bool) -> AsyncIterator[StoreReader]:
    """Opens a store for reading, with redo processes that run while the context lasts.

    Raises:
        StoreError, StorageError, WalError: see ``StoreReader``.

    Cancellation: everything is closed; nothing is left behind.
    """
    reader = await trio.to_thread.run_sync(partial(StoreReader, path, sandbox=sandbox))
    async with closing_in_thread(reader), open_bare_nursery() as nursery:
        await nursery.start(reader.redo.run)
        yield reader
        reader.redo.shutdown()


@asynccontextmanager
async def open_pages(path: Path, *, sandbox: bool = True) -> AsyncIterator[PageService]:
    """Opens a store for reading, next to a ``walstream run`` that may write to it.

    What it sees of the index is what was there when it was opened.

    Raises:
        StoreError, WalError, StorageError: see ``StoreReader``.

    What is raised in the context leaves as it is, not in a group.

    Cancellation: the redo children are killed and reaped.
    """
    async with open_reader(path, sandbox) as reader:
        yield reader.pages


@asynccontextmanager
async def open_past(path: Path, *, sandbox: bool = True) -> AsyncIterator[Past]:
    """Opens a store for its moments, next to a ``walstream run`` that may write to it.

    Raises:
        StoreError, WalError, StorageError: see ``StoreReader``.

    Cancellation: the redo children are killed and reaped.
    """
    async with open_reader(path, sandbox) as reader:
        yield Past(reader.pages, reader.backups, reader.lease)


@dataclass(frozen=True, slots=True)
class OpenCluster:
    """A cluster as of a moment and its page service.

    ``first_source``: what is beside the pages, from the oldest backup on.
    """

    cluster: ClusterAt
    moment: Moment
    pages: PageService
    first_source: StateSource


@asynccontextmanager
async def open_cluster(
    path: Path,
    asked: MomentText,
    *,
    zone: tzinfo | None = None,
    sandbox: bool = True,
    only_then: bool = False,
) -> AsyncIterator[OpenCluster]:
    """Opens a store as of a moment: the databases, tables and rows of then.

    ``zone`` is what timestamps with time zone are printed in; None is UTC. ``only_then``: nothing
    of another moment will be asked for, so that gc may have it.

    Raises:
        StoreError: no store, or one without a base backup.
        LsnNotAvailable: the store does not have that moment.
        WalError, StorageError: what is beside the pages cannot be read.

    Cancellation: the redo children are killed and reaped.
    """
    async with open_past(path, sandbox=sandbox) as past:
        moment = await past.moment(asked)
        if only_then:
            await past.keep_only(moment.lsn)
        cluster = await _cluster_at(past, moment.lsn, zone)
        yield OpenCluster(cluster, moment, past.pages, past.source(past.backups[0].stop_lsn))


async def _cluster_at(past: Past, lsn: int, zone: tzinfo | None = None) -> ClusterAt:
    from walstream.rows.cluster import ClusterAt

    state = await trio.to_thread.run_sync(cluster_state, past.source(lsn), lsn)
    return ClusterAt(past.pages, lsn, state.transactions, state.relation_maps, zone)


async def diff_moments(
    path: Path, table: str, database: str | None, before: MomentText, after: MomentText
) -> TableDiff:
    """Returns what changed in a table from one moment to another.

    Raises:
        NameNotFound, NoRows: there is no such table at one of them, or its columns differ.
        WalstreamError: see ``open_cluster``.

    Cancellation: as ``open_cluster``.
    """
    from walstream.rows.diff import diff_tables

    async with (
        open_cluster(path, before, only_then=True) as old,
        open_cluster(path, after, only_then=True) as new,
    ):
        first = await old.cluster.table(table, database)
        second = await new.cluster.table(table, database)
        return await diff_tables(first, second)


async def find_lsn(past: Past, asked: MomentText | None) -> int | None:
    """Returns the LSN of a moment; one that was given stays as it is, None is the newest.

    Raises:
        LsnNotAvailable: there is no such moment, or it cannot be had.
        WalError, StorageError: the index or WAL cannot be read.

    Cancellation: nothing is left behind.
    """
    if asked is None or asked.kind == MomentKind.LSN:
        return None if asked is None else asked.value
    return (await past.moment(asked)).lsn


async def find_relation(past: Past, name: str, at_lsn: int | None) -> tuple[RelFileLocator, int]:
    """Returns the file and fork of ``[db.]schema.name`` as of an LSN, default the newest.

    Raises:
        NameNotFound: no such relation then, or it has no file.
        WalstreamError: see ``open_cluster``.

    Cancellation: nothing is left behind.
    """
    asked = "latest" if at_lsn is None else format_lsn(at_lsn)
    cluster = await _cluster_at(past, (await past.moment(parse_moment(asked))).lsn)
    found = await cluster.find(name)
    locator = found.catalog.locator(found.relation)
    if locator is None:
        raise NameNotFound(f"{name} has no file of its own")
    return locator, 0
