"""Which visibility map bits a heap record clears without naming the map's block.

heap_xlog_insert and its like clear the bits of a heap block on the side: the record refers to the
heap block only, and the map page's LSN does not move.
"""

from __future__ import annotations

from typing import NamedTuple

from walstream.wal.model import BufferTag, XLogRecord

HEAP2, HEAP = 9, 10
ALL_VISIBLE, ALL_FROZEN = 0x01, 0x02
BOTH = ALL_VISIBLE | ALL_FROZEN

# One map byte covers four heap blocks; a map page has 8192 bytes less a header of 24.
MAP_FORK = 2
HEAP_BLOCKS_PER_PAGE = (8192 - 24) * 4

_INSERT, _DELETE, _UPDATE, _HOT_UPDATE, _LOCK = 0x00, 0x10, 0x20, 0x40, 0x60
_MULTI_INSERT, _LOCK_UPDATED = 0x50, 0x60


class MapClear(NamedTuple):
    """The bits ``flags`` of heap block ``heap_block`` are cleared on the map page ``tag``."""

    tag: BufferTag
    heap_block: int
    flags: int


def map_page(heap: BufferTag) -> BufferTag:
    """Returns the visibility map block that holds the bits of a heap block."""
    return heap._replace(fork=MAP_FORK, block=heap.block // HEAP_BLOCKS_PER_PAGE)


def visibility_clears(rmgr_id: int, info: int, main_data: bytes) -> tuple[int, int]:
    """Returns the bits that are cleared for the new and for the old block of a heap record.

    The new block is block reference 0, the old one the last reference (the same where the record
    has one). (0, 0) for every other record, and for a body that is too short.
    """
    op = info & 0x70
    if rmgr_id == HEAP:
        if op == _INSERT and len(main_data) >= 3:
            return (BOTH if main_data[2] & 1 else 0, 0)
        if op == _DELETE and len(main_data) >= 8:
            return (0, BOTH if main_data[7] & 1 else 0)
        if op in (_UPDATE, _HOT_UPDATE) and len(main_data) >= 8:
            flags = main_data[7]
            return (BOTH if flags & 2 else 0, BOTH if flags & 1 else 0)
        if op == _LOCK and len(main_data) >= 8:
            return (0, ALL_FROZEN if main_data[7] & 1 else 0)
    elif rmgr_id == HEAP2:
        if op == _MULTI_INSERT and len(main_data) >= 1:
            return (BOTH if main_data[0] & 1 else 0, 0)
        if op == _LOCK_UPDATED and len(main_data) >= 8:
            return (0, ALL_FROZEN if main_data[7] & 1 else 0)
    return (0, 0)


def map_clears(record: XLogRecord) -> tuple[MapClear, ...]:
    """Returns every visibility map change that ``record`` implies; usually none.

    Two heap blocks may share a map page: then two entries with the same ``tag``. Late minor
    releases of 18 also name the map pages that change, after the heap blocks.
    """
    new, old = visibility_clears(record.rmgr_id, record.info, record.main_data)
    heap = [block for block in record.blocks if block.tag.fork == 0]
    if not (new or old) or not heap:
        return ()
    clears: dict[BufferTag, int] = {}
    for flags, block in ((new, heap[0]), (old, heap[-1])):
        if flags:
            clears[block.tag] = clears.get(block.tag, 0) | flags
    return tuple(MapClear(map_page(tag), tag.block, flags) for tag, flags in clears.items())
