"""What a redo rule gets: one record and the one page that it has to change.

The engine owns one ``Target`` and fills it in for each record. A rule is one function a module,
``cdef int heap_redo(Target t) except -1``: it reads ``t.p``, changes ``t.page`` and returns 1 where
the page shall get the record's end LSN, 0 where the page keeps its LSN. It raises ``RedoError``
with a bare sentence; the engine adds resource manager, operation, block and LSN.

Before it calls a rule the engine has checked the version, found the block reference that names the
page, restored an image that has the apply flag (then no rule runs), zeroed the page for a
WILL_INIT reference, and skipped records whose end LSN is not above pd_lsn. A base page was checked:
pd_lower <= pd_upper <= pd_special <= 8192, or all zeros.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cython

from walstream.errors import RedoError
from walstream.rmgr.heap.effects import PruneParts
from walstream.wal.record import RecordReader

if TYPE_CHECKING:
    from walstream.wal.buffer import Bytes, Writable
if not cython.compiled:
    from walstream.wal.buffer import writable_of
    from walstream.wal.bufpage import BLCKSZ


class Target:
    """One page and the record to apply to it; reused.

    ``p`` is the buffer that holds the record: every ``*_at`` (also those of ``reader``) is an
    offset into it. ``page`` is 8192 writable bytes. ``scratch`` is 8192 bytes that a rule may use
    for a temporary page; nothing survives in it from one call to the next. ``i`` is the index of
    the block reference in ``reader``; ``block_id`` the id that the record gives it; ``block`` and
    ``fork`` where the page lies. ``op`` is ``info & 0xF0``. ``data_at`` and ``data_length`` are the
    block's own data, ``main_at`` and ``main_length`` the record's main data. ``pruned`` is for the
    rules of pruning, which note there where its parts lie. ``stamp_hints`` says whether the cluster
    has checksums or wal_log_hints.
    """

    def __init__(self, version: int, stamp_hints: bool) -> None:
        self.version = version
        self.stamp_hints = stamp_hints
        self.reader = RecordReader(version)
        self.i = self.block_id = self.block = self.fork = 0
        self.will_init = False
        self.end_lsn = self.xid = self.rmgr = self.info = self.op = 0
        self.data_at = self.data_length = self.main_at = self.main_length = 0
        # Allocations of their own, so that AddressSanitizer sees who writes beyond them.
        self.page_memory = bytearray(BLCKSZ)
        self.scratch_memory = bytearray(BLCKSZ)
        self.page: Writable = writable_of(self.page_memory)
        self.scratch: Writable = writable_of(self.scratch_memory)
        self.pruned = PruneParts()
        if not cython.compiled:
            self.p: Bytes = b""

    def need_main(self, length: int) -> int:
        """Raises unless the main data has at least ``length`` bytes."""
        if self.main_length < length:
            raise RedoError(
                f"main data too short: expected at least {length} bytes, got {self.main_length}"
            )
        return 0

    def need_data(self, length: int) -> int:
        """Raises unless the block's data has at least ``length`` bytes."""
        if self.data_length < length:
            raise RedoError(
                f"block data too short: expected at least {length} bytes, got {self.data_length}"
            )
        return 0

    def no_block(self) -> int:
        """Raises: records of this operation do not refer to their page by this block id."""
        raise RedoError(f"operation does not change block {self.block_id}")

    def block_number(self, block_id: int) -> int:
        """Returns the block number of another reference, -1 where there is none."""
        i = self.reader.find_block(block_id)
        if i < 0:
            return -1
        return self.reader.block_number[i]

    def need_block(self, block_id: int) -> int:
        """Returns the block number of another reference, which must be there."""
        i = self.reader.find_block(block_id)
        if i < 0:
            raise RedoError(f"record has no block {block_id}")
        return self.reader.block_number[i]
