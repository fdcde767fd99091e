"""Applies whole redo requests: messages in, pages out, no Python object per record.

``Engine.process`` takes the bytes of a redo child's stdin (Neon's redo protocol, see
``redo/protocol.py``) and appends replies. ``begin``, ``push_page``, ``apply`` and ``get_page`` are
the same steps one at a time. The engine knows which page is being rebuilt, applies images, zeroes
pages that a record initialises, skips records that the page already has, and calls the rule of the
record's resource manager for the rest. It does no I/O.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cython

from walstream.errors import RecordError, RedoError, RedoProtocolError, UnsupportedRecord
from walstream.redo.rules.operations import operation_name
from walstream.redo.rules.target import Target
from walstream.rmgr.rmgrlist import rmgr_name
from walstream.wal.model import FORK_NAMES, BufferTag, format_lsn
from walstream.wal.versions import VERSIONS

if TYPE_CHECKING:
    from walstream.wal.buffer import Bytes
if not cython.compiled:
    from walstream.redo.rules.messages import (
        APPLY,
        APPLY_LENGTH,
        BEGIN,
        BEGIN_LENGTH,
        ENOUGH_REPLIES,
        GET,
        PING_KIND,
        PING_LENGTH,
        PUSH,
        PUSH_LENGTH,
        SizeOfEndLsn,
        SizeOfHead,
        SizeOfTag,
    )
    from walstream.rmgr.brin.redo import brin_redo
    from walstream.rmgr.btree.redo import btree_redo
    from walstream.rmgr.generic.redo import generic_redo
    from walstream.rmgr.gin.redo import gin_redo
    from walstream.rmgr.gist.redo import gist_after_image, gist_redo
    from walstream.rmgr.hash.redo import hash_redo
    from walstream.rmgr.heap.redo import heap_redo
    from walstream.rmgr.heap.visibilitymap import visibility_redo
    from walstream.rmgr.heap2.redo import heap2_redo
    from walstream.rmgr.sequence.redo import sequence_redo
    from walstream.rmgr.spgist.redo import spgist_redo
    from walstream.rmgr.xlog.redo import xlog_redo
    from walstream.wal.buffer import be32, be64, bytes_of, fill, move, u8
    from walstream.wal.bufpage import BLCKSZ, pd_lower, pd_lsn, pd_special, pd_upper, set_pd_lsn
    from walstream.wal.image import restore_into
    from walstream.wal.layout import (
        BKPBLOCK_HAS_IMAGE,
        BKPBLOCK_WILL_INIT,
        RM_BRIN_ID,
        RM_BTREE_ID,
        RM_GENERIC_ID,
        RM_GIN_ID,
        RM_GIST_ID,
        RM_HASH_ID,
        RM_HEAP2_ID,
        RM_HEAP_ID,
        RM_SEQ_ID,
        RM_SPGIST_ID,
        RM_XLOG_ID,
        VISIBILITYMAP_FORKNUM,
        XLR_RMGR_INFO_MASK,
        SizeOfXLogRecord,
    )
    from walstream.wal.opcodes import XLOG_HEAP2_VISIBLE

    def append_page(replies: bytearray, page: Bytes) -> int:
        replies += page
        return 0


ZEROS = bytes(BLCKSZ)
_FORKS = {number: name for name, number in FORK_NAMES.items()}


class Engine:
    """Rebuilds pages of one PostgreSQL major version.

    ``stamp_hints`` says whether the cluster has data checksums or wal_log_hints. ``replies`` holds
    8192 bytes for each GetPage and ping answered so far; its owner puts a new bytearray there when
    it has written them (``clear()`` would keep the memory of a large one, which then takes page
    faults for every reply). ``state`` is 0
    between requests, 1 after begin, 2 with a page.

    After an error the page that was being rebuilt is gone: the next message must begin a new one.
    Replies of earlier requests stay, and ``consumed`` is where the message that failed starts.
    """

    def __init__(self, version: int, stamp_hints: bool) -> None:
        if version not in VERSIONS:
            raise ValueError(f"PostgreSQL version: expected one of {VERSIONS}, got {version}")
        self.target = Target(version, stamp_hints)
        self.replies = bytearray()
        self.spc = self.db = self.rel = self.fork = self.block = 0
        self.state = 0
        self.applying = 0
        self.end_lsn = 0
        self.consumed = 0
        self.page = self.target.page

    def process(self, buffer: Bytes, length: int) -> int:
        """Handles the whole messages in ``buffer[:length]``; returns how many bytes they had.

        Stops early when ``replies`` has reached 512 KB: pings and short requests are much smaller
        than their replies.

        Raises:
            RedoProtocolError: bytes that are not a message, or messages in an impossible order.
            RecordError, RedoError: a record that is malformed or cannot be applied to this page.
        """
        if length < 0 or length > len(buffer):
            raise ValueError(f"length: expected at most {len(buffer)}, got {length}")
        if length < SizeOfHead:
            return 0
        return self.run(bytes_of(buffer), length)

    def run(self, p: Bytes, end: int) -> int:
        at = 0
        try:
            while end - at >= SizeOfHead and len(self.replies) < ENOUGH_REPLIES:
                kind = u8(p, at)
                size = be32(p, at + 1)
                self.check_length(kind, size)
                if end - at <= size:
                    break
                if kind == APPLY:
                    record_at = at + SizeOfHead + SizeOfEndLsn
                    end_lsn = be64(p, at + SizeOfHead)
                    self.apply_record(p, record_at, size - APPLY_LENGTH, end_lsn)
                elif kind == BEGIN:
                    self.read_tag(p, at + SizeOfHead)
                elif kind == PUSH:
                    self.check_tag(p, at + SizeOfHead)
                    self.take_page(p, at + SizeOfHead + SizeOfTag)
                elif kind == GET:
                    self.check_tag(p, at + SizeOfHead)
                    self.finish()
                    append_page(self.replies, self.page)
                else:
                    append_page(self.replies, ZEROS)
                at += size + 1
        except (RedoError, RecordError, RedoProtocolError) as error:
            self.consumed = at
            raise self.explain(error) from error
        return at

    def check_length(self, kind: int, size: int) -> int:
        """Raises unless a message of this type can be that long; before the whole of it is here."""
        if kind == APPLY:
            if size < APPLY_LENGTH + SizeOfXLogRecord:
                raise RedoProtocolError(
                    f"ApplyRecord length: expected at least {APPLY_LENGTH + SizeOfXLogRecord}, "
                    f"got {size}"
                )
        elif kind == BEGIN or kind == GET:
            if size != BEGIN_LENGTH:
                raise RedoProtocolError(f"message length: expected {BEGIN_LENGTH}, got {size}")
        elif kind == PUSH:
            if size != PUSH_LENGTH:
                raise RedoProtocolError(f"PushPage length: expected {PUSH_LENGTH}, got {size}")
        elif kind == PING_KIND:
            if size != PING_LENGTH:
                raise RedoProtocolError(f"ping length: expected {PING_LENGTH}, got {size}")
        else:
            raise RedoProtocolError(f"unknown message type 0x{kind:02X}")
        return 0

    def read_tag(self, p: Bytes, at: int) -> int:
        self.fork = u8(p, at)
        self.spc = be32(p, at + 1)
        self.db = be32(p, at + 5)
        self.rel = be32(p, at + 9)
        self.block = be32(p, at + 13)
        self.state = 1
        return 0

    def check_tag(self, p: Bytes, at: int) -> int:
        if self.state == 0:
            raise RedoProtocolError(
                f"message 0x{u8(p, at - SizeOfHead):02X} without BeginRedoForBlock"
            )
        if (
            self.fork != u8(p, at)
            or self.spc != be32(p, at + 1)
            or self.db != be32(p, at + 5)
            or self.rel != be32(p, at + 9)
            or self.block != be32(p, at + 13)
        ):
            raise RedoProtocolError(
                f"message 0x{u8(p, at - SizeOfHead):02X} names another block than BeginRedoForBlock"
            )
        return 0

    def take_page(self, p: Bytes, at: int) -> int:
        move(self.page, 0, p, at, BLCKSZ)
        self.state = 2
        return self.check_page()

    def check_page(self) -> int:
        """Raises unless the page is new or its header is one that PageIsVerified accepts."""
        if pd_upper(self.page) == 0:
            return 0
        if (
            pd_lower(self.page) > pd_upper(self.page)
            or pd_upper(self.page) > pd_special(self.page)
            or pd_special(self.page) > BLCKSZ
        ):
            raise RedoError(
                f"invalid page header: lower = {pd_lower(self.page)}, "
                f"upper = {pd_upper(self.page)}, special = {pd_special(self.page)}"
            )
        return 0

    def finish(self) -> int:
        if self.state != 2:
            raise RedoError("no page: neither a base page nor a record that initialises it")
        self.state = 0
        return 0

    def apply_record(self, p: Bytes, at: int, length: int, end_lsn: int) -> int:
        """Applies the record ``p[at:at + length]`` to the page."""
        if self.state == 0:
            raise RedoProtocolError("ApplyRecord without BeginRedoForBlock")
        t = self.target
        r = t.reader
        self.applying = 1
        self.end_lsn = end_lsn
        if r.read(p, at, length) != 0:
            raise RecordError(r.message(), end_lsn)
        self.applying = 2
        t.p = p
        t.end_lsn = end_lsn
        t.xid = r.xid
        t.rmgr = r.rmgr
        t.info = r.info
        t.op = r.info & XLR_RMGR_INFO_MASK
        t.fork = self.fork
        t.block = self.block
        t.main_at = r.main_at
        t.main_length = r.main_length
        n = r.block_count
        i = 0
        while i < n and not (
            r.block_number[i] == self.block
            and r.block_rel[i] == self.rel
            and r.block_fork[i] == self.fork
            and r.block_db[i] == self.db
            and r.block_spc[i] == self.spc
        ):
            i += 1
        if i == n:
            self.apply_implicit(t)
            self.applying = 0
            return 0
        t.i = i
        t.block_id = r.block_id[i]
        t.data_at = r.data_at[i]
        t.data_length = r.data_length[i]
        t.will_init = (r.block_flags[i] & BKPBLOCK_WILL_INIT) != 0
        if r.block_flags[i] & BKPBLOCK_HAS_IMAGE and r.image_apply[i]:
            restore_into(
                p,
                r.image_at[i],
                r.image_length[i],
                r.hole_offset[i],
                r.hole_length[i],
                r.image_compression[i],
                self.page,
                0,
            )
            self.state = 2
            self.check_page()
            # A page that is still new keeps LSN 0, as XLogReadBufferForRedoExtended leaves it.
            if pd_upper(self.page) != 0:
                set_pd_lsn(self.page, end_lsn)
                if t.rmgr == RM_GIST_ID:
                    gist_after_image(t)
            self.applying = 0
            return 0
        if t.will_init:
            fill(self.page, 0, BLCKSZ, 0)
            self.state = 2
        elif self.state == 1:
            # The only reference that PostgreSQL reads with RBM_ZERO_ON_ERROR.
            if t.fork != VISIBILITYMAP_FORKNUM:
                raise RedoError("no page to start from: the record does not initialise it")
            fill(self.page, 0, BLCKSZ, 0)
            self.state = 2
        elif end_lsn <= pd_lsn(self.page):
            self.applying = 0
            return 0
        elif pd_upper(self.page) == 0:
            # A hint's record that lost its image to full_page_writes = off never looks at the page.
            if t.fork != VISIBILITYMAP_FORKNUM and t.rmgr != RM_XLOG_ID:
                raise RedoError("the page to start from is new (all zeros)")
        else:
            self.check_page()
        if self.dispatch(t) != 0:
            set_pd_lsn(self.page, end_lsn)
        self.applying = 0
        return 0

    def apply_implicit(self, t: Target) -> int:
        """Applies a record that changes the page without naming it."""
        if self.fork != VISIBILITYMAP_FORKNUM:
            raise RedoError("the record does not refer to this block")
        if self.state != 2:
            raise RedoError("no page to start from: the record does not initialise it")
        if pd_upper(self.page) != 0:
            self.check_page()
        visibility_redo(t, self.spc, self.db, self.rel)
        return 0

    def dispatch(self, t: Target) -> int:
        """Calls the rule; returns 1 where the page gets the record's LSN."""
        rmgr = t.rmgr
        if t.fork == VISIBILITYMAP_FORKNUM and (
            rmgr == RM_HEAP_ID or (rmgr == RM_HEAP2_ID and t.op != XLOG_HEAP2_VISIBLE)
        ):
            return visibility_redo(t, self.spc, self.db, self.rel)
        if rmgr == RM_HEAP_ID:
            return heap_redo(t)
        if rmgr == RM_BTREE_ID:
            return btree_redo(t)
        if rmgr == RM_HEAP2_ID:
            return heap2_redo(t)
        if rmgr == RM_HASH_ID:
            return hash_redo(t)
        if rmgr == RM_GIN_ID:
            return gin_redo(t)
        if rmgr == RM_GIST_ID:
            return gist_redo(t)
        if rmgr == RM_SEQ_ID:
            return sequence_redo(t)
        if rmgr == RM_SPGIST_ID:
            return spgist_redo(t)
        if rmgr == RM_BRIN_ID:
            return brin_redo(t)
        if rmgr == RM_GENERIC_ID:
            return generic_redo(t)
        if rmgr == RM_XLOG_ID:
            return xlog_redo(t)
        raise UnsupportedRecord("the resource manager has no redo rule")

    def explain(self, error: Exception) -> Exception:
        """Returns the error with its place in the message; forgets the page."""
        message = f"{error} ({self.tag_text()})"
        if self.applying:
            t = self.target
            if self.applying == 1:
                message = f"record ending at {format_lsn(self.end_lsn)}: {message}"
            else:
                name = f"{rmgr_name(t.rmgr)} {operation_name(t.rmgr, t.op, t.version)}"
                message = f"{name} ending at {format_lsn(self.end_lsn)}: {message}"
        self.applying = 0
        self.state = 0
        if isinstance(error, RecordError):
            return RecordError(message, error.lsn)
        return type(error)(message)

    def tag_text(self) -> str:
        if self.state == 0:
            return "no block"
        fork = _FORKS.get(self.fork, self.fork)
        return f"block {self.block} of {self.spc}/{self.db}/{self.rel} {fork}"

    def begin(self, tag: BufferTag) -> None:
        """Starts to rebuild the page that ``tag`` names (BeginRedoForBlock)."""
        self.spc, self.db, self.rel, self.fork, self.block = tag
        self.state = 1

    def push_page(self, page: bytes) -> None:
        """Gives the page to start from (PushPage)."""
        if len(page) != BLCKSZ:
            raise ValueError(f"page length: expected {BLCKSZ}, got {len(page)}")
        message = b"P\0\0\x20\x15" + self._tag() + page
        self._whole(message)

    def apply(self, end_lsn: int, record: bytes) -> None:
        """Applies one record (ApplyRecord)."""
        size = len(record) + 12
        message = b"A" + size.to_bytes(4, "big") + end_lsn.to_bytes(8, "big") + record
        self._whole(message)

    def get_page(self) -> bytes:
        """Returns the page and ends the request (GetPage)."""
        message = b"G\0\0\0\x15" + self._tag()
        self._whole(message)
        end = len(self.replies)
        page = bytes(self.replies[end - BLCKSZ : end])
        del self.replies[end - BLCKSZ : end]
        return page

    def _whole(self, message: bytes) -> None:
        if self.process(message, len(message)) != len(message):
            raise ValueError(f"replies: expected below 512 KB, got {len(self.replies)} bytes")

    def _tag(self) -> bytes:
        numbers = (self.spc, self.db, self.rel, self.block)
        return bytes((self.fork,)) + b"".join(number.to_bytes(4, "big") for number in numbers)
