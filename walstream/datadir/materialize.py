"""A data directory at a moment: everything of it, written so that a stock PostgreSQL starts on it.

Files of the base backup that no record touched are copied; of the others only the blocks that the
index names are rebuilt. What is beside the pages comes from ``state/``, what a server starts from
is made in ``start.py``. The base, WAL and index are only read.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import trio

from walstream.datadir.other_files import write_other_files
from walstream.datadir.plan import SegmentFile, Target, plan_moment, segment_files
from walstream.datadir.relations import RelationFork, RelationTable
from walstream.datadir.work import WorkDirectory
from walstream.pages.service import Block, PageService
from walstream.state.cluster import ClusterState, StateSource
from walstream.store.backup_files import BackupFiles
from walstream.store.copy_range import copy_range
from walstream.store.file_layer import storage_error
from walstream.tasks.supervise import leaves
from walstream.wal.model import BLCKSZ, format_lsn


@dataclass(slots=True)
class Progress:
    """How far a materialization is: pages rebuilt and bytes copied, of how many."""

    pages: int = 0
    pages_done: int = 0
    bytes: int = 0
    bytes_done: int = 0
    started_s: float = field(default_factory=time.monotonic)


class Materialized(NamedTuple):
    """What was made. ``tablespaces``: oid -> directory, of those outside the data directory."""

    directory: Path
    lsn: int
    timeline: int
    system_id: int
    files: int
    pages: int
    tablespaces: Mapping[int, Path]


async def materialize(
    pages: PageService,
    source: StateSource,
    at_lsn: int,
    target: Target,
    *,
    jobs: int = 2,
    progress: Progress | None = None,
    planned: Callable[[Progress], None] | None = None,
) -> Materialized:
    """Makes the data directory of the moment after all records that end at or before ``at_lsn``.

    Refuses before it writes anything where the moment cannot be had exactly.

    Args:
        pages: rebuilds pages of the same store.
        source: index, WAL and the base backup to begin with.
        at_lsn: the moment.
        target: where it goes.
        jobs: so many files at a time.
        progress: is kept up to date.
        planned: called once it is known how much there is to do.

    Raises:
        LsnNotAvailable, SegmentMissing: the moment cannot be had.
        StoreError: something is where the directory is to be, or an unfinished other one.
        PageError, RedoError, WalError: a page cannot be rebuilt.
        StorageError: a file cannot be read or written.

    Cancellation: ``DIR.partial`` stays, for the next run to go on with.
    """
    progress = progress or Progress()
    plan = await trio.to_thread.run_sync(plan_moment, source, at_lsn, target)
    forks = await trio.to_thread.run_sync(_forks, source, plan.state, at_lsn)
    identity = {
        "version": "1",
        "base": str(source.backup.path),
        "lsn": format_lsn(plan.state.lsn),
        "tablespaces": repr(sorted((oid, str(p)) for oid, p in plan.tablespaces.items())),
    }
    work = await trio.to_thread.run_sync(
        WorkDirectory, target.directory.absolute(), identity, plan.tablespaces, target.owner
    )
    files = list(segment_files(forks, source.version))
    for file in files:
        if not work.has(file.name):
            progress.pages += len(file.changed)
            progress.bytes += file.base_blocks * BLCKSZ
    if planned is not None:
        planned(progress)
    await _relation_files(pages, plan.state.files, at_lsn, work, files, jobs, progress)
    count = await trio.to_thread.run_sync(write_other_files, source, plan, work)
    await trio.to_thread.run_sync(work.finish)
    return Materialized(
        work.target,
        plan.state.lsn,
        plan.identity.timeline,
        plan.identity.system_id,
        count + len(files),
        progress.pages_done,
        plan.tablespaces,
    )


def _forks(source: StateSource, state: ClusterState, at_lsn: int) -> list[RelationFork]:
    table = RelationTable(source.index, source.backup.start_lsn, at_lsn)
    return list(table.forks(state.directories))


async def _relation_files(
    pages: PageService,
    base: BackupFiles,
    at_lsn: int,
    work: WorkDirectory,
    files: Sequence[SegmentFile],
    jobs: int,
    progress: Progress,
) -> None:
    waiting = iter(files)

    async def make_files() -> None:
        for file in waiting:
            if not await trio.to_thread.run_sync(work.has, file.name):
                await _make_file(pages, base, at_lsn, work, file, progress)

    try:
        async with trio.open_nursery() as nursery:
            for _ in range(jobs):
                nursery.start_soon(make_files)
    except ExceptionGroup as group:
        raise leaves(group)[0] from group


async def _make_file(
    pages: PageService,
    base: BackupFiles,
    at_lsn: int,
    work: WorkDirectory,
    file: SegmentFile,
    progress: Progress,
) -> None:
    fd = await trio.to_thread.run_sync(_begin_file, base, work, file)
    try:
        progress.bytes_done += file.base_blocks * BLCKSZ
        locator, fork = file.fork.locator, file.fork.fork
        if file.changed:
            async with pages.get_pages(locator, fork, file.changed, at_lsn) as batches:
                async for blocks in batches:
                    await trio.to_thread.run_sync(_write_pages, fd, work, file, blocks)
                    progress.pages_done += len(blocks)
    finally:
        os.close(fd)
    await trio.to_thread.run_sync(work.done, file.name, file.blocks * BLCKSZ)


def _begin_file(base: BackupFiles, work: WorkDirectory, file: SegmentFile) -> int:
    """Returns the descriptor of a file of the right length that has what the base has."""
    # What was made since the backup, such as a visibility map, has no file in it.
    in_base = file.base_blocks > 0 and base.has(file.source)
    if in_base:
        # Most of its blocks are copied as they are: nobody looks at them again.
        base.prove(file.source)
    fd = work.open(file.name)
    try:
        if in_base:
            copy_range(base.path / file.source, fd, file.base_blocks * BLCKSZ)
        os.ftruncate(fd, file.blocks * BLCKSZ)
    except OSError as exc:
        os.close(fd)
        raise storage_error("write", work.place(file.name), exc) from exc
    except BaseException:
        os.close(fd)
        raise
    return fd


def _write_pages(fd: int, work: WorkDirectory, file: SegmentFile, blocks: Sequence[Block]) -> None:
    """Writes pages to their places; raises why there is none where one could not be rebuilt."""
    try:
        at = 0
        while at < len(blocks):
            # Neighbours go out in one write.
            first = blocks[at].number
            found: list[bytes] = []
            while at < len(blocks) and blocks[at].number == first + len(found):
                found.append(blocks[at].rebuilt())
                at += 1
            data = memoryview(b"".join(found))
            offset = (first - file.first) * BLCKSZ
            while data:
                size = os.pwrite(fd, data, offset)
                data, offset = data[size:], offset + size
    except OSError as exc:
        raise storage_error("write", work.place(file.name), exc) from exc


def default_jobs() -> int:
    """Returns how many files are made at a time: as many as there are CPUs, at most 8."""
    return min(8, max(1, math.floor(os.cpu_count() or 1)))
