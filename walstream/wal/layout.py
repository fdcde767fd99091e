"""On-disk structures of WAL and what differs between major versions.

Mirrors xlog_internal.h, xlogrecord.h and rmgrlist.h of PostgreSQL 14 to 18. All integers are
little-endian: walstream reads WAL of little-endian servers only.
"""

from __future__ import annotations

XLOG_BLCKSZ = 8192

# XLogPageHeaderData: magic u16, info u16, tli u32, pageaddr u64, rem_len u32, 4 padding
SHORT_PAGE_HEADER = 24
# XLogLongPageHeaderData adds sysid u64, segment size u32, block size u32
LONG_PAGE_HEADER = 40

PAGE_MAGICS = {0xD10D: 14, 0xD110: 15, 0xD113: 16, 0xD116: 17, 0xD118: 18}
MAGIC_OF_VERSION = {version: magic for magic, version in PAGE_MAGICS.items()}
VERSIONS = tuple(sorted(MAGIC_OF_VERSION))

XLP_FIRST_IS_CONTRECORD = 0x0001
XLP_LONG_HEADER = 0x0002
XLP_BKP_REMOVABLE = 0x0004
XLP_FIRST_IS_OVERWRITE_CONTRECORD = 0x0008
XLP_ALL_FLAGS = 0x000F

# XLogRecord: tot_len u32, xid u32, prev u64, info u8, rmid u8, 2 padding, crc u32
RECORD_HEADER = 24
RECORD_CRC_OFFSET = 20
XLOG_RECORD_MAX_SIZE = 1020 * 1024 * 1024

XLR_SPECIAL_REL_UPDATE = 0x01
XLR_CHECK_CONSISTENCY = 0x02
XLR_RMGR_INFO_MASK = 0xF0

XLR_MAX_BLOCK_ID = 32
XLR_BLOCK_ID_DATA_SHORT = 255
XLR_BLOCK_ID_DATA_LONG = 254
XLR_BLOCK_ID_ORIGIN = 253
XLR_BLOCK_ID_TOPLEVEL_XID = 252

BKPBLOCK_FORK_MASK = 0x0F
BKPBLOCK_HAS_IMAGE = 0x10
BKPBLOCK_HAS_DATA = 0x20
BKPBLOCK_WILL_INIT = 0x40
BKPBLOCK_SAME_REL = 0x80

BKPIMAGE_HAS_HOLE = 0x01

COMPRESSION_NAMES = ("none", "pglz", "lz4", "zstd")

RMGR_NAMES = (
    "XLOG",
    "Transaction",
    "Storage",
    "CLOG",
    "Database",
    "Tablespace",
    "MultiXact",
    "RelMap",
    "Standby",
    "Heap2",
    "Heap",
    "Btree",
    "Hash",
    "Gin",
    "Gist",
    "Sequence",
    "SPGist",
    "BRIN",
    "CommitTs",
    "ReplicationOrigin",
    "Generic",
    "LogicalMessage",
)
RM_XACT_ID = 1
RM_MIN_CUSTOM_ID = 128


def rmgr_name(rmgr_id: int) -> str:
    """Returns the name that pg_waldump prints: ``custom133`` for custom ids."""
    if rmgr_id < len(RMGR_NAMES):
        return RMGR_NAMES[rmgr_id]
    if rmgr_id >= RM_MIN_CUSTOM_ID:
        return f"custom{rmgr_id:03d}"
    return f"UNKNOWN ({rmgr_id})"


def parse_rmgr_name(name: str) -> int:
    """Returns the id of a resource manager by the name that pg_waldump prints, in any case.

    Raises:
        ValueError: there is none of that name.
    """
    lower = name.lower()
    for rmgr_id, known in enumerate(RMGR_NAMES):
        if known.lower() == lower:
            return rmgr_id
    number = lower.removeprefix("custom")
    if lower.startswith("custom") and number.isascii() and number.isdigit() and len(number) <= 3:
        rmgr_id = int(number)
        if RM_MIN_CUSTOM_ID <= rmgr_id <= 255:
            return rmgr_id
        raise ValueError(f'custom resource manager "{name}" does not exist')
    raise ValueError(f'resource manager "{name}" does not exist')
