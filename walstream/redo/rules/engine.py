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
from walstream.wal.layout import VERSIONS, rmgr_name
from walstream.wal.model import FORK_NAMES, BufferTag, format_lsn

if TYPE_CHECKING:
    from walstream.wal.buffer import Bytes
if not cython.compiled:
    from walstream.redo.rules.brin import brin_redo
    from walstream.redo.rules.btree import btree_redo
    from walstream.redo.rules.generic import generic_redo
    from walstream.redo.rules.gin import gin_redo
    from walstream.redo.rules.gist import gist_after_image, gist_redo
    from walstream.redo.rules.hash import hash_redo
    from walstream.redo.rules.heap import heap_redo
    from walstream.redo.rules.heap2 import heap2_redo
    from walstream.redo.rules.page import page_lsn, set_page_lsn
    from walstream.redo.rules.sequence import sequence_redo
    from walstream.redo.rules.spgist import spgist_redo
    from walstream.redo.rules.visibility import visibility_redo
    from walstream.redo.rules.xlog import xlog_redo
    from walstream.wal.buffer import be32, be64, bytes_of, fill, move, u8, u16
    from walstream.wal.image import restore_into

    def append_page(replies: bytearray, page: Bytes) -> int:
        replies += page
        return 0


ZEROS = bytes(8192)
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
        if length < 5:
            return 0
        return self.run(bytes_of(buffer), length)

    def run(self, p: Bytes, end: int) -> int:
        at = 0
        try:
            while end - at >= 5 and len(self.replies) < 524288:
                kind = u8(p, at)
                size = be32(p, at + 1)
                self.check_length(kind, size)
                if end - at <= size:
                    break
                if kind == 0x41:
                    self.apply_record(p, at + 13, size - 12, be64(p, at + 5))
                elif kind == 0x42:
                    self.read_tag(p, at + 5)
                elif kind == 0x50:
                    self.check_tag(p, at + 5)
                    self.take_page(p, at + 22)
                elif kind == 0x47:
                    self.check_tag(p, at + 5)
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
        if kind == 0x41:  # A
            if size < 36:
                raise RedoProtocolError(f"ApplyRecord length: expected at least 36, got {size}")
        elif kind == 0x42 or kind == 0x47:  # B, G
            if size != 21:
                raise RedoProtocolError(f"message length: expected 21, got {size}")
        elif kind == 0x50:  # P
            if size != 8213:
                raise RedoProtocolError(f"PushPage length: expected 8213, got {size}")
        elif kind == 0x48:  # H
            if size != 4:
                raise RedoProtocolError(f"ping length: expected 4, got {size}")
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
            raise RedoProtocolError(f"message 0x{u8(p, at - 5):02X} without BeginRedoForBlock")
        if (
            self.fork != u8(p, at)
            or self.spc != be32(p, at + 1)
            or self.db != be32(p, at + 5)
            or self.rel != be32(p, at + 9)
            or self.block != be32(p, at + 13)
        ):
            raise RedoProtocolError(
                f"message 0x{u8(p, at - 5):02X} names another block than BeginRedoForBlock"
            )
        return 0

    def take_page(self, p: Bytes, at: int) -> int:
        move(self.page, 0, p, at, 8192)
        self.state = 2
        return self.check_page()

    def check_page(self) -> int:
        """Raises unless the page is new or its header is one that PageIsVerified accepts."""
        if u16(self.page, 14) == 0:
            return 0
        if (
            u16(self.page, 12) > u16(self.page, 14)
            or u16(self.page, 14) > u16(self.page, 16)
            or u16(self.page, 16) > 8192
        ):
            raise RedoError(
                f"invalid page header: lower = {u16(self.page, 12)}, "
                f"upper = {u16(self.page, 14)}, special = {u16(self.page, 16)}"
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
        t.op = r.info & 0xF0
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
        t.will_init = (r.block_flags[i] & 0x40) != 0
        if r.block_flags[i] & 0x10 and r.image_apply[i]:
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
            if u16(self.page, 14) != 0:
                set_page_lsn(self.page, end_lsn)
                if t.rmgr == 14:
                    gist_after_image(t)
            self.applying = 0
            return 0
        if t.will_init:
            fill(self.page, 0, 8192, 0)
            self.state = 2
        elif self.state == 1:
            # The only reference that PostgreSQL reads with RBM_ZERO_ON_ERROR.
            if t.fork != 2:
                raise RedoError("no page to start from: the record does not initialise it")
            fill(self.page, 0, 8192, 0)
            self.state = 2
        elif end_lsn <= page_lsn(self.page):
            self.applying = 0
            return 0
        elif u16(self.page, 14) == 0:
            # A hint's record that lost its image to full_page_writes = off never looks at the page.
            if t.fork != 2 and t.rmgr != 0:
                raise RedoError("the page to start from is new (all zeros)")
        else:
            self.check_page()
        if self.dispatch(t) != 0:
            set_page_lsn(self.page, end_lsn)
        self.applying = 0
        return 0

    def apply_implicit(self, t: Target) -> int:
        """Applies a record that changes the page without naming it."""
        if self.fork != 2:
            raise RedoError("the record does not refer to this block")
        if self.state != 2:
            raise RedoError("no page to start from: the record does not initialise it")
        if u16(self.page, 14) != 0:
            self.check_page()
        visibility_redo(t, self.spc, self.db, self.rel)
        return 0

    def dispatch(self, t: Target) -> int:
        """Calls the rule; returns 1 where the page gets the record's LSN."""
        rmgr = t.rmgr
        if t.fork == 2 and (rmgr == 10 or (rmgr == 9 and t.op != 0x40)):
            return visibility_redo(t, self.spc, self.db, self.rel)
        if rmgr == 10:
            return heap_redo(t)
        if rmgr == 11:
            return btree_redo(t)
        if rmgr == 9:
            return heap2_redo(t)
        if rmgr == 12:
            return hash_redo(t)
        if rmgr == 13:
            return gin_redo(t)
        if rmgr == 14:
            return gist_redo(t)
        if rmgr == 15:
            return sequence_redo(t)
        if rmgr == 16:
            return spgist_redo(t)
        if rmgr == 17:
            return brin_redo(t)
        if rmgr == 20:
            return generic_redo(t)
        if rmgr == 0:
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
        if len(page) != 8192:
            raise ValueError(f"page length: expected 8192, got {len(page)}")
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
        page = bytes(self.replies[end - 8192 : end])
        del self.replies[end - 8192 : end]
        return page

    def _whole(self, message: bytes) -> None:
        if self.process(message, len(message)) != len(message):
            raise ValueError(f"replies: expected below 512 KB, got {len(self.replies)} bytes")

    def _tag(self) -> bytes:
        numbers = (self.spc, self.db, self.rel, self.block)
        return bytes((self.fork,)) + b"".join(number.to_bytes(4, "big") for number in numbers)
