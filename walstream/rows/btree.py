"""B-trees: descent to a key, and the heap tuples that its leaves name (nbtsearch.c).

Pages are those of the moment. Sides may have been split or deleted half way there: the high key
says when to go right, as for PostgreSQL's own readers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from struct import Struct
from typing import NamedTuple

from walstream.errors import RowDamaged
from walstream.rows.heap import PAGE_HEADER, AttributeLayout
from walstream.rows.pages import RelationPages
from walstream.rows.varlena import stored_length
from walstream.wal.model import BLCKSZ, RelFileLocator

MAGIC = 0x053162
VERSIONS = (2, 3, 4)
P_NONE = 0

BTP_LEAF, BTP_DELETED, BTP_HALF_DEAD = 0x01, 0x04, 0x10

INDEX_SIZE_MASK, INDEX_ALT_TID, INDEX_HAS_NULLS = 0x1FFF, 0x2000, 0x8000
BT_OFFSET_MASK, BT_IS_POSTING = 0x0FFF, 0x2000
NULLS_BITMAP = 4

_PAGE = Struct("<12xHHHH")
_OPAQUE = Struct("<IIIH")
_ITEM = Struct("<HHHH")
_TID = Struct("<HHH")
_META = Struct("<IIII")

Tid = tuple[int, int]
# Less than 0 where the key of an item (its first columns, None for NULL) is before the one looked
# for, 0 where it is that one.
Compare = Callable[[Sequence[bytes | None]], int]


class BtreePage(NamedTuple):
    """A page that is not the meta page; ``items`` are (offset, length) of its line pointers."""

    data: bytes
    items: list[tuple[int, int]]
    next: int
    level: int
    flags: int

    @property
    def first_data(self) -> int:
        """Where the data begin in ``items``: behind the high key, if there is one."""
        return 0 if self.next == P_NONE else 1


class IndexItem(NamedTuple):
    """An item: key columns, and what it points to (a block below, or heap tuples)."""

    keys: list[bytes | None]
    downlink: int
    tids: tuple[Tid, ...]


def btree_page(page: bytes) -> BtreePage:
    """Returns what stands on a page.

    Raises:
        RowDamaged: it is no page of a B-tree.
    """
    lower, upper, special, _size = _PAGE.unpack_from(page)
    if special != BLCKSZ - 16 or not PAGE_HEADER <= lower <= upper <= special:
        raise RowDamaged(f"B-tree page: lower {lower}, upper {upper}, special {special}")
    _previous, following, level, flags = _OPAQUE.unpack_from(page, special)
    pointers = Struct(f"<{(lower - PAGE_HEADER) // 4}I").unpack_from(page, PAGE_HEADER)
    items = [(pointer & 0x7FFF, pointer >> 17) for pointer in pointers]
    for offset, length in items:
        if offset < upper or length < 8 or offset + length > special:
            raise RowDamaged(f"B-tree page: an item at {offset} of {length} bytes")
    return BtreePage(page, items, following, level, flags)


def index_item(
    page: BtreePage, number: int, layout: Sequence[AttributeLayout], internal: bool
) -> IndexItem:
    """Returns an item of a page; its keys end where they were cut off.

    Raises:
        RowDamaged: it does not fit.
    """
    start, length = page.items[number]
    data = page.data
    high, low, offset, info = _ITEM.unpack_from(data, start)
    end = min(start + (info & INDEX_SIZE_MASK), start + length)
    block = high << 16 | low
    count = len(layout)
    tids: tuple[Tid, ...] = ((block, offset),)
    if info & INDEX_ALT_TID:
        if offset & BT_IS_POSTING:
            at, many = start + block, offset & BT_OFFSET_MASK
            if not start + 8 <= at or at + 6 * many > end:
                raise RowDamaged("B-tree: a posting list beyond its item")
            tids = tuple(_tids(data, at, many))
            end = at
        else:
            count = min(count, offset & BT_OFFSET_MASK)
    elif internal and number == page.first_data:
        count = 0
    bitmap = start + 8 if info & INDEX_HAS_NULLS else 0
    at = start + (16 if bitmap else 8)
    keys: list[bytes | None] = []
    for place in range(count):
        if bitmap and not data[bitmap + (place >> 3)] >> (place & 7) & 1:
            keys.append(None)
            continue
        size, alignment = layout[place]
        # Items begin at multiples of 8.
        if size != -1 or (at < end and data[at] == 0):
            at = (at + alignment - 1) & -alignment
        if size == -1:
            size = stored_length(data, at, end)
        if size < 0 or at + size > end:
            raise RowDamaged("B-tree: a key beyond its item")
        keys.append(data[at : at + size])
        at += size
    return IndexItem(keys, block, tids)


def _tids(data: bytes, at: int, count: int) -> Iterator[Tid]:
    for number in range(count):
        high, low, offset = _TID.unpack_from(data, at + 6 * number)
        yield high << 16 | low, offset


class BtreeSearch:
    """Looks keys up in one index as of the moment of ``pages``."""

    def __init__(
        self, pages: RelationPages, locator: RelFileLocator, layout: Sequence[AttributeLayout]
    ) -> None:
        self._pages = pages
        self._locator = locator
        self._layout = layout
        self._most = 2 * (pages.blocks(locator) or 0) + 16

    async def _page(self, block: int) -> BtreePage:
        self._left -= 1
        if self._left < 0:
            raise RowDamaged(f"B-tree {self._locator}: its pages go in a circle")
        return btree_page(await self._pages.page(self._locator, block))

    async def find(self, compare: Compare) -> list[Tid]:
        """Returns the heap tuples of a key, in the order of the index.

        Raises:
            RowDamaged: the index is damaged.
            WalstreamError: a page cannot be rebuilt.

        Cancellation: nothing is left behind.
        """
        self._left = self._most
        meta = await self._pages.page(self._locator, 0)
        magic, version, block, _level = _META.unpack_from(meta, PAGE_HEADER)
        if magic != MAGIC or version not in VERSIONS:
            raise RowDamaged(f"B-tree {self._locator}: magic 0x{magic:X}, version {version}")
        found: list[Tid] = []
        while block != P_NONE:
            page = await self._page(block)
            if page.flags & (BTP_DELETED | BTP_HALF_DEAD):
                block = page.next
                continue
            if page.next != P_NONE and page.items:
                high_key = index_item(page, 0, self._layout, False).keys
                if high_key and compare(high_key) < 0:
                    block = page.next
                    continue
            if not page.flags & BTP_LEAF:
                block = self._downlink(page, compare)
                continue
            block = P_NONE if self._collect(page, compare, found) else page.next
        return found

    def _downlink(self, page: BtreePage, compare: Compare) -> int:
        """Returns the block below that the key can begin in: of the last item before it."""
        low, high = page.first_data, len(page.items)
        if low >= high:
            raise RowDamaged(f"B-tree {self._locator}: an inner page without items")
        # The first data item is before everything.
        while high - low > 1:
            middle = (low + high) // 2
            if compare(index_item(page, middle, self._layout, True).keys) < 0:
                low = middle
            else:
                high = middle
        return index_item(page, low, self._layout, True).downlink

    def _collect(self, page: BtreePage, compare: Compare, found: list[Tid]) -> bool:
        """Takes the tuples of the key from a leaf; returns whether a later key was met."""
        for number in range(page.first_data, len(page.items)):
            item = index_item(page, number, self._layout, False)
            order = compare(item.keys)
            if order > 0:
                return True
            if order == 0:
                found += item.tids
        return False
