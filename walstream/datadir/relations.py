"""Which relation files there are at an LSN, and where each of their blocks comes from.

Made from the index alone: sizes, drops, truncations, copied databases. A block is one of three: as
in the base backup, changed since (to be rebuilt), or all zeros (the fork was extended over it).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from walstream.errors import StoreError
from walstream.index.page_index import DatabaseChange, DatabaseKind, PageIndex, SizeKind
from walstream.wal.model import ForkNumber, RelFileLocator, format_lsn
from walstream.wal.relpath import GLOBAL_TABLESPACE

MAX_BLOCKS = 0xFFFFFFFF
# A database may be the copy of a copy...: so many times.
MAX_COPIES = 200


class RelationFork(NamedTuple):
    """One fork at the LSN: ``blocks`` long.

    Blocks below ``base_blocks`` are those of the fork of ``base`` in the backup, as far as that
    reaches; those in ``changed`` (ascending) are rebuilt; all others are zeros.
    """

    locator: RelFileLocator
    fork: int
    blocks: int
    base: RelFileLocator
    base_blocks: int
    changed: tuple[int, ...]


class RelationTable:
    """The relation forks of a cluster at ``at_lsn``, on top of the base backup at ``base_lsn``."""

    def __init__(self, index: PageIndex, base_lsn: int, at_lsn: int) -> None:
        self._index = index
        self._base_lsn = base_lsn
        self._at_lsn = at_lsn
        # What the index has sizes of, by (tablespace, database).
        self._known: dict[tuple[int, int], set[tuple[int, int]]] = defaultdict(set)
        for locator, fork in index.relations():
            self._known[locator[:2]].add((locator.rel_number, fork))

    def forks(self, directories: Iterable[tuple[int, int]]) -> Iterator[RelationFork]:
        """Yields the forks in these directories (tablespace, database) and of shared catalogs.

        Left out: free space maps, which WAL does not tell of and a server makes anew, and the
        contents of unlogged relations, which a server makes of their init forks when it starts.

        Raises:
            StoreError: a database is the copy of a copy, too many times.
            StorageError: the index cannot be read.
        """
        for locator, fork, blocks in self.sizes(directories):
            yield self._fork(locator, fork, blocks)

    def sizes(
        self, directories: Iterable[tuple[int, int]]
    ) -> Iterator[tuple[RelFileLocator, int, int]]:
        """Yields locator, fork and blocks of what ``forks`` yields; much cheaper.

        Raises:
            StoreError, StorageError: see ``forks``.
        """
        for spc_oid, db_oid in sorted({*directories, (GLOBAL_TABLESPACE, 0)}):
            names = self._names(spc_oid, db_oid, self._at_lsn)
            sizes: dict[tuple[int, int], int] = {}
            for rel_number, fork in names:
                if fork != ForkNumber.FSM:
                    locator = RelFileLocator(spc_oid, db_oid, rel_number)
                    size = self._index.size_at(locator, fork, self._at_lsn)
                    if size is not None:
                        sizes[rel_number, fork] = size
            for (rel_number, fork), blocks in sorted(sizes.items()):
                if fork != ForkNumber.INIT and (rel_number, ForkNumber.INIT) in sizes:
                    continue
                yield RelFileLocator(spc_oid, db_oid, rel_number), fork, blocks

    def _replaced(self, spc_oid: int, db_oid: int, upto_lsn: int) -> DatabaseChange | None:
        """Returns what made a directory anew since the base, None where its files still count."""
        newest = self._index.database_replaced(spc_oid, db_oid, upto_lsn)
        return None if newest is None or newest.end_lsn <= self._base_lsn else newest

    def _copy(self, spc_oid: int, db_oid: int, upto_lsn: int) -> DatabaseChange | None:
        """Returns the copy that made a directory what it is, None where there is none to count."""
        newest = self._replaced(spc_oid, db_oid, upto_lsn)
        return None if newest is None or newest.kind != DatabaseKind.COPY else newest

    def _names(self, spc_oid: int, db_oid: int, upto_lsn: int) -> set[tuple[int, int]]:
        names = set(self._known.get((spc_oid, db_oid), ()))
        # A copy older than the base counts too: the index has its names under the source alone.
        copy = self._index.database_replaced(spc_oid, db_oid, upto_lsn)
        for _ in range(MAX_COPIES):
            if copy is None or copy.kind != DatabaseKind.COPY:
                return names
            source = (copy.source_spc_oid, copy.source_db_oid)
            names |= self._known.get(source, set())
            copy = self._index.database_replaced(*source, copy.end_lsn - 1)
        raise StoreError(
            f"database {db_oid} is the copy of a copy, more than {MAX_COPIES} times, at "
            f"{format_lsn(upto_lsn)}"
        )

    def _fork(self, locator: RelFileLocator, fork: int, blocks: int) -> RelationFork:
        index, base_lsn = self._index, self._base_lsn
        changed: set[int] = set()
        source, lsn, limit = locator, self._at_lsn, blocks
        while True:
            replaced = self._replaced(source.spc_oid, source.db_oid, lsn)
            copy = self._copy(source.spc_oid, source.db_oid, lsn)
            floor = base_lsn if replaced is None else replaced.end_lsn
            own = limit
            # Made anew and empty (its OID was used again), it has nothing from before.
            whole = replaced is None or copy is not None
            for change in index.size_history(source, fork, lsn):
                if change.end_lsn <= floor:
                    break
                if change.kind == SizeKind.TRUNCATE:
                    own = min(own, change.blocks)
                else:
                    whole = False
                    floor = change.end_lsn
                    break
            found = index.changed_blocks(source, fork, floor, lsn)
            changed.update(block for block in found if block < limit)
            if not whole:
                return RelationFork(locator, fork, blocks, source, 0, tuple(sorted(changed)))
            limit = own
            if copy is None:
                return RelationFork(locator, fork, blocks, source, limit, tuple(sorted(changed)))
            source = RelFileLocator(copy.source_spc_oid, copy.source_db_oid, locator.rel_number)
            # Before the copy: the copy of a database from itself would not end.
            lsn = copy.end_lsn - 1
