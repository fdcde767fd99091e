"""GIN pages: GinPageOpaqueData (8 bytes), metapage, entry and posting tree pages, pending list."""

from __future__ import annotations

from struct import unpack_from
from typing import Any

from walstream.pages.items import page_header, page_items
from walstream.pages.kinds.index import base_item
from walstream.pages.kinds.view import PageView, names, number, tid
from walstream.wal.model import BLCKSZ

_DATA, _LEAF, _DELETED, _META, _LIST, _COMPRESSED = 1, 2, 4, 8, 16, 128
FLAGS = (
    (_DATA, "data"), (_LEAF, "leaf"), (_DELETED, "deleted"), (_META, "meta"), (_LIST, "list"),
    (32, "list_fullrow"), (64, "incomplete_split"), (_COMPRESSED, "compressed"),
)  # fmt: skip


def is_gin(page: bytes) -> bool:
    return number(page, BLCKSZ - 2, 2) & ~0xFF == 0


def gin_page(page: bytes) -> PageView:
    right, maxoff, flags = unpack_from("<IHH", page, BLCKSZ - 8)
    fields: dict[str, Any] = {"rightlink": right, "maxoff": maxoff, "flags": names(flags, FLAGS)}
    if flags & _META:
        keys = (
            "pending_head", "pending_tail", "tail_free_size", "n_pending_pages",
            "n_pending_tuples", "n_total_pages", "n_entry_pages", "n_data_pages",
        )  # fmt: skip
        fields = dict(zip(keys, unpack_from("<IIIIqIII", page, 24), strict=True))
        fields["n_entries"], fields["version"] = unpack_from("<qi", page, 64)
        return PageView("GIN metapage", fields, [])
    if flags & _DELETED:
        return PageView("GIN deleted page", fields, [])
    leaf = "leaf" if flags & _LEAF else "internal"
    if flags & _DATA:
        fields["right_bound"] = tid(page, 24)
        if not flags & _LEAF:
            items = posting_items(page, maxoff)
        elif flags & _COMPRESSED:
            items = posting_lists(page)
        else:
            items = []
        return PageView(f"GIN posting tree {leaf} page", fields, items)
    items = []
    for item in page_items(page):
        shown = base_item(item)
        if len(item.data) >= 8:
            shown |= {"tid": tid(item.data), "data": item.data[8:]}
        items.append(shown)
    kind = "pending list" if flags & _LIST else f"entry tree {leaf}"
    return PageView(f"GIN {kind} page", fields, items)


def posting_items(page: bytes, count: int) -> list[dict[str, Any]]:
    """Returns the downlinks of an internal page of a posting tree (PostingItem, 10 bytes)."""
    items = []
    for i in range(min(count, (BLCKSZ - 40) // 10)):
        at = 32 + 10 * i
        child = number(page, at, 2) << 16 | number(page, at + 2, 2)
        items.append({"offset": i + 1, "child": child, "key": tid(page, at + 4)})
    return items


def posting_lists(page: bytes) -> list[dict[str, Any]]:
    """Returns the compressed posting lists of a leaf (GinPostingList)."""
    items = []
    at, end = 32, min(page_header(page).lower, BLCKSZ - 8)
    while at + 8 <= end:
        size = number(page, at + 6, 2)
        if at + 8 + size > end:
            break
        tids = unpacked(page, at, size)
        items.append({"first_tid": tids[0], "nbytes": size, "tids": tids})
        at += 8 + size + (size & 1)
    return items


def unpacked(page: bytes, at: int, size: int) -> list[str]:
    """Returns the item pointers of a posting list: varbyte differences, 11 bits of offset."""
    high, low, offset = unpack_from("<HHH", page, at)
    value = (high << 16 | low) << 11 | offset
    found = [tid(page, at)]
    delta = shift = 0
    for byte in page[at + 8 : at + 8 + size]:
        delta |= (byte & 0x7F if shift < 42 else byte) << shift
        if byte & 0x80 and shift < 42:
            shift += 7
            continue
        value += delta
        found.append(f"({value >> 11},{value & 2047})")
        delta = shift = 0
    return found
