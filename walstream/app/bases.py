"""Base backups of a store, beside whatever else works on it: taken, advanced, listed, checked."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import trio

from walstream.app.open import open_past
from walstream.app.prepare import server_identity, take_backup
from walstream.datadir.advance import (
    AdvancePlan,
    Unfinished,
    advance,
    find_unfinished,
    finish_named,
    plan_advance,
    remove_advance,
    source_of,
)
from walstream.datadir.materialize import Progress
from walstream.datadir.past import Past
from walstream.errors import StoreError
from walstream.index.moment import Moment, MomentText, parse_moment
from walstream.receive.hosts import with_first_that_will_do
from walstream.replication.libpq import ReplicationConnection
from walstream.segments.reader import SegmentReader
from walstream.state.cluster import StateSource
from walstream.store.backup_files import BackupFiles
from walstream.store.base_backup import BaseBackup, list_base_backups, remove_unfinished
from walstream.store.base_directory import is_of_history, lock_bases
from walstream.store.store import Store
from walstream.tasks.rate_limit import RateLimit
from walstream.wal.model import format_lsn, parse_lsn

log = logging.getLogger("walstream")


class BaseFacts(NamedTuple):
    """A base backup as it is listed. ``alive``: WAL of today's history goes on from it."""

    backup: BaseBackup
    files: int
    bytes: int
    made_s: float
    alive: bool


def list_bases(path: Path) -> list[BaseFacts]:
    """Returns the complete base backups of a store, oldest first. Blocks.

    Raises:
        StoreError: not a store, or a manifest is missing or malformed.
        WalError, StorageError: it cannot be read.
    """
    store = Store.open(path, lock=False)
    with closing(SegmentReader(store.wal_path, store.identity.segment_size)) as archive:
        history = archive.current_history()
    found = []
    for backup in list_base_backups(store.base_path):
        sizes = [size for _, size in BackupFiles(backup.path, needs_manifest=True).sizes()]
        made_s = backup.path.with_suffix(".toml").stat().st_mtime
        alive = is_of_history(backup, history)
        found.append(BaseFacts(backup, len(sizes), sum(sizes), made_s, alive))
    return found


def find_base(backups: list[BaseBackup], name: str) -> BaseBackup:
    """Returns the backup that a directory name or a start LSN names.

    Raises:
        StoreError: there is none.
    """
    for backup in backups:
        with_slash = format_lsn(backup.start_lsn)
        if name in (backup.path.name, with_slash):
            return backup
    try:
        lsn = parse_lsn(name)
    except ValueError:
        lsn = None
    for backup in backups:
        if backup.start_lsn == lsn:
            return backup
    there = ", ".join(format_lsn(backup.start_lsn) for backup in backups) or "none"
    raise StoreError(f"there is no base backup {name}: there are {there}")


@contextmanager
def making_bases(base_path: Path) -> Iterator[list[Unfinished]]:
    """Holds the lock of ``base/``, cleans up, and gives the advances that can be gone on with.

    Blocks only to begin.

    Raises:
        StoreError: somebody makes a base backup now.
        StorageError: what was left cannot be read or removed.
    """
    lock = lock_bases(base_path)
    try:
        left = []
        for one in find_unfinished(base_path):
            if finish_named(one):
                log.info("the base at %s was complete", format_lsn(one.lsn))
            elif one.identity:
                left.append(one)
            else:
                remove_advance(one.path)
        remove_unfinished(base_path)
        yield left
    finally:
        lock.release()


@asynccontextmanager
async def _making(base_path: Path) -> AsyncIterator[list[Unfinished]]:
    making = making_bases(base_path)
    left = await trio.to_thread.run_sync(making.__enter__)
    try:
        yield left
    finally:
        making.__exit__(None, None, None)


async def create_base(
    path: Path,
    conninfo: str,
    *,
    fast: bool = True,
    receive_timeout_s: float = 60.0,
    show_progress: bool = False,
) -> BaseBackup:
    """Takes another base backup of the server into a store, beside who writes to it.

    Raises:
        StoreError: not a store, or somebody makes a base backup now.
        WrongCluster, ServerRefused, ConnectionLost, ProtocolError, StorageError.

    Cancellation: what was begun is removed.
    """
    store = await trio.to_thread.run_sync(partial(Store.open, path, lock=False))
    made: list[BaseBackup] = []

    async def make(connection: ReplicationConnection) -> None:
        store.check(await server_identity(connection))
        made.append(await take_backup(connection, store, terminal=show_progress, fast=fast))

    async with _making(store.base_path):
        await with_first_that_will_do(conninfo, make, receive_timeout_s=receive_timeout_s)
    return made[0]


@dataclass(frozen=True, slots=True)
class AdvanceJob:
    """How a base is to be advanced.

    ``asked``: to where; None: what was interrupted is gone on with, else to the newest moment.
    ``say`` is told what was understood, ``planned`` once it is known how much there is to do.
    """

    asked: MomentText | None
    jobs: int
    bytes_per_second: int | None
    progress: Progress
    planned: Callable[[Progress], None]
    say: Callable[[str], None]
    sandbox: bool = True


async def advance_base(path: Path, job: AdvanceJob) -> BaseBackup:
    """Makes a base backup of a later moment from the pages of a store. No server is touched.

    Returns the one that is there already where there is one of that moment.

    Raises:
        LsnNotAvailable, SegmentMissing: there is no such moment.
        StoreError: not a store, without a base backup, or somebody makes a base backup now.
        PageError, RedoError, WalError, StorageError: see ``datadir/advance.py``.

    Cancellation: what was made stays, for the next call to go on with.
    """
    store = await trio.to_thread.run_sync(partial(Store.open, path, lock=False))
    async with (
        _making(store.base_path) as left,
        open_past(path, sandbox=job.sandbox) as past,
    ):
        plan = await _plan(past, left, store, job)
        target = plan.result
        if await trio.Path(target.path).exists():
            job.say(f"there is a base at {format_lsn(target.start_lsn)} already")
            return find_base(list(past.backups), target.path.name)
        for one in left:
            if one.identity != plan.identity:
                log.info("removing an unfinished base at %s", format_lsn(one.lsn))
                await trio.to_thread.run_sync(remove_advance, one.path)
        return await advance(
            past.pages,
            plan,
            jobs=job.jobs,
            limit=RateLimit(job.bytes_per_second),
            file_mode=await trio.to_thread.run_sync(lambda: store.file_mode),
            progress=job.progress,
            planned=job.planned,
        )


async def _plan(past: Past, left: list[Unfinished], store: Store, job: AdvanceJob) -> AdvancePlan:
    if job.asked is None:
        for one in reversed(left):
            begun = source_of(one, past.backups)
            if begun is not None:
                job.say(f"going on with the unfinished base at {format_lsn(one.lsn)}")
                source = StateSource(
                    past.pages.index, past.pages.archive, begun, past.pages.facts.version
                )
                return await _planned(source, one.lsn, store)
    moment: Moment = await past.moment(job.asked or parse_moment("latest"))
    job.say(f"moment: {moment}")
    plan = await _planned(past.source(moment.lsn), moment.lsn, store)
    if plan.restart.passed_over:
        job.say(
            f"the base will be at {format_lsn(plan.result.start_lsn)}: {plan.restart.passed_over}"
        )
    return plan


async def _planned(source: StateSource, lsn: int, store: Store) -> AdvancePlan:
    return await trio.to_thread.run_sync(plan_advance, source, lsn, store.base_path)
