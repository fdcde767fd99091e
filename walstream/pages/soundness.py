"""What must hold of every page by itself, and of the pages of a B-tree together. Pure.

Checked is what does not depend on the types of columns: the header (PageIsVerified), the checksum,
line pointers and the tuples they lead to, and of a B-tree its levels, siblings and downlinks, as
amcheck does. Free space maps may be anything: WAL does not tell of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from struct import unpack_from
from typing import NamedTuple

from walstream.pages.items import PAGE_HEADER, Item, page_header, page_items
from walstream.pages.kinds import page_view
from walstream.pages.kinds.view import number
from walstream.redo.rules.checksum import page_checksum
from walstream.wal.bufpage import PG_PAGE_LAYOUT_VERSION, block_at
from walstream.wal.model import BLCKSZ, ForkNumber

_VALID_FLAGS = 7
_HEAP_HEADER = 23
_MAX_ATTRIBUTES = 1664
_HAS_NULL = 0x0001
_INDEX_SIZE = 0x1FFF
_ALT_TID = 0x2000
_POSTING = 0x2000
_LEAF, _ROOT, _DELETED, _META, _HALF_DEAD = 1, 2, 4, 8, 16
_OPAQUE = BLCKSZ - 16
_HEAP = ("heap page", "sequence")
_FITTED = ("GiST", "hash")


class BtreeLinks(NamedTuple):
    """Where a page of a B-tree leads: its siblings, its level, and the pages below it.

    Of a metapage ``children`` is the root, which may be missing, and ``level`` that of the root.
    """

    before: int
    after: int
    level: int
    flags: int
    children: tuple[int, ...]

    @property
    def is_meta(self) -> bool:
        return bool(self.flags & _META)

    @property
    def is_deleted(self) -> bool:
        return bool(self.flags & _DELETED)


def page_faults(page: bytes, fork: int, block: int, *, checksums: bool) -> list[str]:
    """Returns what is wrong with a page of 8192 bytes, one line each; none for a sound one."""
    header = page_header(page)
    if header.is_new:
        return ["pd_upper is 0, as of a new page, but it is not all zeros"] if any(page) else []
    if checksums:
        expected = page_checksum(page, block)
        if header.checksum != expected:
            return [f"checksum: expected {expected:04X}, got {header.checksum:04X}"]
    faults = []
    if header.pagesize_version != BLCKSZ | PG_PAGE_LAYOUT_VERSION:
        faults.append(f"pd_pagesize_version: expected 2004, got {header.pagesize_version:04X}")
    if header.flags & ~_VALID_FLAGS:
        faults.append(f"pd_flags: {header.flags:#06x} has unknown bits")
    lower, upper, special = header.lower, header.upper, header.special
    if not PAGE_HEADER <= lower <= upper <= special <= BLCKSZ or special % 8:
        faults.append(f"pd_lower {lower}, pd_upper {upper}, pd_special {special} do not fit")
    if faults or fork in (ForkNumber.FSM, ForkNumber.VM):
        return faults
    view = page_view(page, fork, block)
    if view.items and "state" in view.items[0]:
        items = page_items(page)
        faults += _pointer_faults(items, upper, special)
        if not faults:
            faults += _tuple_faults(view.kind, items)
    if not faults and view.kind.startswith("B-tree"):
        faults += _btree_faults(page, block)
    return faults


def _pointer_faults(items: list[Item], upper: int, special: int) -> Iterator[str]:
    """Line pointers: within the page, aligned, and no two tuples over each other."""
    stored = []
    for item in items:
        name = f"line pointer {item.offset_number}"
        if item.state == "redirect":
            target = item.offset
            if not 1 <= target <= len(items) or items[target - 1].state != "normal":
                yield f"{name}: redirects to {target}, which is no tuple"
        elif item.length:
            end = item.offset + item.length
            if item.state == "unused":
                yield f"{name}: is unused, and has {item.length} bytes"
            elif item.offset % 8 or item.offset < upper or end > special:
                yield f"{name}: bytes {item.offset} to {end} are outside of {upper} to {special}"
            else:
                stored.append((item.offset, end, name))
        elif item.state == "normal":
            yield f"{name}: has no tuple"
    stored.sort()
    for (_, end, before), (begin, _, name) in itertools.pairwise(stored):
        if begin < end:
            yield f"{name}: its tuple lies over that of {before}"


def _tuple_faults(kind: str, items: list[Item]) -> Iterator[str]:
    """The headers of tuples: as long as they say."""
    for item in items:
        if not item.data:
            continue
        name = f"tuple {item.offset_number}"
        data, length = item.data, item.length
        if kind in _HEAP:
            if length < _HEAP_HEADER + 1:
                yield f"{name}: {length} bytes are too short for a tuple"
                continue
            attributes, mask, hoff = number(data, 18, 2) & 0x7FF, number(data, 20, 2), data[22]
            needed = _HEAP_HEADER + (attributes + 7 >> 3 if mask & _HAS_NULL else 0)
            if hoff % 8 or not needed <= hoff <= length:
                yield f"{name}: t_hoff {hoff}, expected {needed} to {length} and a multiple of 8"
            elif attributes > _MAX_ATTRIBUTES:
                yield f"{name}: {attributes} attributes"
        elif kind.startswith(("B-tree", *_FITTED)):
            said = number(data, 6, 2) & _INDEX_SIZE
            exact = kind.startswith("B-tree")
            if length < 8 or (said != length if exact else not 8 <= said <= length):
                yield f"{name}: its size is {said}, its line pointer says {length}"


def _btree_faults(page: bytes, block: int) -> Iterator[str]:
    links = btree_links(page)
    assert links is not None
    if links.is_meta or links.is_deleted:
        return
    leaf = bool(links.flags & _LEAF)
    if leaf != (links.level == 0):
        yield f"level {links.level} of {'a leaf' if leaf else 'an internal'} page"
    if block in (links.before, links.after):
        yield "is a sibling of its own"
    items = page_items(page)
    first = 0 if links.after == 0 else 1
    if len(items) < first:
        yield "has a right sibling, and no high key"
    for item in items:
        if item.state not in ("normal", "dead"):
            yield f"line pointer {item.offset_number} is {item.state}"
    if leaf:
        if not links.flags & _HALF_DEAD:
            for item in items[first:]:
                yield from _heap_pointer_faults(item)
        return
    if len(items) <= first:
        yield "is an internal page without a downlink"
    elif items[first].length != 8:
        yield f"the first downlink has a key: {items[first].length} bytes"
    if block in links.children or 0 in links.children:
        yield "leads to itself or to the metapage"
    if len(set(links.children)) != len(links.children):
        yield "leads to one page twice"


def _heap_pointer_faults(item: Item) -> Iterator[str]:
    """The heap pointers of a leaf's tuple: there is one, and those of a posting list ascend."""
    data, name = item.data, f"tuple {item.offset_number}"
    offset = number(data, 4, 2)
    if not number(data, 6, 2) & _ALT_TID:
        if not offset:
            yield f"{name}: points to no row"
        return
    count, at = offset & 0x0FFF, block_at(data, 0)
    if not offset & _POSTING or count == 0 or at + 6 * count > len(data):
        yield f"{name}: a posting list of {count} at byte {at} of {len(data)}"
        return
    pointers = [(block_at(data, i), number(data, i + 4, 2)) for i in range(at, at + 6 * count, 6)]
    if any(right <= left for left, right in itertools.pairwise(pointers)):
        yield f"{name}: its heap pointers do not ascend"


def btree_links(page: bytes) -> BtreeLinks | None:
    """Returns where a page of a main fork leads, None where it is no page of a B-tree."""
    view = page_view(page)
    if not view.kind.startswith("B-tree"):
        return None
    before, after, level, flags = unpack_from("<IIIH", page, _OPAQUE)
    if flags & _META:
        root, level = unpack_from("<II", page, 32)
        return BtreeLinks(0, 0, level, flags, (root,) if root else ())
    if flags & (_LEAF | _DELETED):
        return BtreeLinks(before, after, level, flags, ())
    items = page_items(page)[0 if after == 0 else 1 :]
    children = tuple(block_at(item.data, 0) for item in items if len(item.data) >= 8)
    return BtreeLinks(before, after, level, flags, children)


def tree_faults(links: Mapping[int, BtreeLinks], blocks: int) -> Iterator[tuple[int, str]]:
    """Yields block and fault of the pages of one B-tree that do not fit together.

    Only what stands between pages that are both in ``links`` is told; the tree has ``blocks``.
    """
    for block, page in links.items():
        if page.is_deleted:
            continue
        for child in page.children:
            below = links.get(child)
            level = page.level if page.is_meta else page.level - 1
            if child >= blocks:
                yield block, f"leads to block {child}, the index has {blocks}"
            elif below is not None and (below.is_deleted or below.is_meta or below.level != level):
                state = "deleted" if below.is_deleted else f"of level {below.level}"
                yield block, f"leads to block {child}, which is {state}, expected level {level}"
            elif page.is_meta and below is not None and not below.flags & _ROOT:
                yield block, f"its root {child} is no root"
        if page.after >= blocks and not page.is_meta:
            yield block, f"its right sibling is block {page.after}, the index has {blocks}"
        right = links.get(page.after) if page.after else None
        if right is None:
            continue
        if right.is_deleted or right.before != block or right.level != page.level:
            state = "deleted" if right.is_deleted else f"level {right.level} behind {right.before}"
            yield block, f"its right sibling {page.after} is {state}, not level {page.level}"
