"""Passes over records that are not wanted, or only to be summed up, a page at a time.

``RecordFilter`` is a kernel beside ``scan.py``: what of a range of WAL is wanted, and the quick way
past the rest. It decides nothing that is not plain: for all else the walk stops before the record.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cython

if TYPE_CHECKING:
    from walstream.wal.buffer import Bytes
if not cython.compiled:
    from walstream.wal.buffer import u8, u16, u32, u64
    from walstream.wal.crc import prepare_crc, record_crc
    from walstream.wal.layout import (
        BKPBLOCK_FORK_MASK,
        BKPBLOCK_HAS_DATA,
        BKPBLOCK_HAS_IMAGE,
        BKPBLOCK_SAME_REL,
        MAX_XLINFO_TYPES,
        MAXIMUM_ALIGNOF,
        RM_MAX_BUILTIN_ID,
        RM_XACT_ID,
        RM_XLOG_ID,
        XLOG_BLCKSZ,
        XLR_BLOCK_ID_DATA_SHORT,
        XLR_MAX_BLOCK_ID,
        XLR_RMGR_INFO_MASK,
        SizeOfBlockNumber,
        SizeOfRelFileLocator,
        SizeOfXLogRecord,
        SizeOfXLogRecordBlockHeader,
        xl_crc,
        xl_info,
        xl_prev,
        xl_rmid,
        xl_tot_len,
        xl_xid,
    )
    from walstream.wal.match import RecordMatch
    from walstream.wal.opcodes import XLOG_SWITCH, XLOG_XACT_OPMASK
    from walstream.wal.totals import RecordTotals
    from walstream.wal.walk import SKIPPING, Walker

prepare_crc()


class RecordFilter:
    """What is wanted: records that fit ``match`` and start in ``[from_lsn, limit_lsn)``.

    Attributes:
        first_lsn: the first record at ``from_lsn`` or later, whether it fits or not; 0 for none.
        next_lsn: the first that is not before ``limit_lsn``, 0 before it was found.
    """

    def __init__(self, match: RecordMatch, from_lsn: int, limit_lsn: int) -> None:
        self.match = match
        self.everything = match.everything
        self.from_lsn = from_lsn
        self.limit_lsn = limit_lsn
        self.first_lsn = self.next_lsn = 0

    def pass_over(
        self,
        walker: Walker,
        match: RecordMatch,
        p: Bytes,
        end: int,
        totals: RecordTotals | None,
    ) -> None:
        """Takes the records that lie whole on this page as long as nothing is special about them.

        They are summed up where there are totals, else left out when they are not wanted. At the
        first that may be wanted, is cut, or would fail any check, the walk is left before it: what
        such a record means only ``Walker.advance`` and ``RecordReader.read`` say.
        """
        if walker.state != SKIPPING or walker.aborted != 0 or walker.version == 0:
            return
        limit_lsn = self.limit_lsn
        lsn = walker.skip_to
        at = walker.at + cython.cast(cython.Py_ssize_t, lsn - walker.lsn)
        prev = walker.prev
        if prev == 0 or lsn - walker.lsn >= MAXIMUM_ALIGNOF or lsn & (XLOG_BLCKSZ - 1) == 0:
            return
        room = end - at
        if room > cython.cast(cython.Py_ssize_t, XLOG_BLCKSZ - (lsn & (XLOG_BLCKSZ - 1))):
            room = cython.cast(cython.Py_ssize_t, XLOG_BLCKSZ - (lsn & (XLOG_BLCKSZ - 1)))
        first = 0
        total = 0
        count = 0
        while room >= SizeOfXLogRecord and lsn < limit_lsn:
            length = u32(p, at + xl_tot_len)
            if length < SizeOfXLogRecord or length > cython.cast(cython.ulonglong, room):
                break
            rmgr = u8(p, at + xl_rmid)
            info = u8(p, at + xl_info)
            if rmgr > RM_MAX_BUILTIN_ID or u64(p, at + xl_prev) != prev:
                break
            if rmgr == RM_XLOG_ID and info & XLR_RMGR_INFO_MASK == XLOG_SWITCH:
                break
            hit = self.skim(match, p, at, length)
            if hit < 0:
                break
            if (
                totals is None
                and (match.any_rmgr or match.rmgrs[rmgr])
                and (match.any_xid or u32(p, at + xl_xid) == match.xid)
                and (not match.by_block or hit > 0)
                and not match.fullpage
            ):
                break
            if record_crc(p, at, length) != u32(p, at + xl_crc):
                break
            if totals is not None:
                if rmgr == RM_XACT_ID:
                    info &= XLOG_XACT_OPMASK
                place = rmgr * MAX_XLINFO_TYPES + (info >> 4)
                totals.count[place] += 1
                totals.record[place] += length
            if first == 0:
                first = lsn
            count += 1
            total = length
            prev = lsn
            step = (length + MAXIMUM_ALIGNOF - 1) & -MAXIMUM_ALIGNOF
            at += step
            lsn += step
            room -= step
        if count == 0:
            return
        # As Walker.finish leaves it behind the last of them.
        walker.total = total
        walker.lsn = prev + total
        walker.at = at - cython.cast(cython.Py_ssize_t, lsn - walker.lsn)
        walker.record_lsn = walker.start_lsn = walker.prev = prev
        walker.skip_to = walker.end_lsn = walker.verified_end = lsn
        if self.first_lsn == 0:
            self.first_lsn = first
        if totals is not None:
            totals.add_span(first, prev, lsn, count)

    def skim(self, match: RecordMatch, p: Bytes, at: int, length: int) -> int:
        """Checks the block headers of a record as ``RecordReader.read`` does, and keeps nothing.

        Returns -1 for one that has page images or other rare parts, or fails a check; 1 when a
        block reference is one that is wanted, else 0.
        """
        end = at + length
        cursor = at + SizeOfXLogRecord
        payload = 0
        highest = -1
        has_rel = False
        fits = False
        hit = 0
        while end - cursor > payload:
            if end - cursor < 2:
                return -1
            block_id = cython.cast(cython.int, u8(p, cursor))
            if block_id == XLR_BLOCK_ID_DATA_SHORT:
                payload += u8(p, cursor + 1)
                cursor += 2
                break
            if block_id > XLR_MAX_BLOCK_ID or block_id <= highest:
                return -1
            if end - cursor < SizeOfXLogRecordBlockHeader + SizeOfBlockNumber:
                return -1
            highest = block_id
            flags = u8(p, cursor + 1)
            data = u16(p, cursor + 2)
            if flags & BKPBLOCK_HAS_IMAGE or (flags & BKPBLOCK_HAS_DATA != 0) != (data != 0):
                return -1
            payload += data
            cursor += SizeOfXLogRecordBlockHeader
            if flags & BKPBLOCK_SAME_REL:
                if not has_rel:
                    return -1
            else:
                if end - cursor < SizeOfRelFileLocator + SizeOfBlockNumber:
                    return -1
                has_rel = True
                if match.by_block:
                    fits = match.any_relation or (
                        u32(p, cursor + 8) == match.rel
                        and u32(p, cursor + 4) == match.db
                        and u32(p, cursor) == match.spc
                    )
                cursor += SizeOfRelFileLocator
            if (
                fits
                and (match.any_fork or flags & BKPBLOCK_FORK_MASK == match.fork)
                and (match.any_block or u32(p, cursor) == match.block)
            ):
                hit = 1
            cursor += SizeOfBlockNumber
        if end - cursor != payload:
            return -1
        return hit
