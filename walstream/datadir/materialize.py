"""A data directory at a moment: everything of it, written so that a stock PostgreSQL starts on it.

Files of the base backup that no record touched are copied; of the others only the blocks that the
index names are rebuilt. What is beside the pages comes from ``state/``, what a server starts from
is made in ``start.py``. The base, WAL and index are only read.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import trio

from walstream.datadir.configuration import AUTO_CONF, HBA, auto_conf, neutral_file
from walstream.datadir.relations import RelationFork, RelationTable
from walstream.datadir.start import Identity, Start, history_content, make_start
from walstream.datadir.work import WorkDirectory, copy_range
from walstream.errors import LsnNotAvailable, SegmentMissing, StoreError
from walstream.pages.service import PageService
from walstream.rmgr.storage import VERSION_DIRECTORIES
from walstream.segments.names import history_file_name
from walstream.state.cluster import (
    MAP_FILE,
    SHARED,
    ClusterState,
    StateSource,
    cluster_state,
)
from walstream.state.origins import encode_origins
from walstream.state.transactions import XACTS_PER_PAGE
from walstream.store.backup_files import BackupFiles, reported
from walstream.store.file_layer import storage_error
from walstream.store.manifest import MANIFEST
from walstream.tasks.supervise import leaves
from walstream.text import decode, encode
from walstream.wal.crc import crc32c
from walstream.wal.model import BLCKSZ, BufferTag, format_lsn
from walstream.wal.relpath import (
    DEFAULT_TABLESPACE,
    GLOBAL_TABLESPACE,
    RELSEG_SIZE,
    relation_file,
)

PAGES_AT_ONCE = 128

# Always there, empty where nothing of the moment belongs into them.
DIRECTORIES = (
    "base",
    "global",
    "pg_commit_ts",
    "pg_dynshmem",
    "pg_logical",
    "pg_logical/mappings",
    "pg_logical/snapshots",
    "pg_multixact",
    "pg_multixact/members",
    "pg_multixact/offsets",
    "pg_notify",
    "pg_replslot",
    "pg_serial",
    "pg_snapshots",
    "pg_stat",
    "pg_stat_tmp",
    "pg_subtrans",
    "pg_tblspc",
    "pg_twophase",
    "pg_wal",
    "pg_wal/archive_status",
    "pg_xact",
)
# Of the backup's root: what describes the backup, a running server, or a recovery.
NEVER_COPIED = {
    AUTO_CONF,
    "PG_VERSION",
    "backup_label",
    "tablespace_map",
    MANIFEST,
    "backup_label.old",
    "tablespace_map.old",
    "recovery.signal",
    "standby.signal",
    "recovery.conf",
    "postmaster.pid",
    "postmaster.opts",
    "current_logfiles",
}


@dataclass(slots=True)
class Progress:
    """How far a materialization is: pages rebuilt and bytes copied, of how many."""

    pages: int = 0
    pages_done: int = 0
    bytes: int = 0
    bytes_done: int = 0
    started_s: float = field(default_factory=time.monotonic)


class Target(NamedTuple):
    """Where to materialize.

    ``tablespaces``: path of a tablespace on the server -> directory for it here. One that is not
    named goes to ``DIRECTORY.tablespaces/OID``, never to its place on the server.
    """

    directory: Path
    tablespaces: Mapping[str, Path]
    owner: tuple[int, int] | None = None


class Materialized(NamedTuple):
    """What was made. ``tablespaces``: oid -> directory, of those outside the data directory."""

    directory: Path
    lsn: int
    timeline: int
    system_id: int
    files: int
    pages: int
    tablespaces: Mapping[int, Path]


class _Plan(NamedTuple):
    state: ClusterState
    forks: list[RelationFork]
    start: Start
    history: bytes
    identity: Identity
    tablespaces: dict[int, Path]


def check_wal(source: StateSource, at_lsn: int) -> None:
    """Checks that the WAL from the backup to the LSN is there, by its files. Blocks.

    Raises:
        SegmentMissing: a segment is missing; says up to where it is not.
    """
    archive = source.archive
    size = archive.segment_size
    for number in range(source.backup.start_lsn // size, -(-at_lsn // size)):
        if archive.find(number) is None:
            begin = max(number * size, source.backup.start_lsn)
            raise SegmentMissing(
                f"WAL from {format_lsn(begin)} on is missing in {archive.path}: "
                f"the latest moment that can be had is before {format_lsn(begin)}",
                begin,
            )


def tablespace_places(target: Target, tablespaces: Mapping[int, str]) -> dict[int, Path]:
    """Returns where each tablespace goes that is not inside the data directory.

    Raises:
        StoreError: the mapping names a path that is no tablespace's, or one directory twice.
    """
    known = {path for path in tablespaces.values() if path}
    for path in target.tablespaces:
        if path not in known:
            have = ", ".join(sorted(known)) or "none"
            raise StoreError(f"no tablespace lies at {path} at that moment; there are: {have}")
    beside = target.directory.with_name(target.directory.name + ".tablespaces")
    places = {
        oid: target.tablespaces.get(path, beside / str(oid)).absolute()
        for oid, path in tablespaces.items()
        if path
    }
    if len(set(places.values())) != len(places):
        raise StoreError("two tablespaces are mapped to one directory")
    for path in known:
        if Path(path) in places.values():
            raise StoreError(f"a tablespace is mapped to {path}, which is the original's place")
    return places


def new_system_id() -> int:
    """Returns a system identifier as initdb makes them: of the time and the process."""
    now_s, us = divmod(time.time_ns() // 1000, 1_000_000)
    return now_s << 32 | us << 12 | os.getpid() & 0xFFF


def _plan(source: StateSource, at_lsn: int, target: Target) -> _Plan:
    check_wal(source, at_lsn)
    state = cluster_state(source, at_lsn)
    _check_statuses(state)
    archive = source.archive
    timelines = [state.timeline, archive.timeline, *(p.timeline for p in archive.history.parts)]
    identity = Identity(new_system_id(), max(timelines) + 1, int(time.time()))
    table = RelationTable(source.index, source.backup.start_lsn, at_lsn)
    forks = list(table.forks(state.directories))
    start = make_start(state, source.version, archive.segment_size, identity)
    parents = archive.path / history_file_name(state.timeline)
    with reported(parents):
        content = parents.read_bytes() if parents.exists() else b""
    history = history_content(content, state.timeline, format_lsn(state.lsn))
    places = tablespace_places(target, state.tablespaces)
    return _Plan(state, forks, start, history, identity, places)


def _check_statuses(state: ClusterState) -> None:
    """A missing page of pg_xact reads as zeros without a word: all would seem uncommitted."""
    area = state.transactions.areas["pg_xact"]
    page, last = state.oldest_xid // XACTS_PER_PAGE, (state.next_xid - 1 & 0xFFFFFFFF)
    while True:
        if area.peek(page) is None:
            raise LsnNotAvailable(
                f"page {page} of pg_xact is not in the base backup and not in WAL: the statuses of "
                "its transactions cannot be told"
            )
        if page == last // XACTS_PER_PAGE:
            return
        page = (page + 1) % (1 << 32 >> 15)


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
    plan = await trio.to_thread.run_sync(_plan, source, at_lsn, target)
    identity = {
        "version": "1",
        "base": str(source.backup.path),
        "lsn": format_lsn(plan.state.lsn),
        "tablespaces": repr(sorted((oid, str(p)) for oid, p in plan.tablespaces.items())),
    }
    work = await trio.to_thread.run_sync(
        WorkDirectory, target.directory.absolute(), identity, plan.tablespaces, target.owner
    )
    files = list(_segments(plan.forks, source.version))
    for file in files:
        if not work.has(file.name):
            progress.pages += len(file.changed)
            progress.bytes += file.base_blocks * BLCKSZ
    if planned is not None:
        planned(progress)
    await _relation_files(pages, plan.state.files, at_lsn, work, files, jobs, progress)
    count = await trio.to_thread.run_sync(_other_files, source, plan, work)
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


class _SegmentFile(NamedTuple):
    """One file of at most 1 GB of a fork; block numbers are the fork's."""

    name: str
    source: str
    fork: RelationFork
    first: int
    blocks: int
    base_blocks: int
    changed: tuple[int, ...]


def _segments(forks: Sequence[RelationFork], version: int) -> Iterator[_SegmentFile]:
    directory = VERSION_DIRECTORIES[version]
    for fork in forks:
        for segment in range(max(1, -(-fork.blocks // RELSEG_SIZE))):
            first = segment * RELSEG_SIZE
            blocks = min(fork.blocks - first, RELSEG_SIZE)
            changed = fork.changed
            if fork.blocks > RELSEG_SIZE:
                changed = tuple(b for b in changed if first <= b < first + blocks)
            yield _SegmentFile(
                relation_file(fork.locator, fork.fork, segment, directory),
                relation_file(fork.base, fork.fork, segment, directory),
                fork,
                first,
                blocks,
                max(0, min(fork.base_blocks - first, blocks)),
                changed,
            )


async def _relation_files(
    pages: PageService,
    base: BackupFiles,
    at_lsn: int,
    work: WorkDirectory,
    files: Sequence[_SegmentFile],
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
    file: _SegmentFile,
    progress: Progress,
) -> None:
    fd = await trio.to_thread.run_sync(_begin_file, base, work, file)
    try:
        progress.bytes_done += file.base_blocks * BLCKSZ
        for at in range(0, len(file.changed), PAGES_AT_ONCE):
            blocks = file.changed[at : at + PAGES_AT_ONCE]
            found: list[bytes] = [b""] * len(blocks)

            async def fetch(i: int, tag: BufferTag, found: list[bytes] = found) -> None:
                found[i] = await pages.get_page(tag, at_lsn)

            async with trio.open_nursery() as nursery:
                for i, block in enumerate(blocks):
                    tag = BufferTag(*file.fork.locator, file.fork.fork, block)
                    nursery.start_soon(fetch, i, tag)
            await trio.to_thread.run_sync(_write_pages, fd, work, file, blocks, found)
            progress.pages_done += len(blocks)
    finally:
        os.close(fd)
    await trio.to_thread.run_sync(work.done, file.name, file.blocks * BLCKSZ)


def _begin_file(base: BackupFiles, work: WorkDirectory, file: _SegmentFile) -> int:
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


def _write_pages(
    fd: int, work: WorkDirectory, file: _SegmentFile, blocks: Sequence[int], pages: list[bytes]
) -> None:
    try:
        at = 0
        while at < len(blocks):
            # Neighbours go out in one write.
            end = at + 1
            while end < len(blocks) and blocks[end] == blocks[end - 1] + 1:
                end += 1
            data = memoryview(b"".join(pages[at:end]))
            offset = (blocks[at] - file.first) * BLCKSZ
            while data:
                size = os.pwrite(fd, data, offset)
                data, offset = data[size:], offset + size
            at = end
    except OSError as exc:
        raise storage_error("write", work.place(file.name), exc) from exc


def _other_files(source: StateSource, plan: _Plan, work: WorkDirectory) -> int:
    """Writes everything that is no relation file; returns how many files."""
    state, version = plan.state, source.version
    for name in DIRECTORIES:
        work.directory(name)
    if version >= 17:
        work.directory("pg_wal/summaries")
    files: dict[str, bytes] = {"PG_VERSION": f"{version}\n".encode()}
    for oid in state.tablespaces:
        if oid in plan.tablespaces:
            work.link(f"pg_tblspc/{oid}", plan.tablespaces[oid])
        else:
            work.directory(f"pg_tblspc/{oid}")
        work.directory(f"pg_tblspc/{oid}/{VERSION_DIRECTORIES[version]}")
    for key, has_version in state.directories.items():
        directory = database_directory(key, version)
        work.directory(directory)
        if has_version:
            files[f"{directory}/PG_VERSION"] = files["PG_VERSION"]
    for key, data in state.relation_maps.items():
        directory = "global" if key == SHARED else database_directory(key, version)
        files[f"{directory}/{MAP_FILE}"] = data
    files.update(state.transactions.files())
    for xid, data in state.two_phase.items():
        name = two_phase_name(xid, state.next_xid, version)
        files[f"pg_twophase/{name}"] = data + crc32c(data).to_bytes(4, "little")
    files["pg_logical/replorigin_checkpoint"] = encode_origins(state.origins)
    files.update(_configuration(version, state))
    timeline = plan.identity.timeline
    files[f"pg_wal/{history_file_name(timeline)}"] = plan.history
    for name, data in files.items():
        work.write(name, data)
    head = plan.start.segment_head
    work.write(f"pg_wal/{plan.start.segment_name}", head, source.archive.segment_size)
    count = len(files) + 2 + _root_files(state.files, work)
    # Last: without it nothing starts.
    work.write("global/pg_control", plan.start.control)
    return count


def _configuration(version: int, state: ClusterState) -> dict[str, bytes]:
    found = {"postgresql.conf": b"", "pg_hba.conf": HBA.encode(), "pg_ident.conf": b""}
    for name, _ in state.files.sizes():
        directory, _, last = name.rpartition("/")
        if not last.endswith(".conf") or name in NEVER_COPIED or "/" in directory:
            continue
        if directory in (*DIRECTORIES, "pg_log", "log"):
            continue
        text = _text(state.files, name)
        if name not in ("pg_hba.conf", "pg_ident.conf"):
            text = neutral_file(text, version, state.parameters)
        found[name] = encode(text)
    text = _text(state.files, AUTO_CONF) if state.files.has(AUTO_CONF) else ""
    text = auto_conf(text, version, state.parameters)
    found[AUTO_CONF] = encode(text)
    return found


def _text(files: BackupFiles, name: str) -> str:
    return decode(files.read(name))


def _root_files(files: BackupFiles, work: WorkDirectory) -> int:
    """Copies what else lies in the backup's root, but for its configuration; returns how many."""
    count = 0
    for name, _ in files.sizes():
        if "/" not in name and name not in NEVER_COPIED and not name.endswith(".conf"):
            files.prove(name)
            work.copy(files.path / name, name)
            count += 1
    return count


def database_directory(key: tuple[int, int], version: int) -> str:
    """Returns the path of a database's directory in a tablespace."""
    spc_oid, db_oid = key
    assert spc_oid != GLOBAL_TABLESPACE
    if spc_oid == DEFAULT_TABLESPACE:
        return f"base/{db_oid}"
    return f"pg_tblspc/{spc_oid}/{VERSION_DIRECTORIES[version]}/{db_oid}"


def two_phase_name(xid: int, next_xid: int, version: int) -> str:
    """Returns the name of a two-phase state file: from 17 on with the epoch (TwoPhaseFilePath)."""
    if version < 17:
        return f"{xid:08X}"
    full = next_xid - ((next_xid - xid) & 0xFFFFFFFF)
    return f"{full:016X}"


def default_jobs() -> int:
    """Returns how many files are made at a time: as many as there are CPUs, at most 8."""
    return min(8, max(1, math.floor(os.cpu_count() or 1)))
