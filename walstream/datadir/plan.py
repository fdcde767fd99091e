"""What the data directory of a moment is made of, told before anything is written.

The state beside the pages, what a server starts from, where tablespaces go, and which relation
files there are. Refuses what cannot be had exactly.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from walstream.datadir.relations import RelationFork
from walstream.datadir.start import Identity, Start, history_content, make_start
from walstream.errors import LsnNotAvailable, SegmentMissing, StoreError
from walstream.rmgr.storage import VERSION_DIRECTORIES
from walstream.segments.names import history_file_name
from walstream.state.cluster import ClusterState, StateSource, cluster_state
from walstream.state.control import DbState
from walstream.state.transactions import XACTS_PER_PAGE
from walstream.store.backup_files import reported
from walstream.wal.model import format_lsn
from walstream.wal.relpath import RELSEG_SIZE, relation_file


class Target(NamedTuple):
    """Where to materialize.

    ``tablespaces``: path of a tablespace on the server -> directory for it here. One that is not
    named goes to ``DIRECTORY.tablespaces/OID``, never to its place on the server.
    """

    directory: Path
    tablespaces: Mapping[str, Path]
    owner: tuple[int, int] | None = None


class MomentPlan(NamedTuple):
    """What is known of a moment before anything of it is made."""

    state: ClusterState
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
    for number in range(source.backup.first_needed_lsn // size, -(-at_lsn // size)):
        if archive.find(number) is None:
            begin = max(number * size, source.backup.first_needed_lsn)
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
            raise StoreError(
                f"no tablespace lies at {path} at that moment; there are: {have}", path
            )
    beside = target.directory.with_name(target.directory.name + ".tablespaces")
    places = {
        oid: target.tablespaces.get(path, beside / str(oid)).absolute()
        for oid, path in tablespaces.items()
        if path
    }
    twice = [place for place, count in Counter(places.values()).items() if count > 1]
    if twice:
        raise StoreError(f"two tablespaces are mapped to one directory: {twice[0]}", str(twice[0]))
    for path in known:
        if Path(path) in places.values():
            raise StoreError(
                f"a tablespace is mapped to {path}, which is the original's place", path
            )
    return places


def new_system_id() -> int:
    """Returns a system identifier as initdb makes them: of the time and the process."""
    now_s, us = divmod(time.time_ns() // 1000, 1_000_000)
    return now_s << 32 | us << 12 | os.getpid() & 0xFFF


def plan_moment(
    source: StateSource,
    at_lsn: int,
    target: Target,
    db_state: DbState = DbState.IN_PRODUCTION,
) -> MomentPlan:
    """Returns the plan of the cluster after all records that end at or before an LSN. Blocks.

    ``db_state``: see ``make_start``.

    Raises:
        LsnNotAvailable, SegmentMissing: the moment cannot be had.
        StoreError: see ``tablespace_places``.
        WalError, StorageError: WAL, the index or the base backup cannot be read.
    """
    check_wal(source, at_lsn)
    state = cluster_state(source, at_lsn)
    check_statuses(state)
    archive = source.archive
    timelines = [state.timeline, archive.timeline, *(p.timeline for p in archive.history.parts)]
    identity = Identity(new_system_id(), max(timelines) + 1, int(time.time()))
    start = make_start(state, source.version, archive.segment_size, identity, db_state)
    parents = archive.path / history_file_name(state.timeline)
    with reported(parents):
        content = parents.read_bytes() if parents.exists() else b""
    history = history_content(content, state.timeline, format_lsn(state.lsn))
    places = tablespace_places(target, state.tablespaces)
    return MomentPlan(state, start, history, identity, places)


def check_statuses(state: ClusterState) -> None:
    """Checks that the statuses of all transactions are known.

    A missing page of pg_xact reads as zeros without a word: all would seem uncommitted.

    Raises:
        LsnNotAvailable: they are not.
    """
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


class SegmentFile(NamedTuple):
    """One file of at most 1 GB of a fork; block numbers are the fork's."""

    name: str
    source: str
    fork: RelationFork
    first: int
    blocks: int
    base_blocks: int
    changed: tuple[int, ...]


def segment_files(forks: Iterable[RelationFork], version: int) -> Iterator[SegmentFile]:
    """Yields the files of forks; one that is empty has an empty file."""
    directory = VERSION_DIRECTORIES[version]
    for fork in forks:
        for segment in range(max(1, -(-fork.blocks // RELSEG_SIZE))):
            first = segment * RELSEG_SIZE
            blocks = min(fork.blocks - first, RELSEG_SIZE)
            changed = fork.changed
            if fork.blocks > RELSEG_SIZE:
                changed = tuple(b for b in changed if first <= b < first + blocks)
            yield SegmentFile(
                relation_file(fork.locator, fork.fork, segment, directory),
                relation_file(fork.base, fork.fork, segment, directory),
                fork,
                first,
                blocks,
                max(0, min(fork.base_blocks - first, blocks)),
                changed,
            )
