"""Writes about the records that a scanner passes, one after the other, into one buffer.

``RecordWriter`` is a kernel, and the base of those that write lines. It takes each record where the
scanner stands, with the headers that the scanner has taken apart: a record is read once. What a
record says comes from ``rmgr.program``.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import cython

from walstream.errors import RecordError
from walstream.wal.model import format_lsn

if TYPE_CHECKING:
    from walstream.wal.buffer import Bytes
    from walstream.wal.model import RawRecord
if not cython.compiled:
    from walstream.rmgr.program import Describer
    from walstream.rmgr.text import Text
    from walstream.wal.buffer import bytes_of
    from walstream.wal.layout import BKPBLOCK_HAS_IMAGE
    from walstream.wal.record import RecordReader
    from walstream.wal.scan import WalScanner

_RMGRS = 256
# Numbers in ``places`` for each resource manager.
_PLACES = 34

# Records and bytes of text that are written at a time.
MOST = 8192
FULL = 4 << 20
# Where what is wanted is so far apart, other threads may run while it is looked for.
FAR = 32768


class RecordWriter:
    """Writes about records of one major version (14 to 18) into ``text``: their descriptions.

    What derives from it writes lines, with the description somewhere in them.
    """

    def __init__(self, version: int) -> None:
        self.version = version
        self.text = Text(1 << 20)
        self.reader = RecordReader(version)
        self.describer = Describer(version)
        self.end_array = array("q", bytes(8 * (MOST + 1)))
        self.ends = self.end_array
        # Literal bytes of the resource managers met so far, of the manager itself, then of each of
        # its operations. Two numbers each (position, length), 17 pairs a manager.
        self.places = array("i", [-1] * (_RMGRS * _PLACES))
        self.pool = b" "
        self.attach(self.pool)

    def literals_of(self, rmgr_id: int) -> list[str]:
        """Returns what ``put_manager`` and ``put_operation`` put: of the manager, of 16 ops."""
        raise NotImplementedError

    def meet(self, rmgr_id: int) -> int:
        """Puts the literals of a resource manager into the pool."""
        pool = bytearray(self.pool)
        place = rmgr_id * _PLACES
        for literal in self.literals_of(rmgr_id):
            raw = literal.encode()
            self.places[place] = len(pool)
            self.places[place + 1] = len(raw)
            pool += raw
            place += 2
        self.pool = bytes(pool)
        self.attach(self.pool)
        return 0

    def attach(self, view: bytes) -> None:
        if cython.compiled:
            self.literals = cython.address(view[0])
        else:
            self.literals = view

    def put_manager(self, out: Text) -> int:
        """Appends the literal of the record's resource manager."""
        place = 34 * self.reader.rmgr
        if self.places[place] < 0:
            self.meet(self.reader.rmgr)
        return out.put(self.literals, self.places[place], self.places[place + 1])

    def put_operation(self, out: Text) -> int:
        """Appends the literal of its operation, some time after ``put_manager``."""
        place = 34 * self.reader.rmgr + 2 + 2 * (self.reader.info >> 4)
        return out.put(self.literals, self.places[place], self.places[place + 1])

    def write_from(self, scanner: WalScanner, rows: bool) -> int:
        """Writes the record at which ``scanner`` stands, and those behind it, over what was there.

        Ends with the piece that the scanner has, with damage, or when it is much.

        Args:
            scanner: its ``next_record`` has returned True.
            rows: it also collects the records, for ``WalScanner.take``.

        Returns:
            How many were written. What was written of the i-th ends at ``take_ends(...)[i]``.
        """
        walker = scanner.walker
        out = self.text
        out.clear()
        self.reader = scanner.reader
        p = bytes_of(scanner.piece)
        count = 0
        far = False
        while True:
            self.write(walker.record_p, walker.record_at, walker.start_lsn, walker.end_lsn)
            count += 1
            self.ends[count] = out.used
            if rows and scanner.add_row(walker, scanner.reader) != 0:
                raise MemoryError
            if count == MOST or out.used >= FULL or (rows and scanner.is_full()):
                return count
            end_lsn = walker.end_lsn
            if not scanner.go_on(p, far):
                return count
            far = walker.start_lsn - end_lsn > FAR

    def take_ends(self, count: int) -> array[int]:
        """Returns where what was written ends, of 0 records, of 1, up to ``count``."""
        return self.end_array[: count + 1]

    def write_record(self, raw: RawRecord) -> None:
        """Appends what is written about one record.

        Raises:
            RecordError: its block headers contradict one another.
        """
        data = raw.data
        self.reader = RecordReader(self.version)
        if self.reader.read_bytes(data) != 0:
            raise RecordError(
                f"{self.reader.message()} in record at {format_lsn(raw.start_lsn)}", raw.start_lsn
            )
        self.write(bytes_of(data), 0, raw.start_lsn, raw.end_lsn)

    def write(self, p: Bytes, at: int, _start_lsn: int, _end_lsn: int) -> int:
        """Writes about the record at ``p[at]``, which ``reader`` has taken apart."""
        out = self.text
        mark = out.used
        self.describe(p, at, out)
        if not out.is_plain(mark):
            # Names in it may be no UTF-8.
            text = bytes(out.store[mark : out.used]).decode("utf-8", "backslashreplace")
            out.cut(mark)
            out.put_bytes(text.encode())
        return 0

    def describe(self, p: Bytes, at: int, out: Text) -> int:
        """Appends the description; of a body that is too short, a note instead."""
        mark = out.used
        try:
            self.describer.describe(self.reader, p, at, out)
        except RecordError as error:
            out.cut(mark)
            out.put_bytes(f"({error})".encode())
        return 0

    def image_bytes(self) -> int:
        """Returns how many bytes of the record are page images."""
        reader = self.reader
        size = 0
        for i in range(reader.block_count):
            if reader.block_flags[i] & BKPBLOCK_HAS_IMAGE:
                size += reader.image_length[i]
        return size
