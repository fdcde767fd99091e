"""BRIN pages: the page type in the last 2 bytes (F091 to F093), metapage, revmap and tuples."""

from __future__ import annotations

from struct import unpack_from
from typing import Any

from walstream.pages.items import page_items
from walstream.pages.kinds.index import base_item
from walstream.pages.kinds.view import PageView, number, tid
from walstream.rmgr.brin.layout import BRIN_PAGETYPE_META, BRIN_PAGETYPE_REVMAP
from walstream.wal.model import BLCKSZ

MAGIC = 0xA8109CFA
REVMAP_ENTRIES = 1360


def brin_page(page: bytes) -> PageView | None:
    kind = number(page, BLCKSZ - 2, 2)
    if kind == BRIN_PAGETYPE_META:
        if number(page, 24, 4) != MAGIC:
            return None
        keys = ("magic", "version", "pagesperrange", "lastrevmappage")
        return PageView(
            "BRIN metapage", dict(zip(keys, unpack_from("<4I", page, 24), strict=True)), []
        )
    fields: dict[str, Any] = {"evacuate": bool(number(page, BLCKSZ - 4, 2) & 1)}
    if kind == BRIN_PAGETYPE_REVMAP:
        tids = [tid(page, 24 + 6 * i) for i in range(REVMAP_ENTRIES)]
        items = [{"range": i, "tid": text} for i, text in enumerate(tids) if text != "(0,0)"]
        return PageView("BRIN revmap page", fields, items)
    items = []
    for item in page_items(page):
        shown = base_item(item)
        if len(item.data) >= 5:
            info = item.data[4]
            shown |= {
                "blknum": number(item.data, 0, 4),
                "placeholder": bool(info & 0x40),
                "empty": bool(info & 0x20),
                "nulls": bool(info & 0x80),
                "data": item.data[info & 0x1F :],
            }
        items.append(shown)
    return PageView("BRIN regular page", fields, items)
