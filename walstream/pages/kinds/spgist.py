"""SP-GiST pages: SpGistPageOpaqueData (8 bytes, page id FF82), metapage, inner and leaf tuples."""

from __future__ import annotations

from struct import unpack_from
from typing import Any

from walstream.pages.items import Item, page_items
from walstream.pages.kinds.index import base_item
from walstream.pages.kinds.view import PageView, names, number, tid
from walstream.wal.model import BLCKSZ

PAGE_ID = 0xFF82
MAGIC = 0xBA0BABEE
FLAGS = ((1, "meta"), (2, "deleted"), (4, "leaf"), (8, "nulls"))
STATES = ("live", "redirect", "dead", "placeholder")


def spgist_page(page: bytes) -> PageView | None:
    flags, redirections, placeholders = unpack_from("<HHH", page, BLCKSZ - 8)
    if flags & 1:
        if number(page, 24, 4) != MAGIC:
            return None
        pairs = unpack_from("<" + "Ii" * 8, page, 28)
        cached = [f"{pairs[i]}: {pairs[i + 1]} free" for i in range(0, 16, 2)]
        return PageView("SP-GiST metapage", {"magic": MAGIC, "last_used_pages": cached}, [])
    fields = {
        "flags": names(flags, FLAGS),
        "nredirection": redirections,
        "nplaceholder": placeholders,
    }
    leaf = bool(flags & 4)
    items = [spgist_item(item, leaf) for item in page_items(page)]
    return PageView(f"SP-GiST {'leaf' if leaf else 'inner'} page", fields, items)


def spgist_item(item: Item, leaf: bool) -> dict[str, Any]:
    shown = base_item(item)
    data = item.data
    if len(data) < 16:
        return shown
    first = number(data, 0, 4)
    shown["tuple"] = STATES[first & 3]
    if first & 3:
        shown["tid"] = tid(data, 6)
    elif leaf:
        shown |= {"next": number(data, 4, 2) & 0x3FFF, "tid": tid(data, 6), "data": data[12:]}
    else:
        prefix = first >> 16
        shown |= {
            "all_the_same": bool(first & 4),
            "nodes": first >> 3 & 0x1FFF,
            "prefix": data[8 : 8 + prefix],
        }
    return shown
