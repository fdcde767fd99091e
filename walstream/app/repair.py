"""Repairs a page of a stopped cluster from a store."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import trio

from walstream.app.open import find_lsn, find_relation, open_past
from walstream.datadir.past import Past
from walstream.datadir.repair import Finding, PageState, StoppedCluster
from walstream.errors import LsnNotAvailable, StoreError
from walstream.index.moment import MomentText
from walstream.store.store import Store
from walstream.wal.model import BufferTag, RelFileLocator, format_lsn

# A relation and its fork; and how REL, --fork and BLOCK become the block.
Place = tuple[RelFileLocator, int]


async def repair_page(
    directory: Path,
    store: Path,
    relation: Place | str,
    tag_of: Callable[[Place], BufferTag],
    asked: MomentText | None = None,
    *,
    apply: bool = False,
) -> tuple[Finding, int]:
    """Compares a page of a stopped cluster with the rebuilt one; with ``apply`` replaces it.

    Args:
        directory: the data directory.
        store: has the cluster's WAL.
        relation: its place, or its name ``[db.]schema.name``.
        tag_of: makes the block of the relation's place.
        asked: the moment, default the end of the cluster's WAL.
        apply: writes.

    Returns:
        What was found, and the LSN as of which the page was rebuilt.

    Raises:
        WrongCluster, StoreError: it is not the store's cluster, or not to be repaired.
        LsnNotAvailable: the store has not all of the cluster's WAL.
        NameNotFound: no such relation.
        PageError, RedoError, WalError: the page cannot be rebuilt.
        StorageError: something cannot be read or written.

    Cancellation: waits for a write that has begun.
    """
    identity = (await trio.to_thread.run_sync(partial(Store.open, store, lock=False))).identity
    async with open_past(store) as past:
        cluster = await trio.to_thread.run_sync(
            StoppedCluster, directory, identity.system_id, past.pages.archive.history
        )
        at_lsn = await _moment(past, cluster, asked, store)
        place = (
            await find_relation(past, relation, at_lsn) if isinstance(relation, str) else relation
        )
        tag = tag_of(place)
        await trio.to_thread.run_sync(cluster.file_of, tag)
        await trio.to_thread.run_sync(_check_unchanged, past, tag, at_lsn, cluster.end_lsn)
        page = await past.pages.get_page(tag, at_lsn)
        finding = await trio.to_thread.run_sync(cluster.find, tag, page, at_lsn)
        if finding.state is PageState.NEWER:
            raise StoreError(f"{finding.path} block {tag.block} is newer: {finding.reason}")
        if apply and finding.state.is_repairable:
            finding = await trio.to_thread.run_sync(cluster.write, finding)
        return finding, at_lsn


async def _moment(
    past: Past, cluster: StoppedCluster, asked: MomentText | None, store: Path
) -> int:
    """Returns the LSN of the page: of what was asked for, at most the end of the cluster's WAL."""
    end = cluster.end_lsn
    known = past.pages.last_valid_lsn
    if known < end:
        raise LsnNotAvailable(
            f"{cluster.path} was shut down at {format_lsn(end)}, the store has WAL up to "
            f"{format_lsn(known)}: take the rest with walstream import {store} --wal "
            f"{cluster.path / 'pg_wal'}"
        )
    lsn = await find_lsn(past, asked)
    return end if lsn is None else min(lsn, end)


def _check_unchanged(past: Past, tag: BufferTag, at_lsn: int, end_lsn: int) -> None:
    """Raises StoreError where a record changed the block behind the moment that was asked for."""
    newest = next(iter(past.pages.index.entries(tag, end_lsn)), None)
    if newest is not None and newest.end_lsn > at_lsn:
        raise StoreError(
            f"the record that ends at {format_lsn(newest.end_lsn)} changed the block after "
            f"{format_lsn(at_lsn)}: a page of then does not go with the other files"
        )
