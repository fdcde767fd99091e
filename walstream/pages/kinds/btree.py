"""B-tree pages: BTPageOpaqueData (16 bytes) and BTMetaPageData, as bt_metap and bt_page_stats."""

from __future__ import annotations

from struct import unpack_from

from walstream.pages.items import page_header, page_items
from walstream.pages.kinds.index import btree_item
from walstream.pages.kinds.view import PageView, names, number
from walstream.wal.model import BLCKSZ

MAGIC = 0x053162
MAX_CYCLE_ID = 0xFF7F
_OPAQUE = BLCKSZ - 16
_LEAF, _ROOT, _DELETED, _META, _HALF_DEAD = 1, 2, 4, 8, 16
FLAGS = (
    (_LEAF, "leaf"), (_ROOT, "root"), (_DELETED, "deleted"), (_META, "meta"),
    (_HALF_DEAD, "half_dead"), (32, "split_end"), (64, "has_garbage"), (128, "incomplete_split"),
    (256, "has_fullxid"),
)  # fmt: skip


def is_btree(page: bytes) -> bool:
    flags, cycle = number(page, _OPAQUE + 12, 2), number(page, _OPAQUE + 14, 2)
    if flags & ~0x1FF or cycle > MAX_CYCLE_ID:
        return False
    return not flags & _META or number(page, 24, 4) == MAGIC


def btree_page(page: bytes) -> PageView:
    before, after, level, flags, cycle = unpack_from("<IIIHH", page, _OPAQUE)
    if flags & _META:
        keys = (
            "magic",
            "version",
            "root",
            "level",
            "fastroot",
            "fastlevel",
            "last_cleanup_num_delpages",
        )
        fields = dict(zip(keys, unpack_from("<7I", page, 24), strict=True))
        fields["last_cleanup_num_tuples"] = unpack_from("<d", page, 56)[0]
        fields["allequalimage"] = bool(page[64])
        return PageView("B-tree metapage", fields, [])
    items = page_items(page)
    live = [item for item in items if item.state != "dead"]
    header = page_header(page)
    if flags & _DELETED:
        kind = "deleted"
    elif flags & _HALF_DEAD:
        kind = "half-dead"
    elif flags & _LEAF:
        kind = "leaf"
    else:
        kind = "root" if flags & _ROOT else "internal"
    lengths = [item.length for item in items]
    fields = {
        "live_items": len(live),
        "dead_items": len(items) - len(live),
        "avg_item_size": sum(lengths) // len(lengths) if lengths else 0,
        "free_size": max(header.upper - header.lower - 4, 0),
        "btpo_prev": before,
        "btpo_next": after,
        "btpo_level": level,
        "btpo_flags": flags,
        "flags": names(flags, FLAGS),
        "btpo_cycleid": cycle,
    }
    if flags & _DELETED:
        if flags & 256:
            fields["safexid"] = number(page, 24, 8)
        return PageView("B-tree deleted page", fields, [])
    return PageView(f"B-tree {kind} page", fields, [btree_item(item) for item in items])
