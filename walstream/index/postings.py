"""Collects what columns of records say to the index, in stored form: the hot part.

Knows the records that need no more than their block references and a few bytes of their main data.
At any other record it stops, before it has added anything of it: ``digest.py`` adds that one by
its own rules, into the same lists, and collecting goes on behind it. Nothing here depends on what
was before the first record but how forks grow: what may be growth is told, and whoever knows the
sizes says whether it is (``changes.py``).
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
        put_end,
        put_entry,
        put_event,
        put_event_key,
        put_growth,
        put_xid,
    )
    from walstream.rmgr.heap.effects import cleared_bits
    from walstream.rmgr.heap.layout import HEAPBLOCKS_PER_PAGE, OLD_BLOCK_SHIFT
    from walstream.wal.buffer import cut, put8, put_be32, put_be64, release, resize, u8, u32, u64
    from walstream.wal.layout import (
        BKPBLOCK_WILL_INIT,
        MAIN_FORKNUM,
        RM_DBASE_ID,
        RM_HEAP2_ID,
        RM_HEAP_ID,
        RM_MIN_CUSTOM_ID,
        RM_SMGR_ID,
        RM_TBLSPC_ID,
        RM_XACT_ID,
        RM_XLOG_ID,
        VISIBILITYMAP_FORKNUM,
        XLR_RMGR_INFO_MASK,
    )
    from walstream.wal.opcodes import (
        VISIBILITYMAP_VALID_BITS,
        XLOG_FPI,
        XLOG_FPI_FOR_HINT,
        XLOG_PARAMETER_CHANGE,
        XLOG_RESTORE_POINT,
        XLOG_XACT_ABORT,
        XLOG_XACT_ABORT_PREPARED,
        XLOG_XACT_COMMIT,
        XLOG_XACT_COMMIT_PREPARED,
        XLOG_XACT_HAS_INFO,
        XLOG_XACT_OPMASK,
    )

INIT = 1
IMPLICIT = 2
# Of the column ``image``: it is to be restored.
IMAGE_APPLY = 0x02
MAX_BLOCKS = 0xFFFFFFFF
MAX_FORKS = 65536
HAS_DBINFO, HAS_SUBXACTS, HAS_RELFILELOCATORS, HAS_TWOPHASE = 0x01, 0x02, 0x04, 0x10
FIRST_NORMAL_XID = 3
# A mark is kept of the last record that ends before each multiple of 2 to the power of this.
MARK_SHIFT = 18


def ends_transaction(info: int) -> bool:
    """Returns whether a Transaction record is the commit or abort of one."""
    return (info & XLOG_XACT_OPMASK) in (
        XLOG_XACT_COMMIT,
        XLOG_XACT_COMMIT_PREPARED,
        XLOG_XACT_ABORT,
        XLOG_XACT_ABORT_PREPARED,
    )


class Posting:
    """A list in stored form that grows; ``base`` is the LSN of its key, 0 while it is empty."""

    def __init__(self) -> None:
        self.have = self.size = 0
        self.base = self.last = 0
        if not cython.compiled:
            self.p = bytearray()

    def __dealloc__(self) -> None:
        release(self.p)

    def room(self, length: int) -> int:
        """Makes room for ``length`` bytes more; returns 0, -1: no memory."""
        if self.have + length > self.size:
            size = 2 * self.size if self.have else 4 * length
            grown = resize(self.p, size)
            if not grown:
                return -1
            self.p = grown
            self.size = size
        return 0

    def append(self, end_lsn: int, start_lsn: int, flags: int) -> int:
        """Adds an entry of a block, or flags to that of the same record; -1: no memory."""
        at = self.have
        if at == 0:
            self.base = end_lsn
        elif self.last == end_lsn:
            put8(self.p, at - 1, u8(self.p, at - 1) | flags)
            return 0
        if self.room(9) != 0:
            return -1
        self.have = at + put_entry(self.p, at, self.base, end_lsn, start_lsn, flags)
        self.last = end_lsn
        return 0

    def append_xid(self, end_lsn: int, xid: int) -> int:
        """Adds an entry of a group of transactions; -1: no memory."""
        if self.have == 0:
            self.base = end_lsn
        if self.room(5) != 0:
            return -1
        step = (end_lsn - self.base) & 0xFFFFFFFF
        self.have += put_xid(self.p, self.have, xid & 0xFF, step)
        return 0


class Fork:
    """How long a fork is at least: as long as the records since it was last cut say."""

    def __init__(self, spc: int, db: int, rel: int, fork: int) -> None:
        self.spc = spc
        self.db = db
        self.rel = rel
        self.fork = fork
        self.blocks = 0


class PostingLists:
    """What some records add to the index, in stored form.

    One owner; records must come in LSN order. ``load`` some columns, then ``collect`` from row to
    row; ``take`` gives what was collected.

    Attributes:
        last_end, last_start: of the last record that was added.
        newest_xid: the newest of all records, 0 for none.
        newest_time: the latest of the commits and aborts since the last ``take``, 0 for none.
    """

    def __init__(self) -> None:
        self.last_end = self.last_start = 0
        self.newest_xid = 0
        self.marks: list[tuple[int, int, int]] = []
        self.forks: dict[bytes, Fork] = {}
        self.recent: list[Fork | None] = [None] * 64
        if not cython.compiled:
            self.key = bytearray(32)
            self.value = bytearray(16)
            self.changes_pages = bytearray(256)
        for rmgr in RMGRS:
            self.changes_pages[rmgr.id] = rmgr.changes_pages
        self.begin()

    def begin(self) -> None:
        self.postings: dict[bytes, Posting] = {}
        self.pairs: list[tuple[bytes, bytes]] = []
        self.growth = Posting()
        self.ends = Posting()
        self.end_xid = self.end_time = 0
        self.newest_time = 0
        self.groups: dict[int, Posting] = {}
        self.group: Posting | None = None
        self.group_number = 0

    def take(self) -> list[tuple[bytes, bytes]]:
        """Returns keys and values of the blocks, transactions and events; starts anew.

        Ends of transactions are left to ``take_ends``, growth to ``take_growth``: call these first.
        """
        pairs = self.pairs
        for prefix, posting in self.postings.items():
            put_be64(self.key, 0, posting.base)
            pairs.append((prefix + cut(self.key, 0, 8), cut(posting.p, 0, posting.have)))
        for number, posting in self.groups.items():
            put8(self.key, 0, 0x78)
            put_be32(self.key, 1, number)
            put_be64(self.key, 5, posting.base)
            pairs.append((cut(self.key, 0, 13), cut(posting.p, 0, posting.have)))
        self.begin()
        if len(self.forks) > MAX_FORKS:
            self.forget_forks()
        return pairs

    def take_ends(self) -> tuple[int, bytes]:
        """Returns the LSN and the value of the list of ends of transactions; 0 for none."""
        return self.ends.base, cut(self.ends.p, 0, self.ends.have)

    def take_growth(self) -> bytes:
        """Returns what may be growth of forks, in LSN order."""
        return cut(self.growth.p, 0, self.growth.have)

    def take_marks(self) -> list[tuple[int, int, int]]:
        """Returns the marks that were passed: end LSN, start LSN and ``newest_xid`` then."""
        marks = self.marks
        self.marks = []
        return marks

    def go_on_at(self, last_end: int, last_start: int) -> None:
        """Says which record was the last one before the first that will be added."""
        self.last_end = last_end
        self.last_start = last_start

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

    # -- growth

    def fork_key(self, spc: int, db: int, rel: int, fork: int) -> bytes:
        put_be32(self.key, 0, spc)
        put_be32(self.key, 4, db)
        put_be32(self.key, 8, rel)
        put8(self.key, 12, fork)
        return cut(self.key, 0, 13)

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
        key = self.fork_key(spc, db, rel, fork)
        found = self.forks.get(key)
        if found is None:
            found = Fork(spc, db, rel, fork)
            self.forks[key] = found
        self.recent[slot] = found
        return found

    def forget_fork(self, spc: int, db: int, rel: int, fork: int) -> None:
        """Makes every length of a fork growth again: it was made, cut or removed."""
        self.recent[(rel * 4 + fork) & 63] = None
        self.forks.pop(self.fork_key(spc, db, rel, fork), None)

    def forget_forks(self) -> None:
        """As ``forget_fork``, for all."""
        self.forks = {}
        self.recent = [None] * 64

    def grow(self, fork: Fork, end_lsn: int, block: int) -> int:
        """Adds that a fork may have grown to hold ``block``."""
        blocks = block + 1 if block != MAX_BLOCKS else MAX_BLOCKS
        fork.blocks = blocks
        growth = self.growth
        if growth.room(25) != 0:
            raise MemoryError
        growth.have += put_growth(
            growth.p, growth.have, fork.spc, fork.db, fork.rel, fork.fork, end_lsn, blocks
        )
        return 0

    # -- ends of transactions and other events

    def add_end(self, end_lsn: int, start_lsn: int, xid: int, time_us: int, info: int) -> int:
        """Adds the commit or abort of a transaction."""
        ends = self.ends
        if ends.have == 0:
            ends.base = ends.last = end_lsn
        if ends.room(21) != 0:
            raise MemoryError
        ends.have += put_end(
            ends.p,
            ends.have,
            (end_lsn - ends.last) & 0xFFFFFFFF,
            (end_lsn - start_lsn) & 0xFFFFFFFF,
            (xid - self.end_xid) & 0xFFFFFFFF,
            (time_us - self.end_time) & 0xFFFFFFFFFFFFFFFF,
            info,
        )
        ends.last = end_lsn
        self.end_xid = xid
        self.end_time = time_us
        if time_us > self.newest_time:
            self.newest_time = time_us
        return self.add_xid(end_lsn, xid)

    def add_xid(self, end_lsn: int, xid: int) -> int:
        """Adds where a transaction or subtransaction ended."""
        number = xid >> 8
        group = self.group
        if group is None or self.group_number != number:
            group = self.groups.get(number)
            if group is None:
                group = Posting()
                self.groups[number] = group
            self.group = group
            self.group_number = number
        if group.append_xid(end_lsn, xid) != 0:
            raise MemoryError
        return 0

    def add_event(self, end_lsn: int, start_lsn: int, rmgr: int, info: int, xid: int) -> int:
        """Adds a record that changes no page through a block reference."""
        key_length = put_event_key(self.key, end_lsn)
        length = put_event(self.value, start_lsn, rmgr, info, xid)
        self.pairs.append((cut(self.key, 0, key_length), cut(self.value, 0, length)))
        return 0

    def pass_record(self, end_lsn: int, start_lsn: int, xid: int) -> int:
        """Notes a record that is added."""
        if self.last_end != 0 and end_lsn >> MARK_SHIFT != self.last_end >> MARK_SHIFT:
            self.marks.append((self.last_end, self.last_start, self.newest_xid))
        self.last_end = end_lsn
        self.last_start = start_lsn
        if xid >= FIRST_NORMAL_XID:
            ahead = (xid - self.newest_xid) & 0xFFFFFFFF
            if self.newest_xid == 0 or ahead < 0x80000000:
                self.newest_xid = xid
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

        Not plain is a record whose meaning is in its body: ends of transactions that drop
        relations or were prepared, storage, databases and tablespaces, restore points and
        parameters; and one of a custom resource manager.
        """
        while row < self.count and self.is_plain(row):
            self.add_row(row)
            row += 1
        return row

    def is_plain(self, row: int) -> bool:
        rmgr = self.rmgr[row]
        if rmgr >= RM_HEAP2_ID:
            return rmgr < RM_MIN_CUSTOM_ID
        if rmgr in (RM_SMGR_ID, RM_DBASE_ID, RM_TBLSPC_ID):
            return False
        if rmgr == RM_XLOG_ID:
            op = self.info[row] & XLR_RMGR_INFO_MASK
            return op not in (XLOG_RESTORE_POINT, XLOG_PARAMETER_CHANGE)
        return rmgr != RM_XACT_ID or not ends_transaction(self.info[row]) or self.is_plain_end(row)

    def is_plain_end(self, row: int) -> bool:
        """Returns whether time and subtransactions are all that matters of a transaction's end.

        That is so unless it drops relations or ends a prepared transaction; statistics and
        invalidations mean nothing to the index. Where its body is too short it is not plain.
        """
        at = self.main_place(row)
        length = self.main_length[row]
        if at < 0 or length < 8:
            return False
        if self.info[row] & XLOG_XACT_HAS_INFO == 0:
            return True
        if length < 12:
            return False
        xinfo = self.main_byte(row, at + 8)
        if xinfo & (HAS_RELFILELOCATORS | HAS_TWOPHASE) != 0:
            return False
        if xinfo & HAS_SUBXACTS != 0:
            skipped = 20 if xinfo & HAS_DBINFO else 12
            if length < skipped + 4:
                return False
            return self.main_number(row, at + skipped) <= (length - skipped - 4) // 4
        return True

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

    def main_number(self, row: int, at: int) -> int:
        """Returns 4 bytes of the main data as a number."""
        if cython.compiled:
            if self.main_at[row] >= 0:
                return u32(cython.address(self.piece[0]), at)
            return u32(cython.address(self.side[0]), at)
        return u32(self.piece if self.main_at[row] >= 0 else self.side, at)

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

    def add_blocks(self, row: int) -> int:
        """Adds the blocks of a record, and that it was."""
        start_lsn = self.start_lsn[row]
        end_lsn = self.end_lsn[row]
        rmgr = self.rmgr[row]
        first = self.block_begin[row]
        self.pass_record(end_lsn, start_lsn, self.xid[row])
        for i in range(first, first + self.blocks[row]):
            spc, db, rel = self.spc[i], self.db[i], self.rel[i]
            block = self.block[i]
            flags = 0
            if self.flags[i] & BKPBLOCK_WILL_INIT or self.image[i] & IMAGE_APPLY:
                flags = INIT
            self.add_entry(spc, db, rel, self.fork[i], block, end_lsn, start_lsn, flags)
            fork = self.find_fork(spc, db, rel, self.fork[i])
            if cython.cast(cython.longlong, block) >= fork.blocks:
                self.grow(fork, end_lsn, block)
        if rmgr in (RM_HEAP2_ID, RM_HEAP_ID) and self.blocks[row] != 0:
            clears = self.clears_bits(row)
            if clears > 0:
                self.add_clears(row, clears, end_lsn, start_lsn)
        return 0

    def add_row(self, row: int) -> int:
        rmgr = self.rmgr[row]
        info = self.info[row]
        self.add_blocks(row)
        # Pages are told by their block references; so are images, which have no other meaning.
        if self.changes_pages[rmgr]:
            return 0
        op = info & XLR_RMGR_INFO_MASK
        if rmgr == RM_XLOG_ID and op in (XLOG_FPI_FOR_HINT, XLOG_FPI):
            return 0
        if rmgr == RM_XACT_ID and ends_transaction(info):
            return self.add_plain_end(row)
        return self.add_event(self.end_lsn[row], self.start_lsn[row], rmgr, info, self.xid[row])

    def add_plain_end(self, row: int) -> int:
        end_lsn = self.end_lsn[row]
        info = self.info[row]
        at = self.main_place(row)
        time_us = self.main_time(row, at)
        self.add_end(end_lsn, self.start_lsn[row], self.xid[row], time_us, info)
        if info & XLOG_XACT_HAS_INFO != 0:
            xinfo = self.main_byte(row, at + 8)
            if xinfo & HAS_SUBXACTS != 0:
                at += 20 if xinfo & HAS_DBINFO else 12
                for i in range(self.main_number(row, at)):
                    self.add_xid(end_lsn, self.main_number(row, at + 4 + 4 * i))
        return 0
