"""Pages of BRIN indexes (brin_page.h)."""

from __future__ import annotations

# BrinSpecialSpace: where the fields lie, of its four words the last two.
BrinSpecialSpace = 8184
brin_flags = 8188
brin_type = 8190
SizeOfBrinSpecialSpace = 8

BRIN_PAGETYPE_META = 0xF091
BRIN_PAGETYPE_REVMAP = 0xF092
BRIN_PAGETYPE_REGULAR = 0xF093
BRIN_EVACUATE_PAGE = 0x0001

# BrinMetaPageData: where the fields lie.
brinMagic = 24
brinVersion = 28
pagesPerRange = 32
lastRevmapPage = 36
EndOfBrinMetaPage = 40

# A revmap page is an array of item pointers.
REVMAP_PAGE_MAXITEMS = 1360

# Not in the enum of the .pxd: above 31 bits

BRIN_META_MAGIC = 0xA8109CFA
