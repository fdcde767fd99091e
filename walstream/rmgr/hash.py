"""Hash (hash_xlog.h, hashdesc.c)."""

from __future__ import annotations

from walstream.rmgr.layout import Layout
from walstream.rmgr.op import Op

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
    0x00: (
        Op(14, "INIT_META_PAGE", INIT_META, "num_tuples {num_tuples}, fillfactor {fillfactor}"),
    ),
    0x10: (Op(14, "INIT_BITMAP_PAGE", Layout("bmsize u16"), "bmsize {bmsize}"),),
    0x20: (Op(14, "INSERT", Layout("off u16"), "off {off}"),),
    0x30: (Op(14, "ADD_OVFL_PAGE", ADD_OVFL, "bmsize {bmsize}, bmpage_found {bmpage_found:T|F}"),),
    0x40: (
        Op(
            14,
            "SPLIT_ALLOCATE_PAGE",
            ALLOCATE,
            "new_bucket {new_bucket}, meta_page_masks_updated {flags&1:T|F}, "
            "issplitpoint_changed {flags&2:T|F}",
        ),
    ),
    0x50: (Op(14, "SPLIT_PAGE"),),
    0x60: (
        Op(
            14,
            "SPLIT_COMPLETE",
            COMPLETE,
            "old_bucket_flag {old_bucket_flag}, new_bucket_flag {new_bucket_flag}",
        ),
    ),
    0x70: (Op(14, "MOVE_PAGE_CONTENTS", MOVE, "ntups {ntups}, is_primary {is_primary:T|F}"),),
    0x80: (
        Op(
            14,
            "SQUEEZE_PAGE",
            SQUEEZE,
            "prevblkno {prev}, nextblkno {next}, ntups {ntups}, is_primary {is_primary:T|F}",
        ),
    ),
    0x90: (
        Op(
            14,
            "DELETE",
            DELETE,
            "clear_dead_marking {clear_dead_marking:T|F}, is_primary {is_primary:T|F}",
        ),
    ),
    0xA0: (Op(14, "SPLIT_CLEANUP"),),
    0xB0: (Op(14, "UPDATE_META_PAGE", Layout("ntuples f64"), "ntuples {ntuples}"),),
    0xC0: (
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
