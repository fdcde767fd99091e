"""Collects posting lists, fork sizes, events and times from columns of records: the hot part.

Knows the records that need no more than their block references and a few bytes of their main data.
At any other record it stops, before it has added anything of it: ``changes.py`` adds that one by
its own rules, into the same lists, and collecting goes on behind it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cython

from walstream.rmgr.rmgrlist import RMGRS

if TYPE_CHECKING:
    from array import array

    from walstream.wal.columns import RecordColumns
if not cython.compiled:
    from walstream.index.keys import (
        put_block,
        put_entry,
        put_event,
        put_event_key,
        put_size,
        put_size_key,
        put_time,
        put_time_key,
    )  # fmt: skip
    from walstream.rmgr.heap.effects import cleared_bits
    from walstream.rmgr.heap.layout import HEAPBLOCKS_PER_PAGE, OLD_BLOCK_SHIFT
    from walstream.wal.buffer import cut, put8, put_be32, put_be64, release, resize, u8, u64
    from walstream.wal.layout import (
        BKPBLOCK_WILL_INIT,
        MAIN_FORKNUM,
        RM_DBASE_ID,
        RM_HEAP2_ID,
        RM_HEAP_ID,
        RM_SMGR_ID,
        RM_TBLSPC_ID,
        RM_XACT_ID,
        RM_XLOG_ID,
        VISIBILITYMAP_FORKNUM,
        XLR_RMGR_INFO_MASK,
    )  # fmt: skip
    from walstream.wal.opcodes import (
        VISIBILITYMAP_VALID_BITS,
        XLOG_FPI,
        XLOG_FPI_FOR_HINT,
        XLOG_RESTORE_POINT,
        XLOG_XACT_ABORT,
        XLOG_XACT_ABORT_PREPARED,
        XLOG_XACT_COMMIT,
        XLOG_XACT_COMMIT_PREPARED,
        XLOG_XACT_HAS_INFO,
        XLOG_XACT_OPMASK,
    )  # fmt: skip

INIT = 1
IMPLICIT = 2
# Of the column ``image``: it is to be restored.
IMAGE_APPLY = 0x02
EXTEND = 2
COMMIT, ABORT, NO_END = 0, 1, 2
UNKNOWN = -2
MAX_BLOCKS = 0xFFFFFFFF
MAX_FORKS = 65536
HAS_RELFILELOCATORS, HAS_TWOPHASE = 0x04, 0x10


def end_of_transaction(info: int) -> int:
    """Returns COMMIT or ABORT for a Transaction record that ends one, else NO_END."""
    op = info & XLOG_XACT_OPMASK
    if op in (XLOG_XACT_COMMIT, XLOG_XACT_COMMIT_PREPARED):
        return COMMIT
    if op in (XLOG_XACT_ABORT, XLOG_XACT_ABORT_PREPARED):
        return ABORT
    return NO_END


class Posting:
    """The entries of one block in one batch, in stored form (9 bytes each, big-endian)."""

    def __init__(self) -> None:
        self.have = self.size = 0
        self.base = self.last = 0
        if not cython.compiled:
            self.p = bytearray()

    def __dealloc__(self) -> None:
        release(self.p)

    def append(self, end_lsn: int, start_lsn: int, flags: int) -> int:
        """Adds an entry, or flags to that of the same record; returns 0, -1: no memory."""
        at = self.have
        if at == 0:
            self.base = end_lsn
        elif self.last == end_lsn:
            put8(self.p, at - 1, u8(self.p, at - 1) | flags)
            return 0
        if at + 9 > self.size:
            size = 2 * self.size if at else 36
            grown = resize(self.p, size)
            if not grown:
                return -1
            self.p = grown
            self.size = size
        self.have = at + put_entry(self.p, at, self.base, end_lsn, start_lsn, flags)
        self.last = end_lsn
        return 0


class Fork:
    """The blocks of a fork now: -1 where it does not exist, UNKNOWN where nobody has asked."""

    def __init__(self, spc: int, db: int, rel: int, fork: int) -> None:
        self.spc = spc
        self.db = db
        self.rel = rel
        self.fork = fork
        self.blocks = UNKNOWN


class PostingLists:
    """What a batch of ingest adds to the index, in stored form; and the sizes of forks.

    One owner; records must come in LSN order. ``load`` some columns, then ``collect`` from row to
    row.
    """

    def __init__(self) -> None:
        self.postings: dict[bytes, Posting] = {}
        self.pairs: list[tuple[bytes, bytes]] = []
        # By database, so that one can be forgotten without a look at the others.
        self.forks: dict[int, dict[bytes, Fork]] = {}
        self.count_forks = 0
        self.absent: list[Fork] = []
        self.recent: list[Fork | None] = [None] * 64
        if not cython.compiled:
            self.key = bytearray(32)
            self.value = bytearray(16)
            self.changes_pages = bytearray(256)
        for rmgr in RMGRS:
            self.changes_pages[rmgr.id] = rmgr.changes_pages

    def take(self) -> list[tuple[bytes, bytes]]:
        """Returns keys and values of what was collected and starts anew.

        Sizes are kept, but not those of forks that are gone, and never of more than MAX_FORKS: once
        the batch is written the index knows them.
        """
        pairs = self.pairs
        for prefix, posting in self.postings.items():
            put_be64(self.key, 0, posting.base)
            pairs.append((prefix + cut(self.key, 0, 8), cut(posting.p, 0, posting.have)))
        self.postings = {}
        self.pairs = []
        if self.count_forks > MAX_FORKS:
            self.forget_all()
        elif self.absent:
            for fork in self.absent:
                if fork.blocks == -1:
                    self.forget_fork(fork)
            self.recent = [None] * 64
        self.absent = []
        return pairs

    def forget_fork(self, fork: Fork) -> None:
        of_database = self.forks.get(fork.db)
        if of_database is None:
            return
        put_be32(self.key, 0, fork.spc)
        put_be32(self.key, 4, fork.rel)
        put8(self.key, 8, fork.fork)
        if of_database.pop(cut(self.key, 0, 9), None) is not None:
            self.count_forks -= 1
        if not of_database:
            self.forks.pop(fork.db)

    # -- blocks

    def block_key(self, spc: int, db: int, rel: int, fork: int, block: int) -> bytes:
        """Returns the first 18 bytes of the keys of a block."""
        return cut(self.key, 0, put_block(self.key, spc, db, rel, fork, block))

    def add_entry(
        self,
        spc: int,
        db: int,
        rel: int,
        fork: int,
        block: int,
        end_lsn: int,
        start_lsn: int,
        flags: int,
    ) -> int:
        """Adds a record to the posting list of a block; its flags, where it is there already."""
        key = self.block_key(spc, db, rel, fork, block)
        posting = self.postings.get(key)
        if posting is None:
            posting = Posting()
            self.postings[key] = posting
        if posting.append(end_lsn, start_lsn, flags) != 0:
            raise MemoryError
        return 0

    def newest(self, spc: int, db: int, rel: int, fork: int, block: int) -> int:
        """Returns the end LSN of the last record that was added to a block, 0 for none."""
        posting = self.postings.get(self.block_key(spc, db, rel, fork, block))
        return 0 if posting is None else posting.last

    # -- sizes

    def find_fork(self, spc: int, db: int, rel: int, fork: int) -> Fork:
        slot = (rel * 4 + fork) & 63
        found = self.recent[slot]
        if (
            found is not None
            and found.rel == rel
            and found.fork == fork
            and found.db == db
            and found.spc == spc
        ):
            return found
        put_be32(self.key, 0, spc)
        put_be32(self.key, 4, rel)
        put8(self.key, 8, fork)
        key = cut(self.key, 0, 9)
        of_database = self.forks.get(db)
        if of_database is None:
            of_database = {}
            self.forks[db] = of_database
        found = of_database.get(key)
        if found is None:
            found = Fork(spc, db, rel, fork)
            of_database[key] = found
            self.count_forks += 1
        self.recent[slot] = found
        return found

    def size(self, spc: int, db: int, rel: int, fork: int) -> int:
        """Returns the blocks of a fork, -1: it does not exist, UNKNOWN: nobody has set it."""
        return self.find_fork(spc, db, rel, fork).blocks

    def set_size(self, spc: int, db: int, rel: int, fork: int, blocks: int) -> None:
        """Sets what ``size`` returns; adds nothing to the batch."""
        found = self.find_fork(spc, db, rel, fork)
        found.blocks = blocks
        if blocks == -1:
            self.absent.append(found)

    def forget_sizes(self, db: int) -> None:
        """Makes the sizes of all forks of a database unknown."""
        gone = self.forks.pop(db, None)
        if gone is not None:
            self.count_forks -= len(gone)
        self.recent = [None] * 64

    def forget_all(self) -> None:
        """Makes the sizes of all forks unknown."""
        self.forks = {}
        self.count_forks = 0
        self.recent = [None] * 64

    def extend(self, fork: Fork, end_lsn: int, block: int) -> int:
        """Adds that a fork has grown to hold ``block``."""
        blocks = block + 1 if block != MAX_BLOCKS else MAX_BLOCKS
        fork.blocks = blocks
        key_length = put_size_key(self.key, fork.spc, fork.db, fork.rel, fork.fork, end_lsn)
        return self.add_pair(key_length, put_size(self.value, EXTEND, blocks))

    def add_pair(self, key_length: int, length: int) -> int:
        self.pairs.append((cut(self.key, 0, key_length), cut(self.value, 0, length)))
        return 0

    # -- records

    def load(self, columns: RecordColumns, piece: bytes) -> None:
        """Takes columns whose offsets are those of ``piece``; neither is copied."""
        self.count: int = columns.count
        self.block_count: int = columns.block_count
        self.start_lsn: array[int] = columns.start_lsn
        self.end_lsn: array[int] = columns.end_lsn
        self.xid: array[int] = columns.xid
        self.rmgr: array[int] = columns.rmgr
        self.info: array[int] = columns.info
        self.block_begin: array[int] = columns.block_begin
        self.blocks: array[int] = columns.blocks
        self.main_at: array[int] = columns.main_at
        self.main_length: array[int] = columns.main_length
        self.spc: array[int] = columns.spc
        self.db: array[int] = columns.db
        self.rel: array[int] = columns.rel
        self.fork: array[int] = columns.fork
        self.block: array[int] = columns.block
        self.flags: array[int] = columns.flags
        self.image: array[int] = columns.image
        self.piece: bytes = piece
        self.side: bytes = columns.side
        self.piece_length = len(piece)
        self.side_length = len(columns.side)

    def collect(self, row: int) -> int:
        """Adds the records from ``row`` on; returns the first that is not plain, or their number.

        Not plain is a record whose meaning is in its body (ends of transactions with more than a
        time, storage, databases and tablespaces, restore points), or one of a fork whose size
        nobody has set.
        """
        while row < self.count and self.is_plain(row):
            self.add_row(row)
            row += 1
        return row

    def is_plain(self, row: int) -> bool:
        rmgr = self.rmgr[row]
        info = self.info[row]
        if rmgr in (RM_SMGR_ID, RM_DBASE_ID, RM_TBLSPC_ID):
            return False
        if rmgr == RM_XLOG_ID and info & XLR_RMGR_INFO_MASK == XLOG_RESTORE_POINT:
            return False
        ends = rmgr == RM_XACT_ID and end_of_transaction(info) != NO_END
        if ends and not self.is_plain_end(row):
            return False
        first = self.block_begin[row]
        for i in range(first, first + self.blocks[row]):
            fork = self.find_fork(self.spc[i], self.db[i], self.rel[i], self.fork[i])
            if fork.blocks == UNKNOWN:
                return False
        return True

    def is_plain_end(self, row: int) -> bool:
        """Returns whether the time is all that matters of the end of a transaction.

        That is so unless it drops relations or ends a prepared transaction; subtransactions,
        statistics and invalidations mean nothing to the index.
        """
        at = self.main_place(row)
        if at < 0 or self.main_length[row] < 8:
            return False
        if self.info[row] & XLOG_XACT_HAS_INFO == 0:
            return True
        if self.main_length[row] < 12:
            return False
        return self.main_byte(row, at + 8) & (HAS_RELFILELOCATORS | HAS_TWOPHASE) == 0

    def main_place(self, row: int) -> int:
        """Returns where the main data is, in ``piece`` or ``side``; -1: not all of it is there."""
        at = self.main_at[row]
        length = self.piece_length
        if at < 0:
            at = ~at
            length = self.side_length
        if at + self.main_length[row] > length:
            return -1
        return at

    def main_byte(self, row: int, at: int) -> int:
        if self.main_at[row] >= 0:
            return self.piece[at]
        return self.side[at]

    def main_time(self, row: int, at: int) -> int:
        """Returns the first 8 bytes of the main data, a clock before 2000 as 0."""
        if cython.compiled:
            if self.main_at[row] >= 0:
                p = cython.address(self.piece[0])
            else:
                p = cython.address(self.side[0])
            value = u64(p, at)
        else:
            value = u64(self.piece if self.main_at[row] >= 0 else self.side, at)
        return 0 if value >> 63 else value

    def clears_bits(self, row: int) -> int:
        """Returns ``cleared_bits`` of a heap record, of which 0 or less clears none."""
        at = self.main_place(row)
        if at < 0:
            return 0
        length = self.main_length[row]
        if cython.compiled:
            if self.main_at[row] >= 0:
                p = cython.address(self.piece[0])
            else:
                p = cython.address(self.side[0])
        else:
            p = self.piece if self.main_at[row] >= 0 else self.side
        return cleared_bits(p, at, length, self.rmgr[row], self.info[row])

    def add_clears(self, row: int, clears: int, end_lsn: int, start_lsn: int) -> int:
        """Adds the visibility map's blocks that a heap record changes without naming them.

        As ``new_heap_block`` and ``old_heap_block``: the first and the last of the main fork.
        """
        first = self.block_begin[row]
        count = self.blocks[row]
        low = 0
        while low < count and self.fork[first + low] != MAIN_FORKNUM:
            low += 1
        high = count - 1
        while high > low and self.fork[first + high] != MAIN_FORKNUM:
            high -= 1
        if low < count and clears & VISIBILITYMAP_VALID_BITS:
            self.add_clear(first + low, end_lsn, start_lsn)
        if low < count and clears >> OLD_BLOCK_SHIFT:
            self.add_clear(first + high, end_lsn, start_lsn)
        return 0

    def add_clear(self, i: int, end_lsn: int, start_lsn: int) -> int:
        spc, db, rel = self.spc[i], self.db[i], self.rel[i]
        page = self.block[i] // HEAPBLOCKS_PER_PAGE
        if self.newest(spc, db, rel, VISIBILITYMAP_FORKNUM, page) != end_lsn:
            self.add_entry(spc, db, rel, VISIBILITYMAP_FORKNUM, page, end_lsn, start_lsn, IMPLICIT)
        return 0

    def add_row(self, row: int) -> int:
        start_lsn = self.start_lsn[row]
        end_lsn = self.end_lsn[row]
        rmgr = self.rmgr[row]
        info = self.info[row]
        first = self.block_begin[row]
        for i in range(first, first + self.blocks[row]):
            spc, db, rel = self.spc[i], self.db[i], self.rel[i]
            block = self.block[i]
            flags = 0
            if self.flags[i] & BKPBLOCK_WILL_INIT or self.image[i] & IMAGE_APPLY:
                flags = INIT
            self.add_entry(spc, db, rel, self.fork[i], block, end_lsn, start_lsn, flags)
            fork = self.find_fork(spc, db, rel, self.fork[i])
            if cython.cast(cython.longlong, block) >= fork.blocks:
                self.extend(fork, end_lsn, block)
        if rmgr in (RM_HEAP2_ID, RM_HEAP_ID) and self.blocks[row] != 0:
            clears = self.clears_bits(row)
            if clears > 0:
                self.add_clears(row, clears, end_lsn, start_lsn)
        # Pages are told by their block references; so are images, which have no other meaning.
        if self.changes_pages[rmgr]:
            return 0
        op = info & XLR_RMGR_INFO_MASK
        if rmgr == RM_XLOG_ID and op in (XLOG_FPI_FOR_HINT, XLOG_FPI):
            return 0
        key_length = put_event_key(self.key, end_lsn)
        self.add_pair(key_length, put_event(self.value, start_lsn, rmgr, info, self.xid[row]))
        if rmgr == RM_XACT_ID:
            kind = end_of_transaction(info)
            if kind != NO_END:
                self.add_time(row, end_lsn, start_lsn, kind)
        return 0

    def add_time(self, row: int, end_lsn: int, start_lsn: int, kind: int) -> int:
        time_us = self.main_time(row, self.main_place(row))
        key_length = put_time_key(self.key, time_us, end_lsn)
        return self.add_pair(key_length, put_time(self.value, start_lsn, self.xid[row], kind))
