"""Names of the operations that change pages, as pg_waldump prints them, for error messages."""

from __future__ import annotations

from walstream.wal.layout import RM_MIN_CUSTOM_ID

_XLOG, _HEAP2, _HEAP, _BTREE, _HASH, _GIN, _GIST, _SEQUENCE, _SPGIST, _BRIN, _GENERIC = (
    0, 9, 10, 11, 12, 13, 14, 15, 16, 17, 20,
)  # fmt: skip

_NAMES = {
    _XLOG: {0xA0: "FPI_FOR_HINT", 0xB0: "FPI"},
    2: {0x20: "TRUNCATE"},
    _HEAP2: {
        0x10: "PRUNE", 0x20: "VACUUM", 0x30: "FREEZE_PAGE", 0x40: "VISIBLE",
        0x50: "MULTI_INSERT", 0x60: "LOCK_UPDATED", 0xD0: "MULTI_INSERT+INIT",
    },
    _HEAP: {
        0x00: "INSERT", 0x10: "DELETE", 0x20: "UPDATE", 0x40: "HOT_UPDATE", 0x50: "HEAP_CONFIRM",
        0x60: "LOCK", 0x70: "INPLACE", 0x80: "INSERT+INIT", 0xA0: "UPDATE+INIT",
        0xC0: "HOT_UPDATE+INIT",
    },
    _BTREE: {
        0x00: "INSERT_LEAF", 0x10: "INSERT_UPPER", 0x20: "INSERT_META", 0x30: "SPLIT_L",
        0x40: "SPLIT_R", 0x50: "INSERT_POST", 0x60: "DEDUP", 0x70: "DELETE", 0x80: "UNLINK_PAGE",
        0x90: "UNLINK_PAGE_META", 0xA0: "NEWROOT", 0xB0: "MARK_PAGE_HALFDEAD", 0xC0: "VACUUM",
        0xD0: "REUSE_PAGE", 0xE0: "META_CLEANUP",
    },
    _HASH: {
        0x00: "INIT_META_PAGE", 0x10: "INIT_BITMAP_PAGE", 0x20: "INSERT", 0x30: "ADD_OVFL_PAGE",
        0x40: "SPLIT_ALLOCATE_PAGE", 0x50: "SPLIT_PAGE", 0x60: "SPLIT_COMPLETE",
        0x70: "MOVE_PAGE_CONTENTS", 0x80: "SQUEEZE_PAGE", 0x90: "DELETE", 0xA0: "SPLIT_CLEANUP",
        0xB0: "UPDATE_META_PAGE", 0xC0: "VACUUM_ONE_PAGE",
    },
    _GIN: {
        0x10: "CREATE_PTREE", 0x20: "INSERT", 0x30: "SPLIT", 0x40: "VACUUM_PAGE",
        0x50: "DELETE_PAGE", 0x60: "UPDATE_META_PAGE", 0x70: "INSERT_LISTPAGE",
        0x80: "DELETE_LISTPAGE", 0x90: "VACUUM_DATA_LEAF_PAGE",
    },
    _GIST: {0x00: "PAGE_UPDATE", 0x10: "DELETE", 0x30: "PAGE_SPLIT", 0x60: "PAGE_DELETE"},
    _SEQUENCE: {0x00: "LOG"},
    _SPGIST: {
        0x10: "ADD_LEAF", 0x20: "MOVE_LEAFS", 0x30: "ADD_NODE", 0x40: "SPLIT_TUPLE",
        0x50: "PICKSPLIT", 0x60: "VACUUM_LEAF", 0x70: "VACUUM_ROOT", 0x80: "VACUUM_REDIRECT",
    },
    _BRIN: {
        0x00: "CREATE_INDEX", 0x10: "INSERT", 0x20: "UPDATE", 0x30: "SAMEPAGE_UPDATE",
        0x40: "REVMAP_EXTEND", 0x50: "DESUMMARIZE", 0x90: "INSERT+INIT", 0xA0: "UPDATE+INIT",
    },
    _GENERIC: {0x00: "Generic"},
}  # fmt: skip
# From 17 on Heap2 says what the pruning was for.
_PRUNE_17 = {0x10: "PRUNE_ON_ACCESS", 0x20: "PRUNE_VACUUM_SCAN", 0x30: "PRUNE_VACUUM_CLEANUP"}


def operation_name(rmgr: int, op: int, version: int) -> str:
    """Returns the name of ``op`` (``info & 0xF0``), or its number where it has none."""
    if rmgr == _HEAP2 and version >= 17 and op in _PRUNE_17:
        return _PRUNE_17[op]
    if rmgr >= RM_MIN_CUSTOM_ID:
        return f"op 0x{op:02X}"
    return _NAMES.get(rmgr, {}).get(op, f"op 0x{op:02X}")
