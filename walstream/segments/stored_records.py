"""Many records read from segment files in LSN order, by their positions, into one buffer.

Neighbours come with one read. No Python object and no look at a directory a record. What cannot be
read here has no place: who wants to know why asks ``SegmentReader.read_record`` for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cython

from walstream.errors import WalstreamError
from walstream.segments.reader import SegmentReader

if TYPE_CHECKING:
    from walstream.wal.buffer import Writable
if not cython.compiled:
    import os

    from walstream.wal.buffer import move, put32, put64, release, resize, u32, u64
    from walstream.wal.crc import prepare_crc, record_crc
    from walstream.wal.layout import XLOG_BLCKSZ, SizeOfXLogRecord, SizeOfXLogShortPHD, xl_crc

    def read_at(descriptor: int, p: Writable, length: int, offset: int) -> int:
        """Reads into the start of ``p``; returns how many bytes, -1 for an error (pread)."""
        done = 0
        try:
            while done < length:
                data = os.pread(descriptor, length - done, offset + done)
                if not data:
                    break
                p[done : done + len(data)] = data
                done += len(data)
        except OSError:
            return -1
        return done

    def sort_places(p: Writable, count: int) -> None:
        """Sorts ``count`` items of 16 bytes by their first 8, a number, then by the second."""
        items = [p[16 * i : 16 * i + 16] for i in range(count)]
        items.sort(key=lambda item: (u64(item, 0), u64(item, 8)))
        p[: 16 * count] = b"".join(items)


prepare_crc()

# Reads are at most so long, but for one record; a gap of at most so much is read and dropped.
WINDOW = 256 * 1024
GAP = 2048
# Longer records are put together one by one.
LONG = 1 << 20
# A record: start LSN u64, end LSN u64, where it is u64, length u32 (0: it could not be read).
ITEM = 32


class StoredRecords:
    """Records by number, in the order in which they were wanted.

    ``want`` them, then ``read`` all; then record i is ``length(i)`` bytes at ``at(i)`` of the
    buffer, checked by its CRC. The same record may be wanted more than once.
    """

    def __init__(self) -> None:
        self.count = self.room = 0
        self.size = self.data_room = self.order_room = self.window_room = 0
        self.segment_size = self.needed = 0
        if not cython.compiled:
            self.items = bytearray()
            self.order = bytearray()
            self.data = bytearray()
            self.window = bytearray()

    def __dealloc__(self) -> None:
        release(self.items)
        release(self.order)
        release(self.data)
        release(self.window)

    def clear(self) -> None:
        """Forgets all records; the memory is kept for the next."""
        self.count = self.size = 0

    def memory(self) -> int:
        """Returns how many bytes the buffers of records take."""
        return self.data_room + self.window_room

    def want(self, start_lsn: int, end_lsn: int) -> int:
        """Asks for the record at ``[start_lsn, end_lsn)``; returns its number."""
        if self.count == self.room:
            room = 2 * self.room + 64
            grown = resize(self.items, room * ITEM)
            if not grown:
                raise MemoryError
            self.items = grown
            self.room = room
        at = self.count * ITEM
        put64(self.items, at, start_lsn)
        put64(self.items, at + 8, end_lsn)
        put64(self.items, at + 16, 0)
        put32(self.items, at + 24, 0)
        self.count += 1
        return self.count - 1

    def start_lsn(self, record: int) -> int:
        return u64(self.items, record * ITEM)

    def end_lsn(self, record: int) -> int:
        return u64(self.items, record * ITEM + 8)

    def at(self, record: int) -> int:
        return u64(self.items, record * ITEM + 16)

    def length(self, record: int) -> int:
        """Returns the length of a record, 0 for one that could not be read."""
        return u32(self.items, record * ITEM + 24)

    def nth(self, place: int) -> int:
        """Returns the number of the record that is ``place``-th by its start."""
        return u64(self.order, 16 * place + 8)

    def read(self, archive: SegmentReader) -> None:
        """Reads all records that are wanted. Blocks; other threads run meanwhile."""
        if self.count == 0:
            return
        archive.look_again()
        self.prepare()
        size = self.segment_size = archive.segment_size
        first = 0
        while first < self.count:
            start_lsn = self.start_lsn(self.nth(first))
            begin = start_lsn - start_lsn % size
            last = first
            while last < self.count and self.start_lsn(self.nth(last)) < begin + size:
                last += 1
            try:
                segment = archive.segment(begin // size, start_lsn)
            except WalstreamError:
                first = last
                continue
            descriptor = segment.descriptor
            with cython.nogil:
                self.read_segment(descriptor, begin, first, last)
            self.read_long(archive, begin, first, last)
            first = last

    def prepare(self) -> int:
        """Sorts the records by their starts, and makes room for all of them."""
        if self.order_room < self.room:
            grown = resize(self.order, 16 * self.room)
            if not grown:
                raise MemoryError
            self.order = grown
            self.order_room = self.room
        for i in range(self.count):
            put64(self.order, 16 * i, self.start_lsn(i))
            put64(self.order, 16 * i + 8, i)
        sort_places(self.order, self.count)
        room = longest = 0
        for place in range(self.count):
            i = self.nth(place)
            # A damaged index may say anything; what is too long is not read here.
            length = self.end_lsn(i) - self.start_lsn(i)
            if length <= LONG and not self.again(place):
                room += length
                longest = length if length > longest else longest
        self.size = 0
        self.needed = room + 1
        self.make_room(self.needed)
        window = room + GAP * self.count
        window = window if window < WINDOW else WINDOW
        window = window if window > longest else longest
        if self.window_room < window + 1:
            grown = resize(self.window, window + 1)
            if not grown:
                raise MemoryError
            self.window = grown
            self.window_room = window + 1
        return 0

    def make_room(self, size: int) -> int:
        """Makes the buffer of records at least so long."""
        if self.data_room < size:
            grown = resize(self.data, size)
            if not grown:
                raise MemoryError
            self.data = grown
            self.data_room = size
        return 0

    def again(self, place: int) -> bool:
        """Whether the record before, by start, is the same."""
        if place == 0:
            return False
        i, before = self.nth(place), self.nth(place - 1)
        return self.start_lsn(i) == self.start_lsn(before) and self.end_lsn(i) == self.end_lsn(
            before
        )

    def is_long(self, record: int, segment_end: int) -> bool:
        """Whether a record is not read here: it goes on in the next segment, or is long."""
        end_lsn = self.end_lsn(record)
        return end_lsn > segment_end or end_lsn - self.start_lsn(record) > LONG

    def read_segment(self, descriptor: int, begin: int, first: int, last: int) -> None:
        """Reads the records ``first`` up to ``last`` by start, all of the segment at ``begin``."""
        end = begin + self.segment_size
        place = first
        while place < last:
            i = self.nth(place)
            if self.is_long(i, end):
                place += 1
                continue
            start_lsn = self.start_lsn(i)
            stop = self.end_lsn(i)
            after = place + 1
            while after < last:
                i = self.nth(after)
                if (
                    self.is_long(i, end)
                    or self.start_lsn(i) > stop + GAP
                    or self.end_lsn(i) - start_lsn > WINDOW
                ):
                    break
                if self.end_lsn(i) > stop:
                    stop = self.end_lsn(i)
                after += 1
            got = read_at(descriptor, self.window, stop - start_lsn, start_lsn - begin)
            while place < after:
                self.take(place, start_lsn, got)
                place += 1

    def take(self, place: int, window_lsn: int, got: int) -> None:
        """Puts a record together from the window that was read, page headers removed."""
        i = self.nth(place)
        if self.again(place):
            self.share(i, self.nth(place - 1))
            return
        start_lsn = self.start_lsn(i)
        source = start_lsn - window_lsn
        stop = self.end_lsn(i) - window_lsn
        # The length stands before the next page: records are aligned.
        if stop > got or stop - source < SizeOfXLogRecord:
            return
        total = u32(self.window, source)
        if total < SizeOfXLogRecord or total > stop - source:
            return
        target = self.size
        left = total
        room = XLOG_BLCKSZ - start_lsn % XLOG_BLCKSZ
        while True:
            piece = left if left < room else room
            if source + piece > stop:
                return
            move(self.data, target, self.window, source, piece)
            target += piece
            source += piece
            left -= piece
            if left == 0:
                break
            source += SizeOfXLogShortPHD
            room = XLOG_BLCKSZ - SizeOfXLogShortPHD
        if record_crc(self.data, self.size, total) != u32(self.data, self.size + xl_crc):
            return
        put64(self.items, i * ITEM + 16, self.size)
        put32(self.items, i * ITEM + 24, total)
        self.size = target

    def share(self, record: int, other: int) -> None:
        put64(self.items, record * ITEM + 16, self.at(other))
        put32(self.items, record * ITEM + 24, self.length(other))

    def read_long(self, archive: SegmentReader, begin: int, first: int, last: int) -> int:
        """Reads the records that ``read_segment`` has left, one by one."""
        for place in range(first, last):
            i = self.nth(place)
            if not self.is_long(i, begin + self.segment_size):
                continue
            if self.again(place):
                self.share(i, self.nth(place - 1))
                continue
            try:
                record = archive.read_record(self.start_lsn(i))
            except WalstreamError:
                continue
            size = len(record)
            # What ``prepare`` made room for is still to come.
            self.needed += size
            self.make_room(self.needed)
            p = record
            move(self.data, self.size, p, 0, size)
            put64(self.items, i * ITEM + 16, self.size)
            put32(self.items, i * ITEM + 24, size)
            self.size += size
        return 0
