"""Walks through WAL bytes page by page and record by record, however they were cut.

``Walker`` is the kernel below ``stream.py`` and ``scan.py``: a state machine that mirrors
XLogDecodeNextRecord of xlogreader.c, with its checks in its order (page header before record
header, header before length, length before memory, CRC last), but that is given bytes instead of
asking for pages. It copies only what a page or a piece of input cuts in two. It knows nothing of
what a record holds, except XLOG_SWITCH and OVERWRITE_CONTRECORD, which change the walk.

A record under way survives the end of a piece; memory grows with what has arrived of it, at most
doubling, never with what its header claims. The error of a check is the same however the input
was cut.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cython

from walstream.wal import versions
from walstream.wal.reason import Reason

if TYPE_CHECKING:
    from walstream.wal.buffer import Bytes
if not cython.compiled:
    from walstream.wal.buffer import move, release, resize, u8, u16, u32, u64
    from walstream.wal.crc import crc32c_of, prepare_crc, record_crc
    from walstream.wal.formats import FORMATS, magic_of, row_of, version_of
    from walstream.wal.layout import (
        MAXIMUM_ALIGNOF,
        RM_MAX_BUILTIN_ID,
        RM_MIN_CUSTOM_ID,
        RM_XLOG_ID,
        XLOG_BLCKSZ,
        XLP_ALL_FLAGS,
        XLP_FIRST_IS_CONTRECORD,
        XLP_FIRST_IS_OVERWRITE_CONTRECORD,
        XLP_LONG_HEADER,
        XLR_BLOCK_ID_DATA_SHORT,
        XLR_RMGR_INFO_MASK,
        SizeOfXLogLongPHD,
        SizeOfXLogRecord,
        SizeOfXLogShortPHD,
        xl_crc,
        xl_info,
        xl_prev,
        xl_rmid,
        xl_tot_len,
        xlp_info,
        xlp_magic,
        xlp_pageaddr,
        xlp_rem_len,
        xlp_seg_size,
        xlp_sysid,
        xlp_tli,
        xlp_xlog_blcksz,
    )
    from walstream.wal.opcodes import XLOG_OVERWRITE_CONTRECORD, XLOG_SWITCH

prepare_crc()

# What ``advance`` returns.
MORE = 0
RECORD = 1
END_OF_WAL = 2
DAMAGE = 3

# States. FINDING looks for a page on which a record starts, SKIPPING passes padding and what
# follows an XLOG_SWITCH, ENDED met a zero length and watches whether WAL goes on after it.
FINDING = 0
READING = 1
SKIPPING = 2
ENDED = 3
FAILED = 4

# Without `collect`, bytes that are kept of a record that is cut: its header and the body of an
# OVERWRITE_CONTRECORD.
KEPT_TO_VERIFY = 64

# As C integers, for code without the interpreter's lock.
INVALID_MAGIC = Reason.INVALID_MAGIC
INVALID_INFO = Reason.INVALID_INFO
NO_LONG_HEADER = Reason.NO_LONG_HEADER
OTHER_SYSTEM = Reason.OTHER_SYSTEM
OTHER_SEGMENT_SIZE = Reason.OTHER_SEGMENT_SIZE
OTHER_BLOCK_SIZE = Reason.OTHER_BLOCK_SIZE
UNEXPECTED_PAGEADDR = Reason.UNEXPECTED_PAGEADDR
OUT_OF_SEQUENCE_TIMELINE = Reason.OUT_OF_SEQUENCE_TIMELINE
UNEXPECTED_CONTRECORD = Reason.UNEXPECTED_CONTRECORD
NO_CONTRECORD = Reason.NO_CONTRECORD
INVALID_CONTRECORD_LENGTH = Reason.INVALID_CONTRECORD_LENGTH
ZERO_LENGTH = Reason.ZERO_LENGTH
INVALID_LENGTH = Reason.INVALID_LENGTH
TOO_LONG = Reason.TOO_LONG
INVALID_RMGR = Reason.INVALID_RMGR
INCORRECT_PREV = Reason.INCORRECT_PREV
INCORRECT_CHECKSUM = Reason.INCORRECT_CHECKSUM
NO_OVERWRITE_CONTRECORD = Reason.NO_OVERWRITE_CONTRECORD
OTHER_OVERWRITTEN = Reason.OTHER_OVERWRITTEN
NO_MEMORY = Reason.NO_MEMORY
NEWEST = versions.NEWEST


class Walker:
    """The walk through one stream of WAL; see the module.

    ``version`` 0 takes that of the first page, ``system_identifier`` 0 that of the first long
    header, ``timeline`` is the lowest that may come, ``last_timeline`` the highest. ``prev`` is
    the start of the record before ``lsn``, 0 for not known. With ``collect`` off only the first
    bytes of a record that is cut are kept, for callers that only verify.

    Use: set ``at`` to the offset of byte ``lsn`` in a piece, call ``advance(p, end)`` until it
    returns MORE; then the piece is done and may go. After RECORD the record is at
    ``record_p[record_at:]``, valid until the next call, its length ``total``; ``cut`` says whether
    it had to be put together, or stands in the piece as it is.
    """

    def __init__(
        self,
        version: int,
        segment_size: int,
        lsn: int,
        find_record: bool,
        prev: int,
        system_identifier: int,
        timeline: int,
    ) -> None:
        if version != 0 and magic_of(version) == 0:
            raise ValueError(f"version: expected {versions.RANGE}, got {version}")
        self.use_version(version)
        self.segment_size = segment_size
        self.system_identifier = system_identifier
        self.timeline = self.first_timeline = timeline
        self.last_timeline = 0xFFFFFFFF
        self.collect = True
        self.at = 0
        self.kept_size = 0
        if not cython.compiled:
            self.header = bytearray(SizeOfXLogLongPHD)
            self.kept = bytearray()
            self.record_p: Bytes = b""
        self.record_at = 0
        self.cut = False
        self.start_lsn = self.end_lsn = self.total = 0
        self.reason = 0
        self.error_lsn = self.expected = self.got = 0
        self.page_lsn = self.page_info = self.rem_len = 0
        self.jump(lsn, find_record)
        self.prev = prev
        self.verified_end = lsn

    def __dealloc__(self) -> None:
        release(self.kept)

    def jump(self, lsn: int, find_record: bool) -> None:
        """Goes on at ``lsn``, where a record starts, or is to be found, forgetting what was."""
        self.lsn = lsn
        self.timeline = self.first_timeline
        self.prev = 0
        self.aborted = 0
        self.have = 0
        self.header_have = 0
        self.skip_to = lsn
        self.crc = 0
        self.record_lsn = 0
        self.tolerant = False
        self.state = FINDING if find_record else READING

    def use_version(self, version: int) -> None:
        """Takes a version, 0 for not known yet, and what its formats allow."""
        row = row_of(version)
        self.version = version
        self.max_length = FORMATS.max_record_length[row]
        self.custom_rmgrs = FORMATS.custom_rmgrs[row]

    def fail(self, reason: int, lsn: int, expected: int, got: int) -> int:
        self.state = FAILED
        self.reason = reason
        self.error_lsn = lsn
        self.expected = expected
        self.got = got
        return DAMAGE

    def advance(self, p: Bytes, end: int) -> int:
        """Goes on to the next event in ``p[at:end]``; returns MORE, RECORD, END_OF_WAL or DAMAGE.

        After END_OF_WAL bytes are still taken: only a later page whose header is right turns the
        end into DAMAGE (ZERO_LENGTH), for then WAL goes on and the zeros are a hole in it. After
        DAMAGE nothing is taken until ``resume``.
        """
        while True:
            if self.state == FAILED:
                return DAMAGE
            if self.state == SKIPPING:
                left = self.skip_to - self.lsn
                if left > cython.cast(cython.ulonglong, end - self.at):
                    self.lsn += end - self.at
                    self.at = end
                    return MORE
                self.lsn += left
                self.at += left
                self.state = READING
            if self.at >= end:
                return END_OF_WAL if self.state == ENDED else MORE
            page_at = self.lsn & (XLOG_BLCKSZ - 1)
            if page_at == 0 or self.header_have != 0:
                code = self.take_page_header(p, end)
                if code == DAMAGE:
                    return DAMAGE
                continue
            at = self.at
            room = end - at
            if cython.cast(cython.ulonglong, room) > XLOG_BLCKSZ - page_at:
                room = XLOG_BLCKSZ - page_at
            if self.state != READING:
                self.at += room
                self.lsn += room
                continue

            if self.have == 0 and room >= SizeOfXLogRecord:
                # The common case: a record that is here as a whole.
                total = u32(p, at + xl_tot_len)
                code = self.check_header(p, at, self.lsn, total)
                if code != 0:
                    return code
                if total <= cython.cast(cython.ulonglong, room):
                    self.total = total
                    crc = record_crc(p, at, total)
                    self.record_lsn = self.lsn
                    self.at += total
                    self.lsn += total
                    return self.finish(p, at, crc, False)
            if self.have < SizeOfXLogRecord:
                code = self.take_header(p, room)
                if code != 0:
                    return code
                if self.have == SizeOfXLogRecord and self.total == SizeOfXLogRecord:
                    return self.finish(
                        self.kept, 0, crc32c_of(self.crc, self.kept, 0, xl_crc), True
                    )
                continue
            left = self.total - self.have
            step = room
            if left < cython.cast(cython.ulonglong, room):
                step = left
            if self.keep(p, at, step) != 0:
                return self.fail(NO_MEMORY, self.record_lsn, 0, self.total)
            self.crc = crc32c_of(self.crc, p, at, step)
            self.have += step
            self.at += step
            self.lsn += step
            if self.have == self.total:
                return self.finish(self.kept, 0, crc32c_of(self.crc, self.kept, 0, xl_crc), True)

    def keep(self, p: Bytes, at: int, length: int) -> int:
        """Appends ``p[at:at+length]`` to the record under way; returns 0, or -1: no memory."""
        n = length
        if not self.collect:
            limit = KEPT_TO_VERIFY - cython.cast(cython.Py_ssize_t, self.have)
            if limit <= 0:
                return 0
            if n > limit:
                n = limit
        size = cython.cast(cython.Py_ssize_t, self.have) + n
        if size > self.kept_size:
            if size < 2 * self.kept_size:
                size = 2 * self.kept_size
            if size < 1024:
                size = 1024
            grown = resize(self.kept, size)
            if not grown:
                return -1
            self.kept = grown
            self.kept_size = size
        move(self.kept, self.have, p, at, n)
        return 0

    def take_header(self, p: Bytes, room: int) -> int:
        """Takes what is there of a record header that is cut in two; returns 0 or an event.

        As in PostgreSQL the length is checked on the first page, the rest only when the next
        page has proved to go on with this record.
        """
        have = self.have
        step = SizeOfXLogRecord - have
        if room < step:
            step = room
        if have == 0:
            self.record_lsn = self.lsn
            self.crc = 0
        if self.keep(p, self.at, step) != 0:
            return self.fail(NO_MEMORY, self.lsn, 0, SizeOfXLogRecord)
        self.have += step
        self.at += step
        self.lsn += step
        if have < 4 and self.have >= 4:
            total = u32(self.kept, 0)
            self.total = total
            if total < SizeOfXLogRecord:
                self.have = 0
                return self.short_length(self.record_lsn, total)
        if self.have == SizeOfXLogRecord:
            return self.check_header(self.kept, 0, self.record_lsn, self.total)
        return 0

    def short_length(self, lsn: int, total: int) -> int:
        """Returns END_OF_WAL for a zero length, else DAMAGE."""
        if total == 0:
            self.reason = ZERO_LENGTH
            self.error_lsn = lsn
            self.expected = SizeOfXLogRecord
            self.got = 0
            self.state = ENDED
            return END_OF_WAL
        return self.fail(INVALID_LENGTH, lsn, SizeOfXLogRecord, total)

    def check_header(self, p: Bytes, at: int, lsn: int, total: int) -> int:
        """Checks the 24 bytes of a record header (ValidXLogRecordHeader); returns 0 or an event."""
        if total < SizeOfXLogRecord:
            return self.short_length(lsn, total)
        rmgr = u8(p, at + xl_rmid)
        # RmgrIdIsValid
        if rmgr > RM_MAX_BUILTIN_ID and (rmgr < RM_MIN_CUSTOM_ID or not self.custom_rmgrs):
            return self.fail(INVALID_RMGR, lsn, RM_MAX_BUILTIN_ID, rmgr)
        prev = u64(p, at + xl_prev)
        if self.prev != 0:
            if prev != self.prev:
                return self.fail(INCORRECT_PREV, lsn, self.prev, prev)
        elif prev >= lsn:
            return self.fail(INCORRECT_PREV, lsn, 0, prev)
        if total > self.max_length:
            return self.fail(TOO_LONG, lsn, self.max_length, total)
        return 0

    def finish(self, p: Bytes, at: int, crc: int, cut: bool) -> int:
        """Ends the record at ``p[at:at+total]``, which the walk has just passed."""
        self.have = 0
        self.cut = cut
        end = (self.lsn + MAXIMUM_ALIGNOF - 1) & -MAXIMUM_ALIGNOF
        if crc != u32(p, at + xl_crc):
            # The chain of pages agreed with the length, so the walk may go on after the record.
            self.skip_to = end
            self.start_lsn = self.record_lsn
            return self.fail(INCORRECT_CHECKSUM, self.record_lsn, u32(p, at + xl_crc), crc)
        # The rest of the segment is no record.
        if (
            u8(p, at + xl_rmid) == RM_XLOG_ID
            and (u8(p, at + xl_info) & XLR_RMGR_INFO_MASK) == XLOG_SWITCH
        ):
            end = (end + self.segment_size - 1) & -self.segment_size
        self.skip_to = end
        self.start_lsn = self.record_lsn
        if self.aborted != 0 and self.check_overwrite(p, at) != 0:
            return DAMAGE
        self.end_lsn = end
        self.prev = self.start_lsn
        self.verified_end = end
        self.record_p = p
        self.record_at = at
        self.state = SKIPPING
        return RECORD

    def check_overwrite(self, p: Bytes, at: int) -> int:
        """Checks that the record names the one that it voids (VerifyOverwriteContrecord)."""
        overwritten = self.aborted
        # xl_overwrite_contrecord: overwritten_lsn u64, time; behind the header of its data
        body = SizeOfXLogRecord + 2
        self.aborted = 0
        rmgr = u8(p, at + xl_rmid)
        if (
            rmgr != RM_XLOG_ID
            or (u8(p, at + xl_info) & XLR_RMGR_INFO_MASK) != XLOG_OVERWRITE_CONTRECORD
            or self.total < body + 8
            or u8(p, at + SizeOfXLogRecord) != XLR_BLOCK_ID_DATA_SHORT
            or u8(p, at + SizeOfXLogRecord + 1) < 8
        ):
            return self.fail(NO_OVERWRITE_CONTRECORD, self.start_lsn, overwritten, rmgr)
        if u64(p, at + body) != overwritten:
            return self.fail(OTHER_OVERWRITTEN, self.start_lsn, overwritten, u64(p, at + body))
        return 0

    def take_page_header(self, p: Bytes, end: int) -> int:
        """Takes what is there of a page header; returns 0, or DAMAGE."""
        if self.header_have == 0:
            self.page_lsn = self.lsn
        need = SizeOfXLogShortPHD
        if self.header_have >= SizeOfXLogShortPHD and u16(self.header, xlp_info) & XLP_LONG_HEADER:
            need = SizeOfXLogLongPHD
        step = need - self.header_have
        if end - self.at < step:
            step = end - self.at
        move(self.header, self.header_have, p, self.at, step)
        self.header_have += step
        self.at += step
        self.lsn += step
        if self.header_have < need:
            return 0
        if need == SizeOfXLogShortPHD:
            long_header = (u16(self.header, xlp_info) & XLP_LONG_HEADER) != 0
            if (
                long_header
                and u16(self.header, xlp_info) & ~XLP_ALL_FLAGS == 0
                and self.known_magic() != 0
            ):
                # Judged as a whole, with the 16 bytes that are to come.
                return 0
        self.header_have = 0
        code = self.check_page_header(self.header, need)
        if code != 0:
            # After an end of WAL, or when looking for a page, a wrong one is not news.
            if self.state == ENDED or (self.state == FINDING and self.tolerant):
                return 0
            return self.fail(code, self.page_lsn, self.expected, self.got)
        return self.enter_page()

    def known_magic(self) -> int:
        """Returns the version of the page header under way if it is the right one, else 0."""
        version = version_of(u16(self.header, xlp_magic))
        if self.version != 0 and version != self.version:
            return 0
        return version

    def check_page_header(self, p: Bytes, size: int) -> int:
        """Returns 0, or why the page header is wrong (XLogReaderValidatePageHeader)."""
        magic = u16(p, xlp_magic)
        version = self.known_magic()
        if version == 0:
            self.expected = magic_of(self.version if self.version != 0 else NEWEST)
            self.got = magic
            return INVALID_MAGIC
        info = u16(p, xlp_info)
        self.got = info
        if info & ~XLP_ALL_FLAGS:
            self.expected = XLP_ALL_FLAGS
            return INVALID_INFO
        if info & XLP_LONG_HEADER:
            value = u64(p, xlp_sysid)
            if self.system_identifier != 0 and value != self.system_identifier:
                self.expected = self.system_identifier
                self.got = value
                return OTHER_SYSTEM
            if u32(p, xlp_seg_size) != self.segment_size:
                self.expected = self.segment_size
                self.got = u32(p, xlp_seg_size)
                return OTHER_SEGMENT_SIZE
            if u32(p, xlp_xlog_blcksz) != XLOG_BLCKSZ:
                self.expected = XLOG_BLCKSZ
                self.got = u32(p, xlp_xlog_blcksz)
                return OTHER_BLOCK_SIZE
        elif self.page_lsn & (self.segment_size - 1) == 0:
            self.expected = XLP_LONG_HEADER
            return NO_LONG_HEADER
        value = u64(p, xlp_pageaddr)
        if value != self.page_lsn:
            self.expected = self.page_lsn
            self.got = value
            return UNEXPECTED_PAGEADDR
        timeline = u32(p, xlp_tli)
        if timeline < self.timeline:
            self.expected = self.timeline
            self.got = timeline
            return OUT_OF_SEQUENCE_TIMELINE
        if timeline > self.last_timeline:
            self.expected = self.last_timeline
            self.got = timeline
            return OUT_OF_SEQUENCE_TIMELINE
        self.timeline = timeline
        self.use_version(version)
        if info & XLP_LONG_HEADER:
            self.system_identifier = u64(p, xlp_sysid)
        self.page_info = info
        self.rem_len = u32(p, xlp_rem_len)
        return 0

    def enter_page(self) -> int:
        """Goes on after a right page header, as the state wants it; returns 0 or DAMAGE."""
        if self.state == FINDING:
            self.find_on_page()
            return 0
        if self.state == ENDED:
            return self.fail(ZERO_LENGTH, self.error_lsn, SizeOfXLogRecord, 0)
        if self.have == 0:
            if self.page_info & XLP_FIRST_IS_CONTRECORD:
                return self.fail(UNEXPECTED_CONTRECORD, self.page_lsn, 0, self.rem_len)
            return 0
        if self.page_info & XLP_FIRST_IS_OVERWRITE_CONTRECORD:
            # The server crashed in the middle of the record and gave it up.
            self.aborted = self.record_lsn
            self.have = 0
            return 0
        if not self.page_info & XLP_FIRST_IS_CONTRECORD:
            return self.fail(NO_CONTRECORD, self.page_lsn, self.record_lsn, 0)
        if self.rem_len != self.total - self.have or self.rem_len == 0:
            return self.fail(
                INVALID_CONTRECORD_LENGTH, self.page_lsn, self.total - self.have, self.rem_len
            )
        return 0

    def find_on_page(self) -> None:
        """Goes on where the first record of this page starts, or looks on (XLogFindNextRecord)."""
        self.have = 0
        self.aborted = 0
        if self.page_info & XLP_FIRST_IS_CONTRECORD:
            size = (
                cython.cast(cython.ulonglong, self.rem_len) + MAXIMUM_ALIGNOF - 1
            ) & -MAXIMUM_ALIGNOF
            left = XLOG_BLCKSZ - (self.lsn & (XLOG_BLCKSZ - 1))
            if size >= left:
                # The record goes on on the next page, or ends with this one.
                self.state = FINDING
                return
            self.skip_to = self.lsn + size
            self.state = SKIPPING
        else:
            self.state = READING
        self.tolerant = False

    def resume(self) -> int:
        """Goes on after DAMAGE at the next place that allows it; returns whether there was any.

        After a wrong CRC that is the next record; after a right page header that contradicts the
        record under way, that page; else the next page with a right header.
        """
        if self.state != FAILED:
            return 0
        self.prev = 0
        self.have = 0
        self.header_have = 0
        self.aborted = 0
        if (
            self.reason == INCORRECT_CHECKSUM
            or self.reason == NO_OVERWRITE_CONTRECORD
            or self.reason == OTHER_OVERWRITTEN
        ):
            self.state = SKIPPING
            self.prev = self.start_lsn
            return 1
        self.tolerant = True
        self.state = FINDING
        if self.reason == OUT_OF_SEQUENCE_TIMELINE and self.got < self.expected:
            # It may be the page before that was wrong: those that follow are to agree with this.
            self.timeline = self.first_timeline
            if cython.cast(cython.uint, self.got) >= self.first_timeline:
                self.timeline = cython.cast(cython.uint, self.got)
                self.page_info = u16(self.header, xlp_info)
                self.rem_len = u32(self.header, xlp_rem_len)
                self.find_on_page()
            return 1
        if (
            self.reason == UNEXPECTED_CONTRECORD
            or self.reason == NO_CONTRECORD
            or self.reason == INVALID_CONTRECORD_LENGTH
            or self.reason == ZERO_LENGTH
        ):
            self.find_on_page()
        return 1
