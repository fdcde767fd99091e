"""Pages of B-trees (nbtree.h)."""

from __future__ import annotations

# BTPageOpaqueData: where the fields lie.
BTPageOpaque = 8176
btpo_prev = 8176
btpo_next = 8180
btpo_level = 8184
btpo_flags = 8188
btpo_cycleid = 8190
SizeOfBTPageOpaque = 16

BTP_LEAF = 0x0001
BTP_ROOT = 0x0002
BTP_DELETED = 0x0004
BTP_META = 0x0008
BTP_HALF_DEAD = 0x0010
BTP_SPLIT_END = 0x0020
BTP_HAS_GARBAGE = 0x0040
BTP_INCOMPLETE_SPLIT = 0x0080
BTP_HAS_FULLXID = 0x0100

P_NONE = 0
P_HIKEY = 1
P_FIRSTKEY = 2

# BTMetaPageData: where the fields lie; those from btm_version to before
# btm_last_cleanup_num_heap_tuples are in WAL as they are here.
btm_magic = 24
btm_version = 28
btm_last_cleanup_num_heap_tuples = 56
btm_allequalimage = 64
EndOfBTMetaPage = 72
BTREE_MAGIC = 0x053162

# BTDeletedPageData: where safexid lies.
deleted_safexid = 24
EndOfBTDeletedPage = 32

# With INDEX_ALT_TID_MASK in t_info the item pointer means something else; with BT_IS_POSTING in
# its offset number it is a posting list: BT_OFFSET_MASK of that is the number of TIDs.
INDEX_ALT_TID_MASK = 0x2000
BT_IS_POSTING = 0x2000
BT_OFFSET_MASK = 0x0FFF
BTMaxItemSize = 2704
