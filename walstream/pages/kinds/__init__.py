"""Pages by their kind, as pageinspect shows them: the access method is told by the special space.

What does not say clearly what it is stays unknown: then the header is shown, and nothing else.
"""

from __future__ import annotations

from walstream.pages.items import PAGE_HEADER, page_header
from walstream.pages.kinds.brin import brin_page
from walstream.pages.kinds.btree import btree_page, is_btree
from walstream.pages.kinds.gin import gin_page, is_gin
from walstream.pages.kinds.gist import PAGE_ID as GIST
from walstream.pages.kinds.gist import gist_page
from walstream.pages.kinds.hash import PAGE_ID as HASH
from walstream.pages.kinds.hash import hash_page
from walstream.pages.kinds.heap import SEQUENCE_MAGIC, heap_page, sequence_page
from walstream.pages.kinds.maps import free_space_map, visibility_map
from walstream.pages.kinds.spgist import PAGE_ID as SPGIST
from walstream.pages.kinds.spgist import spgist_page
from walstream.pages.kinds.view import PageView, number
from walstream.rmgr.brin.layout import BRIN_PAGETYPE_META, BRIN_PAGETYPE_REGULAR
from walstream.wal.model import BLCKSZ, ForkNumber

UNKNOWN = PageView("unknown kind of page", {}, [])
BLOOM = 0xFF83


def page_view(page: bytes, fork: int = 0, block: int = 0) -> PageView:
    """Returns what stands on block ``block`` of a fork."""
    header = page_header(page)
    if header.is_new:
        return PageView("new page (never written)", {}, [])
    inside = PAGE_HEADER <= header.lower <= header.upper <= header.special <= BLCKSZ
    if header.pagesize_version != BLCKSZ | 4 or not inside:
        return UNKNOWN
    if fork in (ForkNumber.VM, ForkNumber.FSM):
        if header.special != BLCKSZ:
            return UNKNOWN
        return visibility_map(page, block) if fork == ForkNumber.VM else free_space_map(page)
    page_id = number(page, BLCKSZ - 2, 2)
    match BLCKSZ - header.special:
        case 0:
            return heap_page(page)
        case 8 if page_id == SPGIST:
            return spgist_page(page) or UNKNOWN
        case 8 if BRIN_PAGETYPE_META <= page_id <= BRIN_PAGETYPE_REGULAR:
            return brin_page(page) or UNKNOWN
        case 8 if block == 0 and number(page, BLCKSZ - 8, 4) == SEQUENCE_MAGIC:
            # Block 0 of a GIN index is its metapage, and says so in its last bytes.
            return UNKNOWN if page_id else sequence_page(page)
        case 8 if page_id == BLOOM:
            return PageView("bloom page", {}, [])
        case 8 if is_gin(page):
            return gin_page(page)
        case 16 if page_id == HASH:
            return hash_page(page) or UNKNOWN
        case 16 if page_id == GIST:
            return gist_page(page)
        case 16 if is_btree(page):
            return btree_page(page)
    return UNKNOWN
