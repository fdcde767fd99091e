"""GiST pages: GISTPageOpaqueData (16 bytes, page id FF81)."""

from __future__ import annotations

from struct import unpack_from

from walstream.pages.items import page_items
from walstream.pages.kinds.index import index_item
from walstream.pages.kinds.view import PageView, names
from walstream.wal.model import BLCKSZ, format_lsn

PAGE_ID = 0xFF81
FLAGS = (
    (1, "leaf"),
    (2, "deleted"),
    (4, "tuples_deleted"),
    (8, "follow_right"),
    (16, "has_garbage"),
)


def gist_page(page: bytes) -> PageView:
    high, low, right, flags = unpack_from("<IIIH", page, BLCKSZ - 16)
    fields = {"nsn": format_lsn(high << 32 | low), "rightlink": right, "flags": names(flags, FLAGS)}
    if flags & 2:
        return PageView("GiST deleted page", fields, [])
    kind = "leaf" if flags & 1 else "internal"
    return PageView(f"GiST {kind} page", fields, [index_item(item) for item in page_items(page)])
