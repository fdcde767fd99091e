"""Hash (hash_xlog.h, hashdesc.c)."""

from __future__ import annotations

from walstream.rmgr.layout import Layout
from walstream.rmgr.op import Op
from walstream.wal.opcodes import (
    XLOG_HASH_ADD_OVFL_PAGE,
    XLOG_HASH_DELETE,
    XLOG_HASH_INIT_BITMAP_PAGE,
    XLOG_HASH_INIT_META_PAGE,
    XLOG_HASH_INSERT,
    XLOG_HASH_MOVE_PAGE_CONTENTS,
    XLOG_HASH_SPLIT_ALLOCATE_PAGE,
    XLOG_HASH_SPLIT_CLEANUP,
    XLOG_HASH_SPLIT_COMPLETE,
    XLOG_HASH_SPLIT_PAGE,
    XLOG_HASH_SQUEEZE_PAGE,
    XLOG_HASH_UPDATE_META_PAGE,
    XLOG_HASH_VACUUM_ONE_PAGE,
)

INIT_META = Layout("num_tuples f64, procid oid, fillfactor u16")
ADD_OVFL = Layout("bmsize u16, bmpage_found bool")
ALLOCATE = Layout("new_bucket u32, old_bucket_flag u16, new_bucket_flag u16, flags u8")
COMPLETE = Layout("old_bucket_flag u16, new_bucket_flag u16")
MOVE = Layout("ntups u16, is_primary bool")
SQUEEZE = Layout("prev block, next block, ntups u16, is_primary bool, is_prev_same bool")
DELETE = Layout("clear_dead_marking bool, is_primary bool")
# 16: the count shrank to 16 bits, the offsets came in from the block data.
VACUUM_14 = Layout("latest_removed_xid xid, ntuples i32")
VACUUM_16 = Layout("conflict_horizon xid, ntuples u16, is_catalog_rel bool, offsets u16[ntuples]")

OPS = {
    XLOG_HASH_INIT_META_PAGE: (
        Op(14, "INIT_META_PAGE", INIT_META, "num_tuples {num_tuples}, fillfactor {fillfactor}"),
    ),
    XLOG_HASH_INIT_BITMAP_PAGE: (
        Op(14, "INIT_BITMAP_PAGE", Layout("bmsize u16"), "bmsize {bmsize}"),
    ),
    XLOG_HASH_INSERT: (Op(14, "INSERT", Layout("off u16"), "off {off}"),),
    XLOG_HASH_ADD_OVFL_PAGE: (
        Op(14, "ADD_OVFL_PAGE", ADD_OVFL, "bmsize {bmsize}, bmpage_found {bmpage_found:T|F}"),
    ),
    XLOG_HASH_SPLIT_ALLOCATE_PAGE: (
        Op(
            14,
            "SPLIT_ALLOCATE_PAGE",
            ALLOCATE,
            "new_bucket {new_bucket}, meta_page_masks_updated {flags&1:T|F}, "
            "issplitpoint_changed {flags&2:T|F}",
        ),
    ),
    XLOG_HASH_SPLIT_PAGE: (Op(14, "SPLIT_PAGE"),),
    XLOG_HASH_SPLIT_COMPLETE: (
        Op(
            14,
            "SPLIT_COMPLETE",
            COMPLETE,
            "old_bucket_flag {old_bucket_flag}, new_bucket_flag {new_bucket_flag}",
        ),
    ),
    XLOG_HASH_MOVE_PAGE_CONTENTS: (
        Op(14, "MOVE_PAGE_CONTENTS", MOVE, "ntups {ntups}, is_primary {is_primary:T|F}"),
    ),
    XLOG_HASH_SQUEEZE_PAGE: (
        Op(
            14,
            "SQUEEZE_PAGE",
            SQUEEZE,
            "prevblkno {prev}, nextblkno {next}, ntups {ntups}, is_primary {is_primary:T|F}",
        ),
    ),
    XLOG_HASH_DELETE: (
        Op(
            14,
            "DELETE",
            DELETE,
            "clear_dead_marking {clear_dead_marking:T|F}, is_primary {is_primary:T|F}",
        ),
    ),
    XLOG_HASH_SPLIT_CLEANUP: (Op(14, "SPLIT_CLEANUP"),),
    XLOG_HASH_UPDATE_META_PAGE: (
        Op(14, "UPDATE_META_PAGE", Layout("ntuples f64"), "ntuples {ntuples}"),
    ),
    XLOG_HASH_VACUUM_ONE_PAGE: (
        Op(
            14,
            "VACUUM_ONE_PAGE",
            VACUUM_14,
            "ntuples {ntuples}, latestRemovedXid {latest_removed_xid}",
        ),
        Op(
            16,
            "VACUUM_ONE_PAGE",
            VACUUM_16,
            "ntuples {ntuples}, snapshotConflictHorizon {conflict_horizon}",
        ),
        Op(
            17,
            "VACUUM_ONE_PAGE",
            VACUUM_16,
            "ntuples {ntuples}, snapshotConflictHorizon {conflict_horizon}, "
            "isCatalogRel {is_catalog_rel:T|F}",
        ),
    ),
}
