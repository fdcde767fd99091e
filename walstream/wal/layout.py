"""On-disk structures of WAL: pages, record headers, block headers, resource manager ids.

Names and values are PostgreSQL's, of xlog_internal.h, xlogrecord.h and rmgrlist.h; what differs
between major versions is in ``versions.py``, the operations of the resource managers in
``opcodes.py``, the pages that records change in ``bufpage.py``. All integers are little-endian:
walstream reads WAL of little-endian servers only. ``layout.pxd`` has the numbers for compiled
kernels.
"""

from __future__ import annotations

XLOG_BLCKSZ = 8192
# Records start where MAXALIGN lets them.
MAXIMUM_ALIGNOF = 8

# XLogPageHeaderData, then what XLogLongPageHeaderData adds: where the fields lie.
xlp_magic = 0
xlp_info = 2
xlp_tli = 4
xlp_pageaddr = 8
xlp_rem_len = 16
SizeOfXLogShortPHD = 24
xlp_sysid = 24
xlp_seg_size = 32
xlp_xlog_blcksz = 36
SizeOfXLogLongPHD = 40

XLP_FIRST_IS_CONTRECORD = 0x0001
XLP_LONG_HEADER = 0x0002
XLP_BKP_REMOVABLE = 0x0004
XLP_FIRST_IS_OVERWRITE_CONTRECORD = 0x0008
XLP_ALL_FLAGS = 0x000F

# XLogRecord: where the fields lie. The CRC is of what follows the header, then of the header
# before xl_crc.
xl_tot_len = 0
xl_xid = 4
xl_prev = 8
xl_info = 16
xl_rmid = 17
xl_crc = 20
SizeOfXLogRecord = 24

XLR_INFO_MASK = 0x0F
XLR_RMGR_INFO_MASK = 0xF0
# Operations of a resource manager, in the upper half of xl_info: xlogstats.h
MAX_XLINFO_TYPES = 16
XLR_SPECIAL_REL_UPDATE = 0x01
XLR_CHECK_CONSISTENCY = 0x02

# What a header begins with in the record: the id of a block reference, or one of these.
XLR_MAX_BLOCK_ID = 32
XLR_BLOCK_ID_DATA_SHORT = 255
XLR_BLOCK_ID_DATA_LONG = 254
XLR_BLOCK_ID_ORIGIN = 253
XLR_BLOCK_ID_TOPLEVEL_XID = 252

# Sizes of the headers: id, fork_flags and data_length; of an image its length, hole offset and
# info; its hole length; a relation; a block number.
SizeOfXLogRecordBlockHeader = 4
SizeOfXLogRecordBlockImageHeader = 5
SizeOfXLogRecordBlockCompressHeader = 2
SizeOfRelFileLocator = 12
SizeOfBlockNumber = 4

BKPBLOCK_FORK_MASK = 0x0F
BKPBLOCK_FLAG_MASK = 0xF0
BKPBLOCK_HAS_IMAGE = 0x10
BKPBLOCK_HAS_DATA = 0x20
BKPBLOCK_WILL_INIT = 0x40
BKPBLOCK_SAME_REL = 0x80

BKPIMAGE_HAS_HOLE = 0x01

# Methods of compression, in the order of COMPRESSION_NAMES.
COMPRESSION_NONE = 0
COMPRESSION_PGLZ = 1
COMPRESSION_LZ4 = 2
COMPRESSION_ZSTD = 3

# ForkNumber of relpath.h
MAIN_FORKNUM = 0
FSM_FORKNUM = 1
VISIBILITYMAP_FORKNUM = 2
INIT_FORKNUM = 3

# Resource managers: rmgrlist.h
RM_XLOG_ID = 0
RM_XACT_ID = 1
RM_SMGR_ID = 2
RM_CLOG_ID = 3
RM_DBASE_ID = 4
RM_TBLSPC_ID = 5
RM_MULTIXACT_ID = 6
RM_RELMAP_ID = 7
RM_STANDBY_ID = 8
RM_HEAP2_ID = 9
RM_HEAP_ID = 10
RM_BTREE_ID = 11
RM_HASH_ID = 12
RM_GIN_ID = 13
RM_GIST_ID = 14
RM_SEQ_ID = 15
RM_SPGIST_ID = 16
RM_BRIN_ID = 17
RM_COMMIT_TS_ID = 18
RM_REPLORIGIN_ID = 19
RM_GENERIC_ID = 20
RM_LOGICALMSG_ID = 21
RM_MAX_BUILTIN_ID = 21
# Custom resource managers exist from 15 on.
RM_MIN_CUSTOM_ID = 128

# Not in the .pxd: names, for people.

COMPRESSION_NAMES = ("none", "pglz", "lz4", "zstd")
