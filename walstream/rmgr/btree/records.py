"""B-tree (nbtxlog.h, nbtdesc.c).

16 rewrote every line and lists what DELETE and VACUUM remove; 17 shows isCatalogRel, which 16
already records.
"""

from __future__ import annotations

from walstream.errors import RecordError
from walstream.rmgr.arrays import numbers_text
from walstream.rmgr.layout import Cursor, Layout, Value
from walstream.rmgr.op import Op
from walstream.rmgr.view import View
from walstream.wal.opcodes import (
    XLOG_BTREE_DEDUP,
    XLOG_BTREE_DELETE,
    XLOG_BTREE_INSERT_LEAF,
    XLOG_BTREE_INSERT_META,
    XLOG_BTREE_INSERT_POST,
    XLOG_BTREE_INSERT_UPPER,
    XLOG_BTREE_MARK_PAGE_HALFDEAD,
    XLOG_BTREE_META_CLEANUP,
    XLOG_BTREE_NEWROOT,
    XLOG_BTREE_REUSE_PAGE,
    XLOG_BTREE_SPLIT_L,
    XLOG_BTREE_SPLIT_R,
    XLOG_BTREE_UNLINK_PAGE,
    XLOG_BTREE_UNLINK_PAGE_META,
    XLOG_BTREE_VACUUM,
)

INSERT = Layout("off u16")
SPLIT = Layout("level u32, firstright_off u16, newitem_off u16, posting_off u16")
DEDUP = Layout("nintervals u16")
DELETE_14 = Layout("latest_removed_xid xid, ndeleted u16, nupdated u16")
DELETE_16 = Layout("conflict_horizon xid, ndeleted u16, nupdated u16, is_catalog_rel bool")
VACUUM = Layout("ndeleted u16, nupdated u16")
HALFDEAD = Layout("parent_off u16, leaf block, left block, right block, topparent block")
UNLINK = Layout(
    "left block, right block, level u32, safexid fullxid, leaf_left block, leaf_right block, "
    "leaf_topparent block"
)
NEWROOT = Layout("root block, level u32")
REUSE_14 = Layout("locator locator, block block, latest_removed_xid fullxid")
REUSE_16 = Layout("locator locator, block block, conflict_horizon fullxid, is_catalog_rel bool")
META = Layout(
    "version u32, root block, level u32, fastroot block, fastlevel u32, "
    "last_cleanup_num_delpages u32, allequalimage bool"
)

Update = tuple[int, tuple[int, ...]]


def deletions(view: View, ndeleted: int, nupdated: int) -> tuple[tuple[int, ...], list[Update]]:
    """Returns the deleted offsets, and the updated ones with the TIDs taken from their lists."""
    data = view.block_data(0)
    assert data is not None
    cursor = Cursor(data)
    deleted = cursor.integers("u16", ndeleted)
    updated = cursor.integers("u16", nupdated)
    return deleted, [(off, cursor.integers("u16", cursor.integer("u16"))) for off in updated]


def deletions_text(view: View, ndeleted: int, nupdated: int) -> str:
    if view.block_data(0) is None:
        return ""
    deleted, updated = deletions(view, ndeleted, nupdated)
    updates = ", ".join(
        f"{{ off: {off}, nptids: {len(tids)}, ptids: {numbers_text(tids)} }}"
        for off, tids in updated
    )
    return f", deleted: {numbers_text(deleted)}, updated: [{updates}]"


def describe_delete(view: View) -> str:
    cursor = Cursor(view.main)
    horizon = cursor.integer()
    ndeleted, nupdated = cursor.integers("u16", 2)
    text = f"snapshotConflictHorizon: {horizon}, ndeleted: {ndeleted}, nupdated: {nupdated}"
    if view.version >= 17:
        text += f", isCatalogRel: {'T' if cursor.integer('u8') else 'F'}"
    return text + deletions_text(view, ndeleted, nupdated)


def describe_vacuum(view: View) -> str:
    ndeleted, nupdated = Cursor(view.main).integers("u16", 2)
    text = f"ndeleted: {ndeleted}, nupdated: {nupdated}"
    return text + deletions_text(view, ndeleted, nupdated)


def deletion_fields(view: View, fields: dict[str, Value]) -> None:
    ndeleted, nupdated = fields["ndeleted"], fields["nupdated"]
    assert isinstance(ndeleted, int)
    assert isinstance(nupdated, int)
    if view.block_data(0) is not None:
        fields["deleted"], updated = deletions(view, ndeleted, nupdated)
        fields["updated"] = tuple(updated)


def meta_page(view: View) -> dict[str, Value]:
    data = view.block_data(0)
    if data is None:
        raise RecordError("record without data of block 0")
    return META.unpack(data)


def describe_cleanup_14(view: View) -> str:
    return f"last_cleanup_num_delpages {meta_page(view)['last_cleanup_num_delpages']!r}"


def describe_cleanup_16(view: View) -> str:
    return f"last_cleanup_num_delpages: {meta_page(view)['last_cleanup_num_delpages']!r}"


def cleanup_fields(view: View, fields: dict[str, Value]) -> None:
    fields.update(meta_page(view))


def _insert(name: str) -> tuple[Op, ...]:
    return (Op(14, name, INSERT, "off {off}"), Op(16, name, INSERT, "off: {off}"))


def _split(name: str) -> tuple[Op, ...]:
    words = (
        "level{c} {{level}}, firstrightoff{c} {{firstright_off}}, newitemoff{c} {{newitem_off}}, "
        "postingoff{c} {{posting_off}}"
    )
    return (
        Op(14, name, SPLIT, words.format(c="")),
        Op(16, name, SPLIT, words.format(c=":")),
    )


def _unlink(name: str) -> tuple[Op, ...]:
    return (
        Op(
            14,
            name,
            UNLINK,
            "left {left}; right {right}; level {level}; safexid {safexid}; "
            "leafleft {leaf_left}; leafright {leaf_right}; leaftopparent {leaf_topparent}",
        ),
        Op(
            16,
            name,
            UNLINK,
            "left: {left}, right: {right}, level: {level}, safexid: {safexid}, "
            "leafleft: {leaf_left}, leafright: {leaf_right}, leaftopparent: {leaf_topparent}",
        ),
    )


_REUSE = "rel: {locator}, snapshotConflictHorizon: {conflict_horizon}"

OPS = {
    XLOG_BTREE_INSERT_LEAF: _insert("INSERT_LEAF"),
    XLOG_BTREE_INSERT_UPPER: _insert("INSERT_UPPER"),
    XLOG_BTREE_INSERT_META: _insert("INSERT_META"),
    XLOG_BTREE_SPLIT_L: _split("SPLIT_L"),
    XLOG_BTREE_SPLIT_R: _split("SPLIT_R"),
    XLOG_BTREE_INSERT_POST: _insert("INSERT_POST"),
    XLOG_BTREE_DEDUP: (
        Op(14, "DEDUP", DEDUP, "nintervals {nintervals}"),
        Op(16, "DEDUP", DEDUP, "nintervals: {nintervals}"),
    ),
    XLOG_BTREE_DELETE: (
        Op(
            14,
            "DELETE",
            DELETE_14,
            "latestRemovedXid {latest_removed_xid}; ndeleted {ndeleted}; nupdated {nupdated}",
            deletion_fields,
        ),
        Op(16, "DELETE", DELETE_16, describe_delete, deletion_fields),
    ),
    XLOG_BTREE_UNLINK_PAGE: _unlink("UNLINK_PAGE"),
    XLOG_BTREE_UNLINK_PAGE_META: _unlink("UNLINK_PAGE_META"),
    XLOG_BTREE_NEWROOT: (
        Op(14, "NEWROOT", NEWROOT, "lev {level}"),
        Op(16, "NEWROOT", NEWROOT, "level: {level}"),
    ),
    XLOG_BTREE_MARK_PAGE_HALFDEAD: (
        Op(
            14,
            "MARK_PAGE_HALFDEAD",
            HALFDEAD,
            "topparent {topparent}; leaf {leaf}; left {left}; right {right}",
        ),
        Op(
            16,
            "MARK_PAGE_HALFDEAD",
            HALFDEAD,
            "topparent: {topparent}, leaf: {leaf}, left: {left}, right: {right}",
        ),
    ),
    XLOG_BTREE_VACUUM: (
        Op(14, "VACUUM", VACUUM, "ndeleted {ndeleted}; nupdated {nupdated}", deletion_fields),
        Op(16, "VACUUM", VACUUM, describe_vacuum, deletion_fields),
    ),
    XLOG_BTREE_REUSE_PAGE: (
        Op(14, "REUSE_PAGE", REUSE_14, "rel {locator}; latestRemovedXid {latest_removed_xid}"),
        Op(16, "REUSE_PAGE", REUSE_16, _REUSE),
        Op(17, "REUSE_PAGE", REUSE_16, _REUSE + ", isCatalogRel: {is_catalog_rel:T|F}"),
    ),
    XLOG_BTREE_META_CLEANUP: (
        Op(14, "META_CLEANUP", Layout(), describe_cleanup_14, cleanup_fields),
        Op(16, "META_CLEANUP", Layout(), describe_cleanup_16, cleanup_fields),
    ),
}
