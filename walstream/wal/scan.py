"""Reads many records at once into columns: the fast way through WAL.

``WalScanner`` walks whole pieces of WAL (a segment, mapped or read) with every check of
``stream.py``, takes block headers apart as ``record.py`` does, and gives ``RecordColumns``.
Compiled it holds no lock of the interpreter while it walks, so that two threads scan two segments.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

import cython

from walstream.errors import RecordError
from walstream.wal.model import format_lsn
from walstream.wal.reason import Reason
from walstream.wal.segment import DEFAULT_SEGMENT_SIZE

if TYPE_CHECKING:
    from walstream.wal.buffer import Bytes
    from walstream.wal.columns import RecordColumns
if not cython.compiled:
    from walstream.wal.buffer import bytes_of, move, release, resize
    from walstream.wal.columns import (
        IMAGE_APPLY,
        IMAGE_COMPRESSION_SHIFT,
        IMAGE_HOLE,
        IMAGE_PRESENT,
    )
    from walstream.wal.crc import prepare_crc
    from walstream.wal.filter import RecordFilter
    from walstream.wal.input import WalInput
    from walstream.wal.layout import (
        BKPBLOCK_HAS_IMAGE,
        BKPIMAGE_HAS_HOLE,
        MAX_XLINFO_TYPES,
        RM_XACT_ID,
        XLR_MAX_BLOCK_ID,
    )
    from walstream.wal.match import RecordMatch
    from walstream.wal.opcodes import XLOG_XACT_OPMASK
    from walstream.wal.record import RecordReader
    from walstream.wal.totals import RecordTotals
    from walstream.wal.walk import DAMAGE, END_OF_WAL, MORE, RECORD, Walker

prepare_crc()

# Why a scan ended, beside what ``Walker.advance`` returns.
FULL = 4
BAD_BLOCKS = 5
NO_MEMORY = 6
PAST_LIMIT = 7

# The highest LSN.
ALL_ONES = 0xFFFFFFFFFFFFFFFF

# Type codes of the columns, in the order of RecordColumns.
_RECORD_CODES = "QQQIIBBIIBqqI"
_BLOCK_CODES = "IBIIIBIBHHHHB"


class WalScanner(WalInput):
    """Scans a stream of WAL into columns; see the module.

    Attributes, ``resync`` and ``seek`` are those of ``WalInput``; its arguments too, and:

    Args:
        keep_records: put the whole bytes of cut records into ``side``, not only their main data.
        detached: put the bytes of every record that is given into ``side``, so that columns
            outlast their piece.
        batch: records of one ``RecordColumns`` at most.

    Use::

        scanner = WalScanner(None, segment_size, start_lsn, find_record=True)
        for each segment:
            scanner.feed_bytes(lsn, mapped)
            while (columns := scanner.poll_columns()) is not None:
                ...  # offsets in columns are offsets in `mapped`

    A record that goes on in the next piece is given with that piece.
    """

    def __init__(
        self,
        version: int | None = None,
        segment_size: int = DEFAULT_SEGMENT_SIZE,
        start_lsn: int = 0,
        *,
        find_record: bool = False,
        prev_lsn: int | None = None,
        system_identifier: int | None = None,
        timeline: int = 0,
        keep_records: bool = False,
        detached: bool = False,
        batch: int = 8192,
    ) -> None:
        if not 1 <= batch <= 1 << 24:
            raise ValueError(f"batch: expected 1 to {1 << 24}, got {batch}")
        super().__init__(
            version,
            segment_size,
            start_lsn,
            find_record=find_record,
            prev_lsn=prev_lsn,
            system_identifier=system_identifier,
            timeline=timeline,
        )
        self.reader = RecordReader(version or 0)
        self.keep_records = keep_records
        self.capacity = batch
        self.block_capacity = 2 * batch + XLR_MAX_BLOCK_ID + 1
        self.chosen = RecordFilter(RecordMatch(), 0, ALL_ONES)
        self.detached = detached
        self.n = self.m = 0
        self.side_size = self.side_have = 0
        self.past_limit = False
        if not cython.compiled:
            self.side = bytearray()
        self.make_arrays()

    def __dealloc__(self) -> None:
        release(self.side)

    def feed_bytes(self, lsn: int, data: Bytes) -> None:
        """Takes WAL, as ``WalInput.feed_bytes``, one piece at a time: columns hold offsets in it.

        Raises:
            WalGapError: ``lsn`` is not ``feed_lsn``. Nothing was taken.
            ValueError: the piece before is not done: ``poll_columns`` has not returned None, or
                ``next_record`` False.
        """
        if self.end != 0 or self.pending:
            raise ValueError("feed_bytes: the piece before is not done yet")
        super().feed_bytes(lsn, data)

    def poll_columns(self) -> RecordColumns | None:
        """Returns the next records, or None: the piece is done, feed the next.

        What was read before damage is returned first.

        Raises:
            PageHeaderError, RecordError: as ``WalStreamDecoder.poll_decode``, and block headers
                that contradict each other.
        """
        if self.damage is not None:
            raise self.damage
        if not self.next_piece():
            return None
        self.n = self.m = 0
        self.side_have = 0
        walker = self.walker
        reader = self.reader
        chosen = self.chosen
        match = chosen.match
        if cython.compiled:
            p = bytes_of(self.piece)
            with cython.nogil:
                code = self.fill(walker, reader, chosen, match, p, self.end)
        else:
            code = self.fill(walker, reader, chosen, match, self.piece, self.end)
        columns = self.take() if self.n else None
        self.note(code)
        if columns is not None:
            self.found(columns.start_lsn[0])
            return columns
        if code == PAST_LIMIT:
            self.found(self.chosen.next_lsn)
        if self.damage is not None:
            raise self.damage
        return None

    def next_record(self) -> bool:
        """Goes to the next record; returns False when the piece is done, as ``poll_columns`` does.

        Its headers are in ``reader``, its bytes where ``walker`` says. For kernels that go on from
        there with ``go_on``, and may collect some of what they pass with ``add_row``.

        Raises:
            PageHeaderError, RecordError: as ``poll_columns``.
        """
        if self.damage is not None:
            raise self.damage
        if not self.next_piece():
            return False
        self.n = self.m = 0
        self.side_have = 0
        if self.go_on(bytes_of(self.piece), True):
            self.found(self.walker.start_lsn)
            return True
        if self.past_limit:
            self.found(self.chosen.next_lsn)
        if self.damage is not None:
            raise self.damage
        return False

    def go_on(self, p: Bytes, far: bool) -> bool:
        """Steps on in ``p``, the piece's bytes; returns whether a record was found.

        Else what was found instead is noted. ``far``: other threads may run meanwhile.
        """
        walker = self.walker
        reader = self.reader
        chosen = self.chosen
        match = chosen.match
        if cython.compiled and far:
            with cython.nogil:
                code = self.step(walker, reader, chosen, match, p, self.end)
        else:
            code = self.step(walker, reader, chosen, match, p, self.end)
        if code != RECORD:
            self.note(code)
        return code == RECORD

    def note(self, code: int) -> int:
        """Keeps what the walk ended with: damage, the end of WAL, or that the piece is done."""
        self.past_limit = code == PAST_LIMIT
        if code == DAMAGE:
            self.damaged()
        elif code == BAD_BLOCKS:
            start_lsn = self.walker.start_lsn
            self.damage = RecordError(
                f"{self.reader.message()} in record at {format_lsn(start_lsn)}",
                start_lsn,
                reason=Reason.INVALID_BLOCKS,
            )
        elif code == NO_MEMORY:
            raise MemoryError
        elif code == END_OF_WAL:
            self.ended()
        if code in (MORE, END_OF_WAL, PAST_LIMIT):
            self.drop_piece()
        return 0

    def add_totals(self, totals: RecordTotals) -> bool:
        """Sums up the records of the piece without making columns; returns whether it is done.

        False is returned at the first that is not before the limit, which is ``next_lsn`` then.
        All records between the limits count: a match is for columns.

        Raises:
            PageHeaderError, RecordError: as ``poll_columns``; what was before is summed up.
        """
        if self.damage is not None:
            raise self.damage
        if not self.next_piece():
            return True
        walker = self.walker
        reader = self.reader
        chosen = self.chosen
        match = chosen.match
        if cython.compiled:
            p = bytes_of(self.piece)
            with cython.nogil:
                code = self.sum_up(walker, reader, chosen, match, p, self.end, totals)
        else:
            code = self.sum_up(walker, reader, chosen, match, self.piece, self.end, totals)
        self.note(code)
        if self.damage is not None:
            raise self.damage
        return code != PAST_LIMIT

    def sum_up(
        self,
        walker: Walker,
        reader: RecordReader,
        chosen: RecordFilter,
        match: RecordMatch,
        p: Bytes,
        end: int,
        totals: RecordTotals,
    ) -> int:
        while True:
            if walker.prev >= chosen.from_lsn:
                chosen.pass_over(walker, match, p, end, totals)
            code = walker.advance(p, end)
            if code != RECORD:
                if code == END_OF_WAL and walker.at < end:
                    continue
                return code
            if walker.start_lsn < chosen.from_lsn:
                continue
            if walker.start_lsn >= chosen.limit_lsn:
                chosen.next_lsn = walker.start_lsn
                return PAST_LIMIT
            if chosen.first_lsn == 0:
                chosen.first_lsn = walker.start_lsn
            reader.version = walker.version
            if reader.read(walker.record_p, walker.record_at, walker.total) != 0:
                return BAD_BLOCKS
            fpi = 0
            for i in range(reader.block_count):
                fpi += reader.image_length[i]
            op = reader.info
            if reader.rmgr == RM_XACT_ID:
                op &= XLOG_XACT_OPMASK
            place = reader.rmgr * MAX_XLINFO_TYPES + (op >> 4)
            totals.count[place] += 1
            totals.record[place] += reader.total_length - fpi
            totals.fpi[place] += fpi
            totals.add_span(walker.start_lsn, walker.start_lsn, walker.end_lsn, 1)

    def choose(self, match: RecordMatch, from_lsn: int = 0, limit_lsn: int | None = None) -> None:
        """From now on gives only records that fit and start in ``[from_lsn, limit_lsn)``.

        All are checked all the same. ``first_lsn`` becomes the first record at ``from_lsn`` or
        later, whether it fits or not. At the first that is not before ``limit_lsn`` scanning ends:
        ``next_lsn`` is where it starts, and it was checked, too.
        """
        self.chosen = RecordFilter(match, from_lsn, ALL_ONES if limit_lsn is None else limit_lsn)

    @property
    def first_lsn(self) -> int:
        """Where the first record at ``from_lsn`` or later starts; 0 before it is found."""
        return self.chosen.first_lsn

    @property
    def next_lsn(self) -> int:
        """Where the first record at ``limit_lsn`` or later starts; 0 before it is found."""
        return self.chosen.next_lsn

    def make_arrays(self) -> None:
        """Makes the arrays that every batch is put together in."""
        n = self.capacity
        m = self.block_capacity
        arrays = [array(code, bytes(array(code).itemsize * n)) for code in _RECORD_CODES]
        arrays += [array(code, bytes(array(code).itemsize * m)) for code in _BLOCK_CODES]
        self.arrays = arrays
        (
            self.start_lsn,
            self.end_lsn,
            self.prev_lsn,
            self.total_length,
            self.xid,
            self.rmgr,
            self.info,
            self.fpi_length,
            self.block_begin,
            self.blocks,
            self.record_at,
            self.main_at,
            self.main_length,
            self.block_record,
            self.block_id,
            self.spc,
            self.db,
            self.rel,
            self.fork,
            self.block,
            self.flags,
            self.data_length,
            self.image_length,
            self.hole_offset,
            self.hole_length,
            self.image,
        ) = arrays

    def take(self) -> RecordColumns:
        """Returns what was collected, copied out of the arrays that the next batch will use."""
        from walstream.wal.columns import RecordColumns  # start-up of a mere count

        records = len(_RECORD_CODES)
        values: list[Any] = [column[: self.n] for column in self.arrays[:records]]
        blocks: list[Any] = [column[: self.m] for column in self.arrays[records:]]
        side = bytes(self.side[: self.side_have]) if self.side_have else b""
        values = [self.n, *values, self.m, *blocks, side]
        return RecordColumns(*values)

    def fill(
        self,
        walker: Walker,
        reader: RecordReader,
        chosen: RecordFilter,
        match: RecordMatch,
        p: Bytes,
        end: int,
    ) -> int:
        """Adds records until the batch is full or ``p`` is done; returns why it ended."""
        while not self.is_full():
            code = self.step(walker, reader, chosen, match, p, end)
            if code != RECORD:
                return code
            code = self.add_row(walker, reader)
            if code != 0:
                return code
        return FULL

    def is_full(self) -> bool:
        """Returns whether one more record might be too much for the batch."""
        return self.n >= self.capacity or self.m + XLR_MAX_BLOCK_ID >= self.block_capacity

    def step(
        self,
        walker: Walker,
        reader: RecordReader,
        chosen: RecordFilter,
        match: RecordMatch,
        p: Bytes,
        end: int,
    ) -> int:
        """Goes to the next record that fits, which is taken apart then; else returns why not."""
        while True:
            if not chosen.everything and walker.prev >= chosen.from_lsn:
                chosen.pass_over(walker, match, p, end, None)
            code = walker.advance(p, end)
            if code != RECORD:
                # What follows the end of WAL is looked at too: a right page makes it a hole.
                if code == END_OF_WAL and walker.at < end:
                    continue
                return code
            if walker.start_lsn >= chosen.limit_lsn:
                chosen.next_lsn = walker.start_lsn
                return PAST_LIMIT
            if chosen.first_lsn == 0 and walker.start_lsn >= chosen.from_lsn:
                chosen.first_lsn = walker.start_lsn
            reader.version = walker.version
            if reader.read(walker.record_p, walker.record_at, walker.total) != 0:
                return BAD_BLOCKS
            if walker.start_lsn < chosen.from_lsn:
                continue
            if not chosen.everything and not match.fits(reader):
                continue
            return RECORD

    def add_row(self, walker: Walker, reader: RecordReader) -> int:
        """Adds the record that was stepped to; returns 0 or NO_MEMORY."""
        n = self.n
        m = self.m
        self.start_lsn[n] = walker.start_lsn
        self.end_lsn[n] = walker.end_lsn
        self.prev_lsn[n] = reader.prev
        self.total_length[n] = reader.total_length
        self.xid[n] = reader.xid
        self.rmgr[n] = reader.rmgr
        self.info[n] = reader.info
        self.main_length[n] = reader.main_length
        if walker.cut or self.detached:
            if self.keep_records or self.detached:
                at = self.put_aside(walker.record_p, walker.record_at, walker.total)
                self.record_at[n] = ~at
                self.main_at[n] = ~(at + reader.main_at - walker.record_at)
            else:
                at = self.put_aside(walker.record_p, reader.main_at, reader.main_length)
                self.record_at[n] = -1
                self.main_at[n] = ~at
            if at < 0:
                return NO_MEMORY
        else:
            self.record_at[n] = walker.record_at
            self.main_at[n] = reader.main_at
        blocks = reader.block_count
        self.block_begin[n] = m
        self.blocks[n] = blocks
        fpi = 0
        for i in range(blocks):
            self.block_record[m] = n
            self.block_id[m] = reader.block_id[i]
            self.spc[m] = reader.block_spc[i]
            self.db[m] = reader.block_db[i]
            self.rel[m] = reader.block_rel[i]
            self.fork[m] = reader.block_fork[i]
            self.block[m] = reader.block_number[i]
            self.flags[m] = reader.block_flags[i]
            self.data_length[m] = reader.data_length[i]
            if reader.block_flags[i] & BKPBLOCK_HAS_IMAGE:
                fpi += reader.image_length[i]
                image = IMAGE_PRESENT | reader.image_compression[i] << IMAGE_COMPRESSION_SHIFT
                if reader.image_apply[i]:
                    image |= IMAGE_APPLY
                if reader.image_info[i] & BKPIMAGE_HAS_HOLE:
                    image |= IMAGE_HOLE
                self.image[m] = image
                self.image_length[m] = reader.image_length[i]
                self.hole_offset[m] = reader.hole_offset[i]
                self.hole_length[m] = reader.hole_length[i]
            else:
                self.image[m] = 0
                self.image_length[m] = self.hole_offset[m] = self.hole_length[m] = 0
            m += 1
        self.fpi_length[n] = fpi
        self.m = m
        self.n = n + 1
        return 0

    def put_aside(self, p: Bytes, at: int, length: int) -> int:
        """Copies ``p[at:at+length]`` to the end of ``side``; returns where to, -1: no memory."""
        if length == 0:
            return self.side_have  # there may be no memory yet to copy nothing to
        size = self.side_have + length
        if size > self.side_size:
            if size < 2 * self.side_size:
                size = 2 * self.side_size
            grown = resize(self.side, size)
            if not grown:
                return -1
            self.side = grown
            self.side_size = size
        move(self.side, self.side_have, p, at, length)
        self.side_have += length
        return self.side_have - length
