"""What became of transactions, as of an LSN: pg_xact, pg_commit_ts and pg_multixact.

The files of a base backup, with the records since its start applied as PostgreSQL's own recovery
does (clog.c, commit_ts.c, multixact.c, xact_redo of xact.c). Bytes and record bodies in, statuses
and file contents out; where records come from is not known here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

from walstream.errors import RecordError
from walstream.rmgr import xact
from walstream.rmgr.layout import Cursor
from walstream.state.slru import (
    PAGES_PER_FILE,
    BackupArea,
    Kept,
    Slru,
    SlruFiles,
    multi_precedes,
    page_order,
    xid_precedes,
)
from walstream.store.backup_files import BackupFiles

RM_XACT, RM_CLOG, RM_MULTIXACT, RM_COMMIT_TS = 1, 3, 6, 18
RMGRS = frozenset((RM_XACT, RM_CLOG, RM_MULTIXACT, RM_COMMIT_TS))

FIRST_NORMAL_XID = 3
XACTS_PER_PAGE = 32768
COMMIT_TS_PER_PAGE = 819
OFFSETS_PER_PAGE = 2048
MEMBERS_PER_GROUP = 4
GROUP_BYTES = 20
MEMBERS_PER_PAGE = 1636
MAX_MEMBER_FILE = 0xFFFFFFFF // MEMBERS_PER_PAGE // PAGES_PER_FILE

ZERO_PAGE, TRUNCATE = 0x00, 0x10
ZERO_OFFSETS, ZERO_MEMBERS, CREATE_ID, TRUNCATE_ID = 0x00, 0x10, 0x20, 0x30
ENDS = (xact.COMMIT, xact.ABORT, xact.COMMIT_PREPARED, xact.ABORT_PREPARED)

_COMMIT_TS = struct.Struct("<qH")
_U32 = struct.Struct("<I")

# Directory -> entries a page, and the first entry that page order is probed with.
AREAS = {
    "pg_xact": (XACTS_PER_PAGE, FIRST_NORMAL_XID + 1),
    "pg_commit_ts": (COMMIT_TS_PER_PAGE, FIRST_NORMAL_XID + 1),
    "pg_multixact/offsets": (OFFSETS_PER_PAGE, 2),
    "pg_multixact/members": (MEMBERS_PER_PAGE, 0),
}


class XactStatus(IntEnum):
    """The two bits of pg_xact.

    SUB_COMMITTED is a moment within the commit of a transaction with subtransactions: only a
    base backup can hold it, and the records after it settle it. What is left of it after that
    belongs to a commit that a crash cut: not committed.
    """

    IN_PROGRESS = 0
    COMMITTED = 1
    ABORTED = 2
    SUB_COMMITTED = 3


class MemberStatus(IntEnum):
    """What a member of a multixact does to the row (MultiXactStatus)."""

    FOR_KEY_SHARE = 0
    FOR_SHARE = 1
    FOR_NO_KEY_UPDATE = 2
    FOR_UPDATE = 3
    NO_KEY_UPDATE = 4
    UPDATE = 5


class Member(NamedTuple):
    """A transaction in a multixact; ``status`` is a ``MemberStatus``."""

    xid: int
    status: int


class CommitTime(NamedTuple):
    """When a transaction was committed: microseconds since 2000-01-01, and its origin (0: here)."""

    time_us: int
    origin: int


class Body(NamedTuple):
    """The parts of a record that are looked at: header fields, main data, replication origin."""

    rmgr_id: int
    info: int
    xid: int
    main_data: bytes
    origin: int = 0


ReadBody = Callable[[], Body]


class TransactionLog:
    """Statuses, commit times and multixacts; ``apply`` takes it one record further.

    Args:
        areas: directory of ``AREAS`` -> its files in the base backup.
        version: major version of the server.
        tracked: whether track_commit_timestamp was on at the start of the backup.
        next_multi, next_offset, oldest_multi, oldest_multi_db: of the backup's checkpoint.
        oldest_commit_ts, newest_commit_ts: likewise (xids; 0 for none).
        kept: what the areas had at a later moment, which the other numbers are of then.

    The counters of the same names are those of the LSN that was come to.
    """

    def __init__(
        self,
        areas: dict[str, SlruFiles],
        version: int,
        *,
        tracked: bool = False,
        next_multi: int = 1,
        next_offset: int = 0,
        oldest_multi: int = 1,
        oldest_multi_db: int = 0,
        oldest_commit_ts: int = 0,
        newest_commit_ts: int = 0,
        kept: Mapping[str, Kept] | None = None,
    ) -> None:
        self._version = version
        self.areas = {
            name: Slru(areas[name], page_order(*numbers), kept[name] if kept else None)
            for name, numbers in AREAS.items()
        }
        self._xact = self.areas["pg_xact"]
        self._commit_ts = self.areas["pg_commit_ts"]
        self._offsets = self.areas["pg_multixact/offsets"]
        self._members = self.areas["pg_multixact/members"]
        self.tracked = tracked
        self.next_multi = next_multi
        self.next_offset = next_offset
        self.oldest_multi = oldest_multi
        self.oldest_multi_db = oldest_multi_db
        self.oldest_commit_ts = oldest_commit_ts
        self.newest_commit_ts = newest_commit_ts
        self.page_made_early = -1
        # The highest xid that a multixact named, 0 for none: the next xid lies beyond it.
        self.newest_member_xid = 0

    # -- what became of a transaction

    def status(self, xid: int) -> XactStatus:
        """Returns the status of a transaction or subtransaction; pure look-up.

        IN_PROGRESS is also what a transaction has that a crash ended, and one that is yet to come.
        The bootstrap and frozen xids (1 and 2) are committed, 0 is aborted.
        """
        if xid < FIRST_NORMAL_XID:
            return XactStatus.COMMITTED if xid else XactStatus.ABORTED
        page = self._xact.peek(xid // XACTS_PER_PAGE)
        if page is None:
            return XactStatus.IN_PROGRESS
        at = xid % XACTS_PER_PAGE
        return XactStatus(page[at // 4] >> 2 * (at % 4) & 3)

    def committed(self, xid: int) -> bool:
        """Returns whether a transaction or subtransaction was committed."""
        return self.status(xid) == XactStatus.COMMITTED

    def commit_time(self, xid: int) -> CommitTime | None:
        """Returns when a transaction was committed; None where pg_commit_ts does not say."""
        if xid < FIRST_NORMAL_XID:
            return None
        page = self._commit_ts.peek(xid // COMMIT_TS_PER_PAGE)
        if page is None:
            return None
        time_us, origin = _COMMIT_TS.unpack_from(page, xid % COMMIT_TS_PER_PAGE * 10)
        return CommitTime(time_us, origin) if time_us or origin else None

    def members(self, multi: int) -> tuple[Member, ...]:
        """Returns the members of a multixact; none for one that is gone or yet to come."""
        if multi == 0 or not multi_precedes(multi, self.next_multi):
            return ()
        begin = self._offset(multi)
        following = (multi + 1) & 0xFFFFFFFF or 1
        end = self.next_offset if following == self.next_multi else self._offset(following)
        if begin == 0 or (end - begin) & 0xFFFFFFFF > 1 << 24:
            return ()
        found = []
        at = begin
        while at != end:
            # Offset 0 is "not set": after a wrap-around that member is skipped.
            page = self._members.peek(at // MEMBERS_PER_PAGE)
            if page is None:
                return ()
            status_at, xid_at = member_place(at)
            (xid,) = _U32.unpack_from(page, xid_at)
            if xid:
                found.append(Member(xid, page[status_at]))
            at = (at + 1) & 0xFFFFFFFF
        return tuple(found)

    def _offset(self, multi: int) -> int:
        page = self._offsets.peek(multi // OFFSETS_PER_PAGE)
        if page is None:
            return 0
        return int(_U32.unpack_from(page, multi % OFFSETS_PER_PAGE * 4)[0])

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Yields path below the data directory and content of every file of the four areas."""
        for directory, area in self.areas.items():
            for name, data in area.files():
                yield f"{directory}/{name}", data

    # -- applying records

    def apply(self, rmgr_id: int, info: int, xid: int, read: ReadBody) -> None:
        """Applies one record; ``read`` is called only where the body matters.

        Records of other resource managers do nothing here.

        Raises:
            RecordError: a body is shorter than it says.
        """
        if rmgr_id == RM_XACT:
            op = info & xact.OP_MASK
            if op in ENDS:
                # The plain ones, nearly all: nothing but a time follows.
                if not info & xact.HAS_INFO and xid and not self.tracked:
                    status = XactStatus.COMMITTED if op == xact.COMMIT else XactStatus.ABORTED
                    self._set_status(xid, status)
                else:
                    self._end(read())
        elif rmgr_id == RM_CLOG:
            self._clog(info & 0xF0, read().main_data)
        elif rmgr_id == RM_MULTIXACT:
            self._multixact(info & 0xF0, read().main_data)
        elif rmgr_id == RM_COMMIT_TS:
            self._commit_times(info & 0xF0, read().main_data)

    def apply_plain(self, ends: Sequence[tuple[int, int, int, int, int]], at: int) -> int:
        """Applies commits and aborts from ``ends[at]`` on, up to one whose body must be read.

        They are (end LSN, start LSN, xid, time, info), in WAL's order. Returns where it came to.
        """
        tracked, page_number = self.tracked, -1
        page = bytearray()
        for i in range(at, len(ends)):
            _, _, xid, time_us, info = ends[i]
            # No origin either: that stands in the body too. A clock before 2000 is read there.
            if info & xact.HAS_INFO or xid < FIRST_NORMAL_XID or (tracked and not time_us):
                return i
            committed = info & xact.OP_MASK == xact.COMMIT
            number = xid // XACTS_PER_PAGE
            if number != page_number:
                page, page_number = self._xact.page(number), number
            place, shift = xid % XACTS_PER_PAGE // 4, 2 * (xid % 4)
            status = 1 if committed else 2
            page[place] = page[place] & ~(3 << shift) | status << shift
            if tracked and committed:
                times = self._commit_ts.page(xid // COMMIT_TS_PER_PAGE)
                _COMMIT_TS.pack_into(times, xid % COMMIT_TS_PER_PAGE * 10, time_us, 0)
                if not self.newest_commit_ts or xid_precedes(self.newest_commit_ts, xid):
                    self.newest_commit_ts = xid
        return len(ends)

    def _end(self, body: Body) -> None:
        end = xact.parse_end(body.main_data, body.info, self._version)
        xid = end.twophase_xid or body.xid
        op = body.info & xact.OP_MASK
        committed = op in (xact.COMMIT, xact.COMMIT_PREPARED)
        status = XactStatus.COMMITTED if committed else XactStatus.ABORTED
        for one in (xid, *end.subxids):
            self._set_status(one, status)
        if committed and self.tracked:
            has_origin = end.xinfo & xact.HAS_ORIGIN and end.origin_time_us
            time_us = end.origin_time_us if has_origin else end.time_us
            newest = xid
            for one in (xid, *end.subxids):
                page = self._commit_ts.page(one // COMMIT_TS_PER_PAGE)
                _COMMIT_TS.pack_into(page, one % COMMIT_TS_PER_PAGE * 10, time_us, body.origin)
                newest = one if xid_precedes(newest, one) else newest
            if not self.newest_commit_ts or xid_precedes(self.newest_commit_ts, newest):
                self.newest_commit_ts = newest

    def _set_status(self, xid: int, status: XactStatus) -> None:
        page = self._xact.page(xid // XACTS_PER_PAGE)
        at, shift = xid % XACTS_PER_PAGE // 4, 2 * (xid % 4)
        page[at] = page[at] & ~(3 << shift) | status << shift

    def _page_number(self, cursor: Cursor) -> int:
        return cursor.integer("i64" if self._version >= 17 else "i32")

    def _clog(self, op: int, main_data: bytes) -> None:
        page = self._page_number(Cursor(main_data))
        if op == ZERO_PAGE:
            self._xact.zero(page)
        elif op == TRUNCATE:
            self._xact.truncate(page)

    def _commit_times(self, op: int, main_data: bytes) -> None:
        cursor = Cursor(main_data)
        page = self._page_number(cursor)
        if op == ZERO_PAGE:
            self._commit_ts.zero(page)
        elif op == TRUNCATE:
            oldest = cursor.integer()
            if self.oldest_commit_ts and xid_precedes(self.oldest_commit_ts, oldest):
                self.oldest_commit_ts = oldest
            self._commit_ts.truncate(page)

    def track_commit_times(self, tracked: bool, next_xid: int) -> None:
        """Switches track_commit_timestamp (CommitTsParameterChange); off removes what there is."""
        if tracked == self.tracked:
            return
        self.tracked = tracked
        if not tracked:
            self._commit_ts.clear()
            self.oldest_commit_ts = self.newest_commit_ts = 0
            return
        if not self.oldest_commit_ts:
            self.oldest_commit_ts = self.newest_commit_ts = next_xid & 0xFFFFFFFF
        page = (next_xid & 0xFFFFFFFF) // COMMIT_TS_PER_PAGE
        if self._commit_ts.peek(page) is None:
            self._commit_ts.zero(page)

    # -- multixacts

    def _multixact(self, op: int, main_data: bytes) -> None:
        cursor = Cursor(main_data)
        if op == CREATE_ID:
            multi, offset = cursor.integers("u32", 2)
            numbers = cursor.integers("u32", 2 * max(cursor.integer("i32"), 0))
            pairs = zip(numbers[::2], numbers[1::2], strict=True)
            self._create(multi, offset, [Member(xid, status) for xid, status in pairs])
        elif op == TRUNCATE_ID:
            self._truncate_multis(*cursor.integers("u32", 5))
        else:
            page = self._page_number(cursor)
            if op == ZERO_MEMBERS:
                self._members.zero(page)
            elif page == self.page_made_early:
                self.page_made_early = -1
            else:
                self._offsets.zero(page)

    def _create(self, multi: int, offset: int, members: Iterable[Member]) -> None:
        """RecordNewMultiXact: also stores where the next multixact's members will begin."""
        at = offset
        for member in members:
            page = self._members.page(at // MEMBERS_PER_PAGE)
            status_at, xid_at = member_place(at)
            if member.status > 0xFF:
                raise RecordError(f"status of a multixact member: expected a byte, got {member}")
            page[status_at] = member.status
            _U32.pack_into(page, xid_at, member.xid)
            if not self.newest_member_xid or xid_precedes(self.newest_member_xid, member.xid):
                self.newest_member_xid = member.xid
            at = (at + 1) & 0xFFFFFFFF
        following = (multi + 1) & 0xFFFFFFFF or 1
        next_page = following // OFFSETS_PER_PAGE
        if next_page != multi // OFFSETS_PER_PAGE and self._offsets.peek(next_page) is None:
            # WAL of an older minor release, which zeroes that page after this record.
            self.page_made_early = next_page
        for one, value in ((multi, offset), (following, at or 1)):
            page = self._offsets.page(one // OFFSETS_PER_PAGE)
            _U32.pack_into(page, one % OFFSETS_PER_PAGE * 4, value)
        self.advance_multi(following, at)

    def advance_multi(self, next_multi: int, next_offset: int) -> None:
        """Moves the counters on, never back (MultiXactAdvanceNextMXact)."""
        if multi_precedes(self.next_multi, next_multi):
            self.next_multi = next_multi
        if multi_precedes(self.next_offset, next_offset):
            self.next_offset = next_offset

    def advance_oldest_multi(self, oldest: int, db_oid: int) -> None:
        """Moves the oldest multixact on, never back (MultiXactAdvanceOldest)."""
        if multi_precedes(self.oldest_multi, oldest):
            self.oldest_multi, self.oldest_multi_db = oldest, db_oid

    def _truncate_multis(
        self, db_oid: int, _start: int, end: int, start_member: int, end_member: int
    ) -> None:
        self.oldest_multi, self.oldest_multi_db = end, db_oid
        number = start_member // MEMBERS_PER_PAGE // PAGES_PER_FILE
        last = end_member // MEMBERS_PER_PAGE // PAGES_PER_FILE
        while number != last:
            self._members.remove_file(number)
            number = 0 if number >= MAX_MEMBER_FILE else number + 1
        before = 0xFFFFFFFF if end <= 1 else end - 1
        self._offsets.truncate(before // OFFSETS_PER_PAGE)


def member_place(offset: int) -> tuple[int, int]:
    """Returns where on its page the status and the xid of a member are."""
    group = offset // MEMBERS_PER_GROUP % (MEMBERS_PER_PAGE // MEMBERS_PER_GROUP) * GROUP_BYTES
    at = offset % MEMBERS_PER_GROUP
    return group + at, group + MEMBERS_PER_GROUP + 4 * at


def base_areas(files: BackupFiles) -> dict[str, SlruFiles]:
    """Returns the four areas of a base backup."""
    return {name: BackupArea(files, name) for name in AREAS}
