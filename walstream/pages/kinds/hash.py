"""Hash pages: HashPageOpaqueData (16 bytes, page id FF80), metapage and bitmap."""

from __future__ import annotations

from struct import unpack_from

from walstream.pages.items import page_items
from walstream.pages.kinds.index import index_item
from walstream.pages.kinds.view import PageView, names, number
from walstream.wal.model import BLCKSZ

PAGE_ID = 0xFF80
MAGIC = 0x6440640
_OPAQUE = BLCKSZ - 16
KINDS = {0: "unused", 1: "overflow", 2: "bucket", 4: "bitmap", 8: "metapage"}
FLAGS = (
    (1, "overflow"), (2, "bucket"), (4, "bitmap"), (8, "meta"), (16, "being_populated"),
    (32, "being_split"), (64, "needs_split_cleanup"), (128, "has_dead_tuples"),
)  # fmt: skip


def hash_page(page: bytes) -> PageView | None:
    before, after, bucket, flags = unpack_from("<IIIH", page, _OPAQUE)
    kind = KINDS.get(flags & 15)
    if kind is None or (kind == "metapage" and number(page, 24, 4) != MAGIC):
        return None
    if kind == "metapage":
        keys = (
            "magic", "version", "ntuples", "ffactor", "bsize", "bmsize", "bmshift", "maxbucket",
            "highmask", "lowmask", "ovflpoint", "firstfree", "nmaps", "procid",
        )  # fmt: skip
        fields = dict(zip(keys, unpack_from("<IIdHHHHIIIIIII", page, 24), strict=True))
        fields["spares"] = [n for n in unpack_from("<98I", page, 76) if n]
        fields["mapp"] = [n for n in unpack_from("<1024I", page, 468) if n]
        return PageView("hash metapage", fields, [])
    opaque = {
        "hasho_prevblkno": before,
        "hasho_nextblkno": after,
        "hasho_bucket": bucket,
        "hasho_flag": flags,
        "flags": names(flags, FLAGS),
    }
    if kind == "bitmap":
        bits = int.from_bytes(page[24 : 24 + 4096], "little")
        return PageView("hash bitmap page", {**opaque, "bits_set": bits.bit_count()}, [])
    items = []
    if kind != "unused":
        for item in page_items(page):
            shown = index_item(item)
            if len(item.data) >= 12:
                shown["hash"] = number(item.data, 8, 4)
            items.append(shown)
    return PageView(f"hash {kind} page", opaque, items)
