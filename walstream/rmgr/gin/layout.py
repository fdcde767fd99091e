"""Pages of GIN indexes (ginblock.h) and the bits in their records (ginxlog.h)."""

from __future__ import annotations

# GinPageOpaqueData: where the fields lie.
GinPageOpaque = 8184
gin_rightlink = 8184
gin_maxoff = 8188
gin_flags = 8190
SizeOfGinPageOpaque = 8

GIN_DATA = 0x01
GIN_LEAF = 0x02
GIN_DELETED = 0x04
GIN_META = 0x08
GIN_LIST = 0x10
GIN_LIST_FULLROW = 0x20
GIN_INCOMPLETE_SPLIT = 0x40
GIN_COMPRESSED = 0x80

# GinMetaPageData fills the metapage from the header on.
SizeOfGinMetaPageData = 56
EndOfGinMetaPage = 80

# Pages of posting trees: the right bound, then posting items or segments (GinDataPageGetData).
GinDataPageData = 32
GinDataPageMaxDataSize = 8152
SizeOfPostingItem = 10

# GinPostingList: the first item, the number of bytes, the bytes.
posting_nbytes = 6
SizeOfGinPostingList = 8
MaxHeapTuplesPerPageBits = 11
# Block and offset of an item, as they are encoded.
GIN_ITEM_BITS = 43

# Flags of INSERT and SPLIT.
GIN_INSERT_ISDATA = 0x01
GIN_INSERT_ISLEAF = 0x02
GIN_SPLIT_ROOT = 0x04

# What is done to a segment of a posting tree's leaf.
GIN_SEGMENT_DELETE = 1
GIN_SEGMENT_INSERT = 2
GIN_SEGMENT_REPLACE = 3
GIN_SEGMENT_ADDITEMS = 4
