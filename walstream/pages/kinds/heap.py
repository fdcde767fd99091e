"""Heap, TOAST and sequence pages."""

from __future__ import annotations

from struct import unpack_from
from typing import Any

from walstream.pages.items import Item, heap_tuple, page_items
from walstream.pages.kinds.index import base_item
from walstream.pages.kinds.view import PageView

SEQUENCE_MAGIC = 0x1717


def heap_item(item: Item) -> dict[str, Any]:
    shown = base_item(item)
    if item.redirect_to is not None:
        shown["redirect"] = item.redirect_to
    row = heap_tuple(item.data)
    if row is not None:
        shown |= {
            "xmin": row.xmin,
            "xmax": row.xmax,
            "field3": row.cid,
            "ctid": f"({row.ctid[0]},{row.ctid[1]})",
            "infomask2": row.infomask2,
            "infomask": row.infomask,
            "hoff": row.hoff,
            "flags": row.flag_names,
            "data": row.data,
        }
    return shown


def heap_page(page: bytes) -> PageView:
    return PageView("heap page", {}, [heap_item(item) for item in page_items(page)])


def sequence_page(page: bytes) -> PageView:
    fields: dict[str, Any] = {}
    items = page_items(page)
    row = heap_tuple(items[0].data) if items else None
    if row is not None and len(row.data) >= 17:
        last, log, called = unpack_from("<qq?", row.data)
        fields = {"last_value": last, "log_cnt": log, "is_called": called}
    return PageView("sequence", fields, [heap_item(item) for item in items])
