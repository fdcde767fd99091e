"""Chooses records by their columns, before anything of them is described.

``RecordFilter`` is a kernel over ``RecordColumns``; its conditions are those of pg_waldump (--rmgr,
--xid, --relation, --block, --fork, --fullpage) and are joined by AND.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import cython

from walstream.wal.model import RelFileLocator

if TYPE_CHECKING:
    from collections.abc import Collection

    from walstream.wal.columns import RecordColumns
    from walstream.wal.scan import WalScanner

ANY = -1


class RecordFilter:
    """The rows of some columns that pass; see the module.

    Args:
        rmgrs: ids of resource managers, empty for all.
        xid: a transaction, None for all.
        relation, block, fork: what a block reference must name, all in the same reference; None
            for any.
        fullpage: only records with a page image.
    """

    def __init__(
        self,
        rmgrs: Collection[int] = (),
        xid: int | None = None,
        relation: RelFileLocator | None = None,
        block: int | None = None,
        fork: int | None = None,
        fullpage: bool = False,
    ) -> None:
        self.any_rmgr = not rmgrs
        self.wanted = array("B", [int(i in rmgrs) for i in range(256)])
        self.xid = ANY if xid is None else xid
        self.any_relation = relation is None
        spc, db, rel = relation or (0, 0, 0)
        self.spc = spc
        self.db = db
        self.rel = rel
        self.block = ANY if block is None else block
        self.fork = ANY if fork is None else fork
        self.fullpage = fullpage
        self.by_block = relation is not None or block is not None or fork is not None
        self.everything = self.any_rmgr and xid is None and not self.by_block and not fullpage

    def narrow(self, scanner: WalScanner, start_lsn: int) -> None:
        """Has a scanner leave out most records that would not pass; ``select`` finds the others."""
        scanner.only(
            start_lsn,
            None if self.any_rmgr else self.wanted,
            None if self.xid == ANY else self.xid,
            None if self.any_relation else (self.spc, self.db, self.rel),
            self.fullpage,
        )

    def select(self, columns: RecordColumns, start_lsn: int = 0) -> array[int]:
        """Returns the rows, ascending, that pass and begin at ``start_lsn`` or later."""
        rows = array("I", bytes(4 * columns.count))
        count = self.fill(
            rows, columns.count, start_lsn, columns.start_lsn, columns.xid, columns.rmgr,
            columns.block_begin, columns.blocks, columns.spc, columns.db, columns.rel,
            columns.fork, columns.block, columns.image,
        )  # fmt: skip
        return rows if count == columns.count else rows[:count]

    def fill(
        self,
        rows: array[int],
        count: int,
        start: int,
        start_lsn: array[int],
        xid: array[int],
        rmgr: array[int],
        block_begin: array[int],
        blocks: array[int],
        spc: array[int],
        db: array[int],
        rel: array[int],
        fork: array[int],
        block: array[int],
        image: array[int],
    ) -> int:
        found = 0
        for row in range(count):
            if start_lsn[row] < start:
                continue
            if not self.any_rmgr and not self.wanted[rmgr[row]]:
                continue
            if self.xid != ANY and xid[row] != self.xid:
                continue
            first = block_begin[row]
            last = first + blocks[row]
            if self.by_block:
                passed = False
                for i in range(first, last):
                    if (
                        (self.fork == ANY or fork[i] == self.fork)
                        and (self.block == ANY or block[i] == self.block)
                        and (
                            self.any_relation
                            or (rel[i] == self.rel and db[i] == self.db and spc[i] == self.spc)
                        )
                    ):
                        passed = True
                        break
                if not passed:
                    continue
            if self.fullpage:
                passed = False
                for i in range(first, last):
                    if image[i]:
                        passed = True
                        break
                if not passed:
                    continue
            rows[found] = row
            found += 1
        return found


COMPILED: bool = cython.compiled
