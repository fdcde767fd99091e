"""Turns WAL bytes, however cut, into whole records whose every check has passed.

Sans-I/O, in the manner of h11: ``feed_bytes`` takes what arrived, ``poll_decode`` gives records
until it needs more. What a record holds is ``record.py``'s business; where the bytes come from
(a socket, segment files) is the caller's. Mirrors XLogReadRecord, XLogFindNextRecord and
XLogReaderValidatePageHeader.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import cython

from walstream.errors import WalError, WalGapError
from walstream.wal.model import RawRecord, format_lsn
from walstream.wal.reason import Reason, damage_error
from walstream.wal.segment import DEFAULT_SEGMENT_SIZE, is_valid_segment_size

if TYPE_CHECKING:
    from mmap import mmap

    from walstream.wal.buffer import Bytes
if not cython.compiled:
    from walstream.wal.walk import Walker


class LostWal(NamedTuple):
    """WAL ``[start_lsn, end_lsn)`` that could not be read, and the first thing wrong in it.

    ``end_lsn`` is where the next good record starts.
    """

    start_lsn: int
    end_lsn: int
    error: WalError


class WalStreamDecoder:
    """Reads a stream of WAL; see the module.

    Args:
        version: PostgreSQL major version (14 to 18), None to take that of the first page.
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
            with a right header after it makes ``poll_decode`` raise, for then the zeros are a
            hole.
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
        self.pending: deque[tuple[int, Bytes]] = deque()
        self.piece: Bytes = b""
        self.end = 0
        self.feed_lsn = start_lsn
        self.damage: WalError | None = None
        self.end_of_wal: WalError | None = None
        self.lost: list[LostWal] = []
        self.lost_from: tuple[int, WalError] | None = None

    @property
    def version(self) -> int:
        return self.walker.version

    @property
    def timeline(self) -> int:
        return self.walker.timeline

    @property
    def system_identifier(self) -> int:
        return self.walker.system_identifier

    @property
    def verified_end_lsn(self) -> int:
        return self.walker.verified_end

    @property
    def pending_lsn(self) -> int | None:
        """Where the record starts of which a part is still to come, None for none."""
        return self.walker.record_lsn if self.walker.have else None

    def feed_bytes(self, lsn: int, data: Bytes | mmap) -> None:
        """Takes WAL ``[lsn, lsn + len(data))``; ``data`` is not copied and must not change.

        It is let go when ``poll_decode`` has passed it.

        Raises:
            WalGapError: ``lsn`` is not ``feed_lsn``. Nothing was taken.
        """
        if lsn != self.feed_lsn:
            raise WalGapError(
                f"WAL to decode: expected bytes at {format_lsn(self.feed_lsn)}, "
                f"got them at {format_lsn(lsn)}",
                self.feed_lsn,
            )
        length = len(data)
        if length:
            self.pending.append((length, data))  # type: ignore[arg-type]
            self.feed_lsn += length

    def advance(self) -> int:
        """Goes on to the next event over the pieces that are there."""
        while True:
            if self.end == 0:
                if not self.pending:
                    return 0
                length, data = self.pending.popleft()
                self.piece = data
                self.end = length
                self.walker.at = 0
            if cython.compiled:
                code = self.walker.advance(cython.address(self.piece[0]), self.end)
            else:
                code = self.walker.advance(self.piece, self.end)
            if code == 1 or code == 3:
                return code
            if code == 2 and self.end_of_wal is None:
                self.end_of_wal = damage_error(Reason.ZERO_LENGTH, self.walker.error_lsn, 24, 0)
            # The piece is done: let it go.
            if self.walker.at >= self.end:
                self.piece = b""
                self.end = 0

    def poll_decode(self) -> RawRecord | None:
        """Returns the next whole record, or None: feed more (or see ``end_of_wal``).

        Raises:
            PageHeaderError: a page header fails a check, or contradicts the record under way.
            RecordError: a record header, its chain or its CRC fails a check.
        """
        if self.damage is not None:
            raise self.damage
        code = self.advance()
        if code == 0:
            return None
        walker = self.walker
        if code == 3:
            raise self.damaged()
        if self.lost_from is not None:
            self.lost.append(LostWal(self.lost_from[0], walker.start_lsn, self.lost_from[1]))
            self.lost_from = None
        at = walker.record_at
        return RawRecord(
            walker.start_lsn, walker.end_lsn, bytes(walker.record_p[at : at + walker.total])
        )

    def damaged(self) -> WalError:
        walker = self.walker
        error = damage_error(Reason(walker.reason), walker.error_lsn, walker.expected, walker.got)
        if walker.reason == Reason.ZERO_LENGTH:
            self.end_of_wal = None
            error.args = (
                f"{error.args[0]}, but WAL goes on in page at {format_lsn(walker.page_lsn)}",
            )
        self.damage = error
        return error

    def verify_bytes(self, lsn: int, data: Bytes | mmap) -> int:
        """Checks WAL as it arrives, without making records; returns ``verified_end_lsn``.

        Cheaper than ``poll_decode``: nothing is copied but the heads of cut records. For a
        receiver: a zero where a record would start is damage here, no server streams that. Do
        not mix with ``feed_bytes``.

        Raises:
            PageHeaderError, RecordError: as ``poll_decode``.
            WalGapError: ``lsn`` is not ``feed_lsn``. Nothing was taken.
        """
        if self.damage is not None:
            raise self.damage
        self.walker.collect = False
        self.feed_bytes(lsn, data)
        while True:
            code = self.advance()
            if code == 3:
                raise self.damaged()
            if self.end_of_wal is not None:
                self.damage = self.end_of_wal
                raise self.damage
            if code == 0:
                return self.walker.verified_end

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

        ``version``, ``system_identifier`` and ``timeline`` stay. For reading records at many
        places with one decoder, and for going on after a gap (with ``find_record``).
        """
        self.pending.clear()
        self.piece = b""
        self.end = 0
        self.damage = None
        self.end_of_wal = None
        self.lost_from = None
        self.feed_lsn = lsn
        self.walker.jump(lsn, find_record)
        self.walker.verified_end = lsn
