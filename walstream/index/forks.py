"""Which relation forks a database has at an LSN, and which databases and tablespaces there are.

The changes of a database's forks stand in WAL's order (``d``), and now and then all of its forks
in one list (``l``): as often as there were as many changes as forks. So what there is at an LSN is
the last list before it and the changes since, however much was made and dropped before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from walstream.index import keys
from walstream.index.page_index import (
    MAX_LSN,
    DatabaseKind,
    PageIndex,
    SizeKind,
)
from walstream.wal.relpath import GLOBAL_TABLESPACE

# (relation, fork) -> blocks.
Forks = dict[tuple[int, int], int]


class ForkChange(NamedTuple):
    """A size change of a fork of some database."""

    end_lsn: int
    rel_number: int
    fork: int
    kind: int
    blocks: int


def encode_changes(before: int, changes: list[ForkChange]) -> bytes:
    """Returns the value of some changes; ``before``: how many there were since the last list."""
    base = changes[0].end_lsn
    return keys.COUNT.pack(before) + b"".join(
        keys.CHANGE.pack(end_lsn - base, *rest) for end_lsn, *rest in changes
    )


def decode_changes(base: int, value: bytes) -> Iterator[ForkChange]:
    """Yields the changes of a list whose key has the LSN ``base``."""
    for step, rel_number, fork, kind, blocks in keys.CHANGE.iter_unpack(value[keys.COUNT.size :]):
        yield ForkChange(base + step, rel_number, fork, kind, blocks)


def encode_forks(forks: Forks) -> bytes:
    """Returns the value of a list of all forks."""
    return b"".join(keys.FORK.pack(*key, forks[key]) for key in sorted(forks))


def decode_forks(value: bytes) -> Forks:
    """Returns what ``encode_forks`` made a list of."""
    return {(rel, fork): blocks for rel, fork, blocks in keys.FORK.iter_unpack(value)}


def apply_changes(forks: Forks, changes: Iterable[ForkChange]) -> None:
    """Takes forks further by changes in WAL's order."""
    for _, rel_number, fork, kind, blocks in changes:
        if kind == SizeKind.DROP:
            forks.pop((rel_number, fork), None)
        else:
            forks[rel_number, fork] = blocks


def forks_at(index: PageIndex, spc_oid: int, db_oid: int, at_lsn: int = MAX_LSN) -> Forks:
    """Returns all forks of a database directory at an LSN, with their sizes.

    Raises:
        StorageError: the index cannot be read.
    """
    steps: list[tuple[int, int, int, int]] = []
    found: Forks = {}
    while True:
        replaced = index.database_replaced(spc_oid, db_oid, at_lsn)
        since = 0 if replaced is None else replaced.end_lsn
        prefix = keys.DIRECTORY_KEY.pack(b"l", spc_oid, db_oid, 0)[:-8]
        listed = next(index.scan_back(prefix, at_lsn), None)
        if listed is not None and listed[0] >= since:
            steps.append((spc_oid, db_oid, listed[0], at_lsn))
            found = decode_forks(listed[1])
            break
        steps.append((spc_oid, db_oid, since, at_lsn))
        if replaced is None or replaced.kind != DatabaseKind.COPY:
            break
        spc_oid, db_oid = replaced.source_spc_oid, replaced.source_db_oid
        # Before the copy: what a copy of a database from itself says would not end.
        at_lsn = replaced.end_lsn - 1
    for spc, db, after_lsn, upto_lsn in reversed(steps):
        apply_changes(found, changes_between(index, spc, db, after_lsn, upto_lsn))
    return found


def changes_between(
    index: PageIndex, spc_oid: int, db_oid: int, after_lsn: int, upto_lsn: int = MAX_LSN
) -> Iterator[ForkChange]:
    """Yields the size changes of a directory's forks in ``(after_lsn, upto_lsn]``, oldest first."""
    prefix = keys.DIRECTORY_KEY.pack(b"d", spc_oid, db_oid, 0)[:-8]
    for base, value in index.lists_from(prefix, after_lsn):
        if base > upto_lsn:
            return
        for change in decode_changes(base, value):
            if after_lsn < change.end_lsn <= upto_lsn:
                yield change


def tablespaces_at(index: PageIndex, at_lsn: int = MAX_LSN) -> list[int]:
    """Returns the OIDs of the tablespaces that there are at an LSN, ascending."""
    return sorted(oid for oid, _ in forks_at(index, 0, 0, at_lsn))


def databases_at(index: PageIndex, at_lsn: int = MAX_LSN) -> list[tuple[int, int]]:
    """Returns (tablespace, database) of every database directory at an LSN, ascending."""
    return [
        (spc_oid, db_oid)
        for spc_oid in tablespaces_at(index, at_lsn)
        if spc_oid != GLOBAL_TABLESPACE
        for db_oid, _ in sorted(forks_at(index, spc_oid, 0, at_lsn))
    ]


def changes_since_list(index: PageIndex, spc_oid: int, db_oid: int) -> tuple[int, int]:
    """Returns how many changes there were since a directory's last list, and its length."""
    prefix = keys.DIRECTORY_KEY.pack(b"d", spc_oid, db_oid, 0)[:-8]
    base, value = next(index.scan_back(prefix, MAX_LSN), (0, keys.COUNT.pack(0)))
    prefix = keys.DIRECTORY_KEY.pack(b"l", spc_oid, db_oid, 0)[:-8]
    listed, forks = next(index.scan_back(prefix, MAX_LSN), (0, b""))
    count = 0
    if base > listed:
        count = keys.COUNT.unpack_from(value)[0] + (len(value) - 4) // keys.CHANGE.size
    elif value[4:]:
        # The list was written with those changes.
        count = sum(1 for change in decode_changes(base, value) if change.end_lsn > listed)
    return count, len(forks) // keys.FORK.size
