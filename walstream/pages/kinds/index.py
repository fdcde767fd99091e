"""Index tuples, as B-tree, hash and GiST pages hold them."""

from __future__ import annotations

from typing import Any

from walstream.pages.items import Item
from walstream.pages.kinds.view import number, tid

_ALT_TID = 0x2000
_POSTING = 0x2000
_PIVOT_HEAP_TID = 0x1000


def base_item(item: Item) -> dict[str, Any]:
    return {"offset": item.offset_number, "state": item.state, "length": item.length}


def index_item(item: Item) -> dict[str, Any]:
    """Returns an index tuple: where it points, its flags, the bytes of its key."""
    shown = base_item(item)
    data = item.data
    if len(data) >= 8:
        info = number(data, 6, 2)
        shown |= {
            "tid": tid(data),
            "nulls": bool(info & 0x8000),
            "vars": bool(info & 0x4000),
            "dead": item.state == "dead",
            "data": data[8:],
        }
    return shown


def btree_item(item: Item) -> dict[str, Any]:
    """Returns a B-tree tuple: a posting list with its heap pointers, a pivot with its downlink."""
    shown = index_item(item)
    data = item.data
    if len(data) < 8 or not number(data, 6, 2) & _ALT_TID:
        return shown
    count = number(data, 4, 2)
    if count & _POSTING:
        begin = number(data, 0, 2) << 16 | number(data, 2, 2)
        count &= 0x0FFF
        if begin + 6 * count <= len(data):
            shown["tids"] = [tid(data, begin + 6 * i) for i in range(count)]
    elif count & _PIVOT_HEAP_TID and len(data) >= 16:
        shown["heap tid"] = tid(data, len(data) - 6)
    return shown
