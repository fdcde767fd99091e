"""Pages of GiST indexes (gist.h, gist_private.h)."""

from __future__ import annotations

# GISTPageOpaqueData: where the fields lie.
GISTPageOpaque = 8176
gist_nsn = 8176
gist_rightlink = 8184
gist_flags = 8188
gist_page_id = 8190
SizeOfGISTPageOpaque = 16
GIST_PAGE_ID = 0xFF81

F_LEAF = 0x01
F_DELETED = 0x02
F_TUPLES_DELETED = 0x04
F_FOLLOW_RIGHT = 0x08
F_HAS_GARBAGE = 0x10

GIST_ROOT_BLKNO = 0

# GISTDeletedPageContents: where deleteXid lies.
deleteXid = 24
EndOfGISTDeletedPage = 32
