"""GiST (gistxlog.h, gistdesc.c)."""

from __future__ import annotations

from walstream.rmgr.layout import Layout
from walstream.rmgr.op import Op
from walstream.wal.opcodes import (
    XLOG_GIST_ASSIGN_LSN,
    XLOG_GIST_DELETE,
    XLOG_GIST_PAGE_DELETE,
    XLOG_GIST_PAGE_REUSE,
    XLOG_GIST_PAGE_SPLIT,
    XLOG_GIST_PAGE_UPDATE,
)

UPDATE = Layout("ntodelete u16, ntoinsert u16")
DELETE_14 = Layout("latest_removed_xid xid, ntodelete u16")
DELETE_16 = Layout("conflict_horizon xid, ntodelete u16, is_catalog_rel bool, offsets u16[*]")
REUSE_14 = Layout("locator locator, block block, latest_removed_xid fullxid")
REUSE_16 = Layout("locator locator, block block, conflict_horizon fullxid, is_catalog_rel bool")
SPLIT = Layout("orig_rlink block, orig_nsn lsn, orig_leaf bool, npage u16, mark_follow_right bool")
PAGE_DELETE = Layout("delete_xid fullxid, downlink u16")

_DELETE = "delete: snapshotConflictHorizon {conflict_horizon}, nitems: {ntodelete}"
_REUSE = "rel {locator}; blk {block}; snapshotConflictHorizon {conflict_horizon}"
_CATALOG = ", isCatalogRel {is_catalog_rel:T|F}"

OPS = {
    XLOG_GIST_PAGE_UPDATE: (Op(14, "PAGE_UPDATE", UPDATE),),
    XLOG_GIST_DELETE: (
        Op(
            14,
            "DELETE",
            DELETE_14,
            "delete: latestRemovedXid {latest_removed_xid}, nitems: {ntodelete}",
        ),
        Op(16, "DELETE", DELETE_16, _DELETE),
        Op(17, "DELETE", DELETE_16, _DELETE + _CATALOG),
    ),
    XLOG_GIST_PAGE_REUSE: (
        Op(
            14,
            "PAGE_REUSE",
            REUSE_14,
            "rel {locator}; blk {block}; latestRemovedXid {latest_removed_xid}",
        ),
        Op(16, "PAGE_REUSE", REUSE_16, _REUSE),
        Op(17, "PAGE_REUSE", REUSE_16, _REUSE + _CATALOG),
    ),
    XLOG_GIST_PAGE_SPLIT: (Op(14, "PAGE_SPLIT", SPLIT, "page_split: splits to {npage} pages"),),
    XLOG_GIST_PAGE_DELETE: (
        Op(14, "PAGE_DELETE", PAGE_DELETE, "deleteXid {delete_xid}; downlink {downlink}"),
    ),
    XLOG_GIST_ASSIGN_LSN: (Op(14, "ASSIGN_LSN"),),
}
