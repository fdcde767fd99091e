"""Says which records are wanted, by what stands in their headers.

``RecordMatch`` is a kernel that ``scan.py`` asks before anything of a record is kept. Its
conditions are those of pg_waldump (--rmgr, --xid, --relation, --block, --fork, --fullpage), joined
by AND; those on a block must hold for one and the same block reference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cython

if TYPE_CHECKING:
    from collections.abc import Collection

    from walstream.wal.model import RelFileLocator
    from walstream.wal.record import RecordReader
if not cython.compiled:
    from walstream.wal.layout import BKPBLOCK_HAS_IMAGE


class RecordMatch:
    """Which records are wanted; without arguments all are.

    Args:
        rmgrs: ids of resource managers, empty for all.
        xid: a transaction, None for all.
        relation, block, fork: what a block reference must name; None for any.
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
        if not cython.compiled:
            self.rmgrs = [0] * 256
        for i in range(256):
            self.rmgrs[i] = i in rmgrs
        self.any_xid = xid is None
        self.xid = xid or 0
        self.any_relation = relation is None
        self.spc, self.db, self.rel = relation or (0, 0, 0)
        self.any_block = block is None
        self.block = block or 0
        self.any_fork = fork is None
        self.fork = fork or 0
        self.by_block = not (self.any_relation and self.any_block and self.any_fork)
        self.fullpage = fullpage
        self.everything = self.any_rmgr and self.any_xid and not self.by_block and not fullpage

    def fits(self, reader: RecordReader) -> bool:
        """Returns whether a record that was read is wanted."""
        if not self.any_rmgr and not self.rmgrs[reader.rmgr]:
            return False
        if not self.any_xid and reader.xid != self.xid:
            return False
        named = not self.by_block
        image = not self.fullpage
        for i in range(reader.block_count):
            if reader.block_flags[i] & BKPBLOCK_HAS_IMAGE:
                image = True
            if (
                (self.any_fork or reader.block_fork[i] == self.fork)
                and (self.any_block or reader.block_number[i] == self.block)
                and (
                    self.any_relation
                    or (
                        reader.block_rel[i] == self.rel
                        and reader.block_db[i] == self.db
                        and reader.block_spc[i] == self.spc
                    )
                )
            ):
                named = True
        return named and image
