"""WAL on its way into a ``Walker``: what everything that is fed WAL bytes has in common.

``WalInput`` is the base of ``WalStreamDecoder`` and ``WalScanner``: what is expected of the WAL,
where it goes on, what was seen of it, what is wrong with it and how to go on behind that. It does
not say what becomes of the records.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import cython

from walstream.errors import WalError, WalGapError
from walstream.wal.model import format_lsn
from walstream.wal.reason import Reason, damage_error
from walstream.wal.segment import DEFAULT_SEGMENT_SIZE, is_valid_segment_size

if TYPE_CHECKING:
    from walstream.wal.buffer import Bytes
if not cython.compiled:
    from walstream.wal.buffer import bytes_of
    from walstream.wal.layout import SizeOfXLogRecord
    from walstream.wal.walk import Walker


NOTHING = memoryview(b"")


class LostWal(NamedTuple):
    """WAL ``[start_lsn, end_lsn)`` that could not be read, and the first thing wrong in it.

    ``end_lsn`` is where the next good record starts.
    """

    start_lsn: int
    end_lsn: int
    error: WalError


class WalInput:
    """One stream of WAL, fed in pieces; see the module.

    Args:
        version: PostgreSQL major version, None to take that of the first page.
        segment_size: bytes of a segment, a power of two from 1 MB to 1 GB.
        start_lsn: LSN of the first byte that will be fed. A record must start there (or at the
            end of the page header there): the end LSN of a record is such a place.
        find_record: ``start_lsn`` may be anywhere; the first record is that of the first page on
            which one starts, that page included when ``start_lsn`` is the start of a page.
        prev_lsn: start of the record before ``start_lsn``, None for not known. Only then is the
            first record's prev link checked in full.
        system_identifier: the cluster's, None to take that of the first long page header.
        timeline: the lowest timeline that a page may have.

    Attributes of what was seen:
        feed_lsn: the LSN that ``feed_bytes`` wants next.
        verified_end_lsn: end LSN of the last record that passed every check, ``start_lsn``
            before the first. For an XLOG_SWITCH that is the start of the next segment.
        end_of_wal: None, or why reading ended (a ``RecordError`` with reason ZERO_LENGTH, not
            raised): a zero where a record would start. Later bytes are still looked at: a page
            with a right header after it is damage, for then the zeros are a hole.
        lost: what ``resync`` skipped, oldest first.
        pending_lsn: where a record starts of which a part is still to come, None for none.
        version, timeline, system_identifier: of the last page (0 for not known yet).

    A WalError is raised again by every later call until ``resync`` is called.
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
    ) -> None:
        if not is_valid_segment_size(segment_size):
            raise ValueError(
                f"segment_size: expected a power of two from 1 MB to 1 GB, got {segment_size}"
            )
        self.walker = Walker(
            version or 0,
            segment_size,
            start_lsn,
            find_record,
            prev_lsn or 0,
            system_identifier or 0,
            timeline,
        )
        self.pending: deque[tuple[int, memoryview]] = deque()
        self.piece = NOTHING
        self.end = 0
        self.feed_lsn = start_lsn
        self.damage: WalError | None = None
        self.end_of_wal: WalError | None = None
        self.lost: list[LostWal] = []
        self.lost_from: tuple[int, WalError] | None = None

    @property
    def version(self) -> int:
        """The PostgreSQL major version, 0 where none was given and no page was read yet."""
        return self.walker.version

    @property
    def timeline(self) -> int:
        """The timeline of the last page; before the first the lowest that may come."""
        return self.walker.timeline

    @property
    def last_timeline(self) -> int:
        """The highest timeline that a page may have: that of its file's name, where there is one.

        Of a page beyond it the walk says OUT_OF_SEQUENCE_TIMELINE, as of one below the lowest.
        """
        return self.walker.last_timeline

    @last_timeline.setter
    def last_timeline(self, timeline: int) -> None:
        self.walker.last_timeline = timeline

    @property
    def first_timeline(self) -> int:
        """The lowest timeline that a page may have after ``seek`` or ``resync``.

        Up to there, and then on, none may be lower than that of the page before.
        """
        return self.walker.first_timeline

    @first_timeline.setter
    def first_timeline(self, timeline: int) -> None:
        self.walker.first_timeline = timeline

    @property
    def last_record_lsn(self) -> int:
        """Where the last record starts that passed every check; 0 where it is not known."""
        return self.walker.prev

    @property
    def system_identifier(self) -> int:
        """The cluster's, 0 where none was given and no long page header was read yet."""
        return self.walker.system_identifier

    @property
    def verified_end_lsn(self) -> int:
        """Where the last record that passed every check ends; see the class."""
        return self.walker.verified_end

    @property
    def pending_lsn(self) -> int | None:
        """Where the record starts of which a part is still to come, None for none."""
        return self.walker.record_lsn if self.walker.have else None

    def feed_bytes(self, lsn: int, data: Bytes) -> None:
        """Takes WAL ``[lsn, lsn + len(data))``; ``data`` is not copied and must not change.

        It is let go when the walk has passed it.

        Raises:
            WalGapError: ``lsn`` is not ``feed_lsn``. Nothing was taken.
            TypeError, BufferError, ValueError: not a buffer of bytes. Nothing was taken.
        """
        if lsn != self.feed_lsn:
            raise WalGapError(
                f"WAL to read: expected bytes at {format_lsn(self.feed_lsn)}, "
                f"got them at {format_lsn(lsn)}",
                self.feed_lsn,
            )
        # Held as a view, nobody can resize it while a thread walks over it without the lock.
        view = memoryview(data)
        bytes_of(view)
        length = len(view)
        if length:
            self.pending.append((length, view))
            self.feed_lsn += length

    def next_piece(self) -> bool:
        """Makes sure that there is a piece to walk through; returns False where none is left."""
        if self.end == 0:
            if not self.pending:
                return False
            length, data = self.pending.popleft()
            self.piece = data
            self.end = length
            self.walker.at = 0
        return True

    def drop_piece(self) -> None:
        """Lets go of the piece, which is done."""
        self.piece = NOTHING
        self.end = 0

    def damaged(self) -> WalError:
        """Keeps the walker's DAMAGE, to be raised again; returns it."""
        walker = self.walker
        more = ""
        if walker.reason == Reason.ZERO_LENGTH:
            self.end_of_wal = None
            more = f", but WAL goes on in page at {format_lsn(walker.page_lsn)}"
        self.damage = damage_error(
            Reason(walker.reason), walker.error_lsn, walker.expected, walker.got, more
        )
        return self.damage

    def ended(self) -> None:
        """Keeps the walker's END_OF_WAL; only the first counts, the zeros after it are no news."""
        if self.end_of_wal is None:
            self.end_of_wal = damage_error(
                Reason.ZERO_LENGTH, self.walker.error_lsn, SizeOfXLogRecord, 0
            )

    def found(self, start_lsn: int) -> None:
        """Adds what ``resync`` skipped, up to the next good record's ``start_lsn``, to ``lost``."""
        if self.lost_from is not None:
            self.lost.append(LostWal(self.lost_from[0], start_lsn, self.lost_from[1]))
            self.lost_from = None

    def resync(self) -> None:
        """After a WalError: goes on at the next page (after a wrong CRC: record) that allows it.

        When a record is found, what lies between is added to ``lost``. Without damage: no effect.
        """
        if self.damage is None:
            return
        if self.lost_from is None:
            self.lost_from = (self.walker.verified_end, self.damage)
        self.damage = None
        self.end_of_wal = None
        self.walker.resume()

    def seek(self, lsn: int, *, find_record: bool = False) -> None:
        """Goes on at ``lsn`` with nothing pending, as if made anew there; keeps what is known.

        ``version`` and ``system_identifier`` stay; ``timeline`` is again the lowest that may come.
        For reading records at many places with one object, and for going on after a gap (with
        ``find_record``).
        """
        self.pending.clear()
        self.drop_piece()
        self.damage = None
        self.end_of_wal = None
        self.lost_from = None
        self.feed_lsn = lsn
        self.walker.jump(lsn, find_record)
        self.walker.verified_end = lsn
