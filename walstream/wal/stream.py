"""Turns WAL bytes, however cut, into whole records whose every check has passed.

Sans-I/O, in the manner of h11: ``feed_bytes`` takes what arrived, ``poll_decode`` gives records
until it needs more. What a record holds is ``record.py``'s business; where the bytes come from
(a socket, segment files) is the caller's. Mirrors XLogReadRecord, XLogFindNextRecord and
XLogReaderValidatePageHeader.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import cython

from walstream.wal.model import RawRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from walstream.wal.buffer import Bytes
if not cython.compiled:
    from walstream.wal.buffer import bytes_of
    from walstream.wal.input import WalInput
    from walstream.wal.walk import DAMAGE, END_OF_WAL, MORE, RECORD


PIECES = 128
WORTH_UNLOCKING = 1 << 16


class WalStreamDecoder(WalInput):
    """Reads a stream of WAL, record by record.

    Arguments, attributes, ``feed_bytes``, ``resync`` and ``seek`` are those of ``WalInput``. Any
    number of pieces may be fed before the records in them are polled.
    """

    def advance(self) -> int:
        """Goes on to the next event over the pieces that are there: MORE, RECORD or DAMAGE."""
        while self.next_piece():
            code = self.walker.advance(bytes_of(self.piece), self.end)
            if code in (RECORD, DAMAGE):
                return code
            if code == END_OF_WAL:
                self.ended()
            if self.walker.at >= self.end:
                self.drop_piece()
        return MORE

    def poll_decode(self) -> RawRecord | None:
        """Returns the next whole record, or None: feed more (or see ``end_of_wal``).

        Raises:
            PageHeaderError: a page header fails a check, or contradicts the record under way.
            RecordError: a record header, its chain or its CRC fails a check.
        """
        if self.damage is not None:
            raise self.damage
        code = self.advance()
        if code == MORE:
            return None
        walker = self.walker
        if code == DAMAGE:
            raise self.damaged()
        if self.lost_from is not None:
            self.found(walker.start_lsn)
        at = walker.record_at
        return RawRecord(
            walker.start_lsn, walker.end_lsn, bytes(walker.record_p[at : at + walker.total])
        )

    def verify_bytes(self, lsn: int, pieces: Sequence[Bytes]) -> int:
        """Checks WAL as it arrives, without making records; returns ``verified_end_lsn``.

        ``pieces`` follow each other from ``lsn`` on. Cheaper than ``poll_decode``: nothing is
        copied but the heads of cut records, and other threads run meanwhile. For a receiver: a
        zero where a record would start is damage here, no server streams that. Do not mix with
        ``poll_decode``.

        Raises:
            PageHeaderError, RecordError: as ``poll_decode``.
            WalGapError: ``lsn`` is not ``feed_lsn``. Nothing was taken.
        """
        if self.damage is not None:
            raise self.damage
        self.walker.collect = False
        for data in pieces:
            self.feed_bytes(lsn, data)
            lsn += len(data)
        while self.next_piece():
            code = self.walk_pieces()
            if code == DAMAGE:
                raise self.damaged()
            if code == END_OF_WAL:
                self.ended()
        if self.end_of_wal is not None:
            self.damage = self.end_of_wal
            raise self.damage
        return self.walker.verified_end

    def walk_pieces(self) -> int:
        """Walks through the pieces that are there, as one: MORE, END_OF_WAL or DAMAGE.

        The interpreter's lock is given up once for all of them: a thread that asked for it back
        after each would wait for the others each time.
        """
        if not cython.compiled:
            self.starts: list[Bytes] = [b""] * PIECES
            self.lengths = [0] * PIECES
        self.starts[0] = bytes_of(self.piece)
        self.lengths[0] = size = self.end
        count = 1
        for length, data in islice(self.pending, PIECES - 1):
            self.starts[count] = bytes_of(data)
            self.lengths[count] = length
            size += length
            count += 1
        if size < WORTH_UNLOCKING:
            code = self.walk(count)
        else:
            with cython.nogil:
                code = self.walk(count)
        at = self.walker.at
        for _ in range(self.walked):
            self.drop_piece()
            self.next_piece()
        if self.walked < count:
            self.walker.at = at
        return code

    def walk(self, count: int) -> int:
        i = 0
        while True:
            code = self.walker.advance(self.starts[i], self.lengths[i])
            if code == DAMAGE:
                break
            if self.walker.at >= self.lengths[i] and code != RECORD:
                i += 1
                if i < count:
                    self.walker.at = 0
            if code == END_OF_WAL or i == count:
                break
        self.walked = i
        return code
