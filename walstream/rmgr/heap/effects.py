"""What bodies of heap records say beside their block references: cleared bits, pruned items.

Known here once, for descriptions, index and redo.

Records of heap_xlog_insert and its like clear bits of the visibility map through flags in their
main data. Servers up to 18.4 do not name the map's page then, and its LSN does not move; later
minor releases name it, after the heap's blocks. So it is always the heap's blocks that tell which
bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cython

from walstream.errors import RecordError

if TYPE_CHECKING:
    from walstream.wal.buffer import Bytes
    from walstream.wal.record import RecordReader
if not cython.compiled:
    from walstream.rmgr.heap.layout import (
        OLD_BLOCK_SHIFT,
        SizeOfFreezePlan,
        SizeOfHeapDelete,
        SizeOfHeapInsert,
        SizeOfHeapLock,
        SizeOfHeapLockUpdated,
        SizeOfHeapMultiInsert,
        SizeOfHeapUpdate,
        xl_heap_delete_flags,
        xl_heap_insert_flags,
        xl_heap_lock_flags,
        xl_heap_lock_updated_flags,
        xl_heap_multi_insert_flags,
        xl_heap_update_flags,
    )
    from walstream.wal.buffer import bytes_of, u8, u16
    from walstream.wal.layout import MAIN_FORKNUM, RM_HEAP2_ID, RM_HEAP_ID
    from walstream.wal.opcodes import (
        VISIBILITYMAP_ALL_FROZEN,
        VISIBILITYMAP_VALID_BITS,
        XLH_DELETE_ALL_VISIBLE_CLEARED,
        XLH_INSERT_ALL_VISIBLE_CLEARED,
        XLH_LOCK_ALL_FROZEN_CLEARED,
        XLH_UPDATE_NEW_ALL_VISIBLE_CLEARED,
        XLH_UPDATE_OLD_ALL_VISIBLE_CLEARED,
        XLHP_HAS_DEAD_ITEMS,
        XLHP_HAS_FREEZE_PLANS,
        XLHP_HAS_NOW_UNUSED_ITEMS,
        XLHP_HAS_REDIRECTIONS,
        XLOG_HEAP2_LOCK_UPDATED,
        XLOG_HEAP2_MULTI_INSERT,
        XLOG_HEAP_DELETE,
        XLOG_HEAP_HOT_UPDATE,
        XLOG_HEAP_INSERT,
        XLOG_HEAP_LOCK,
        XLOG_HEAP_OPMASK,
        XLOG_HEAP_UPDATE,
    )


def cleared_bits(p: Bytes, at: int, length: int, rmgr: int, info: int) -> int:
    """Returns the visibility map bits that a record clears; ``p[at:at + length]`` is its main data.

    Those of the heap block that gets a tuple, and, ``<< OLD_BLOCK_SHIFT``, those of the block whose
    tuple goes or is locked: see ``new_heap_block`` and ``old_heap_block``. 0 for all other records,
    -1 where the main data is too short for its operation.
    """
    op = info & XLOG_HEAP_OPMASK
    if rmgr == RM_HEAP_ID:
        # heap_xlog_insert
        if op == XLOG_HEAP_INSERT:
            if length < SizeOfHeapInsert:
                return -1
            if u8(p, at + xl_heap_insert_flags) & XLH_INSERT_ALL_VISIBLE_CLEARED:
                return VISIBILITYMAP_VALID_BITS
            return 0
        # heap_xlog_update
        if op == XLOG_HEAP_UPDATE or op == XLOG_HEAP_HOT_UPDATE:
            if length < SizeOfHeapUpdate:
                return -1
            flags = u8(p, at + xl_heap_update_flags)
            bits = 0
            if flags & XLH_UPDATE_NEW_ALL_VISIBLE_CLEARED:
                bits = VISIBILITYMAP_VALID_BITS
            if flags & XLH_UPDATE_OLD_ALL_VISIBLE_CLEARED:
                bits |= VISIBILITYMAP_VALID_BITS << OLD_BLOCK_SHIFT
            return bits
        # heap_xlog_delete
        if op == XLOG_HEAP_DELETE:
            if length < SizeOfHeapDelete:
                return -1
            if u8(p, at + xl_heap_delete_flags) & XLH_DELETE_ALL_VISIBLE_CLEARED:
                return VISIBILITYMAP_VALID_BITS << OLD_BLOCK_SHIFT
            return 0
        # heap_xlog_lock: a locked tuple stays visible to all, it is no longer frozen.
        if op == XLOG_HEAP_LOCK:
            if length < SizeOfHeapLock:
                return -1
            if u8(p, at + xl_heap_lock_flags) & XLH_LOCK_ALL_FROZEN_CLEARED:
                return VISIBILITYMAP_ALL_FROZEN << OLD_BLOCK_SHIFT
            return 0
    elif rmgr == RM_HEAP2_ID:
        # heap_xlog_multi_insert
        if op == XLOG_HEAP2_MULTI_INSERT:
            if length < SizeOfHeapMultiInsert:
                return -1
            if u8(p, at + xl_heap_multi_insert_flags) & XLH_INSERT_ALL_VISIBLE_CLEARED:
                return VISIBILITYMAP_VALID_BITS
            return 0
        # heap_xlog_lock_updated
        if op == XLOG_HEAP2_LOCK_UPDATED:
            if length < SizeOfHeapLockUpdated:
                return -1
            if u8(p, at + xl_heap_lock_updated_flags) & XLH_LOCK_ALL_FROZEN_CLEARED:
                return VISIBILITYMAP_ALL_FROZEN << OLD_BLOCK_SHIFT
            return 0
    return 0


def visibility_clears(rmgr: int, info: int, main_data: bytes) -> tuple[int, int]:
    """Returns ``cleared_bits`` of the new and of the old block; nothing of a body too short."""
    bits = cleared_bits(bytes_of(main_data), 0, len(main_data), rmgr, info)
    if bits < 0:
        return (0, 0)
    return (bits & VISIBILITYMAP_VALID_BITS, bits >> OLD_BLOCK_SHIFT)


def new_heap_block(reader: RecordReader) -> int:
    """Returns which block reference is the heap block that gets a tuple, -1: there is none."""
    for i in range(reader.block_count):
        if reader.block_fork[i] == MAIN_FORKNUM:
            return i
    return -1


def old_heap_block(reader: RecordReader) -> int:
    """Returns which block reference is the heap block of the old tuple, -1: there is none.

    The last of the main fork; the new one's where a record has one heap block only.
    """
    i: int = reader.block_count - 1
    while i >= 0 and reader.block_fork[i] != MAIN_FORKNUM:
        i -= 1
    return i


class PruneParts:
    """Where the parts of the block data of a record of pruning and freezing lie.

    Of each part how many items there are, and the offset of the first: freeze plans of
    ``SizeOfFreezePlan`` bytes, redirections (from u16, to u16), offset numbers u16 of items that
    are dead and of those that are unused now. ``offsets_at``: the offset numbers u16 of the tuples
    of all freeze plans, to the end of the data; a plan says how many are its own.

    One is used again and again: it holds what the last ``find`` has found.
    """

    def find(self, p: Bytes, at: int, length: int, flags: int) -> int:
        """Finds the parts of a PRUNE of 17 and later; returns 0, -1: they are longer than the data.

        Mirrors heap_xlog_deserialize_prune_and_freeze: each part is there only where ``flags`` of
        the main data say so. Plans (count u16, padding u16, plans), redirections (count u16,
        pairs), dead and unused items (count u16, offset numbers), offset numbers of the plans.
        """
        end = at + length
        self.plans = self.redirected = self.dead = self.unused = 0
        self.plans_at = self.redirected_at = self.dead_at = self.unused_at = at
        if flags & XLHP_HAS_FREEZE_PLANS:
            if end - at < 2:
                return -1
            self.plans = u16(p, at)
            self.plans_at = at + 4
            at = self.plans_at + SizeOfFreezePlan * self.plans
        if flags & XLHP_HAS_REDIRECTIONS:
            if end - at < 2:
                return -1
            self.redirected = u16(p, at)
            self.redirected_at = at + 2
            at = self.redirected_at + 4 * self.redirected
        if flags & XLHP_HAS_DEAD_ITEMS:
            if end - at < 2:
                return -1
            self.dead = u16(p, at)
            self.dead_at = at + 2
            at = self.dead_at + 2 * self.dead
        if flags & XLHP_HAS_NOW_UNUSED_ITEMS:
            if end - at < 2:
                return -1
            self.unused = u16(p, at)
            self.unused_at = at + 2
            at = self.unused_at + 2 * self.unused
        self.offsets_at = at
        return 0 if at <= end else -1

    def find_counted(self, at: int, length: int, redirected: int, dead: int) -> int:
        """Finds the parts of a PRUNE of 14 to 16; returns 0, -1: they are longer than the data.

        Mirrors heap_xlog_prune: the main data has the counts, the rest of the data is unused items.
        """
        self.plans = 0
        self.redirected = redirected
        self.dead = dead
        self.plans_at = self.redirected_at = at
        self.dead_at = at + 4 * redirected
        self.unused_at = self.dead_at + 2 * dead
        rest = at + length - self.unused_at
        if rest < 0:
            return -1
        self.unused = rest // 2
        self.offsets_at = self.unused_at + 2 * self.unused
        return 0

    def find_bytes(self, data: bytes, flags: int) -> None:
        """As ``find`` in all of ``data``.

        Raises:
            RecordError: the parts are longer than the data.
        """
        if self.find(bytes_of(data), 0, len(data), flags) != 0:
            raise RecordError("record body too short: items beyond the data of block 0")
