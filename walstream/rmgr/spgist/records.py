"""SP-GiST (spgxlog.h, spgdesc.c)."""

from __future__ import annotations

from walstream.rmgr.layout import Layout
from walstream.rmgr.op import Op
from walstream.wal.opcodes import (
    XLOG_SPGIST_ADD_LEAF,
    XLOG_SPGIST_ADD_NODE,
    XLOG_SPGIST_MOVE_LEAFS,
    XLOG_SPGIST_PICKSPLIT,
    XLOG_SPGIST_SPLIT_TUPLE,
    XLOG_SPGIST_VACUUM_LEAF,
    XLOG_SPGIST_VACUUM_REDIRECT,
    XLOG_SPGIST_VACUUM_ROOT,
)

ADD_LEAF = Layout(
    "new_page bool, stores_nulls bool, leaf_off u16, head_off u16, parent_off u16, node_i u16"
)
MOVE_LEAFS = Layout(
    "nmoves u16, new_page bool, replace_dead bool, stores_nulls bool, parent_off u16, "
    "node_i u16, state_src state, offsets u16[*]"
)
ADD_NODE = Layout(
    "off u16, new_off u16, new_page bool, parent_block i8, parent_off u16, node_i u16, "
    "state_src state"
)
SPLIT_TUPLE = Layout("prefix_off u16, postfix_off u16, new_page bool, postfix_block_same bool")
PICK_SPLIT = Layout(
    "is_root_split bool, ndelete u16, ninsert u16, init_src bool, init_dest bool, inner_off u16, "
    "init_inner bool, stores_nulls bool, inner_is_parent bool, parent_off u16, node_i u16, "
    "state_src state, offsets u16[*]"
)
VACUUM_LEAF = Layout(
    "ndead u16, nplaceholder u16, nmove u16, nchain u16, state_src state, offsets u16[*]"
)
VACUUM_ROOT = Layout("ndelete u16, state_src state, offsets u16[ndelete]")
REDIRECT_14 = Layout(
    "ntoplaceholder u16, first_placeholder u16, newest_redirect_xid xid, "
    "offsets u16[ntoplaceholder]"
)
REDIRECT_16 = Layout(
    "ntoplaceholder u16, first_placeholder u16, conflict_horizon xid, is_catalog_rel bool, "
    "offsets u16[ntoplaceholder]"
)

_REDIRECT = "ntoplaceholder: {ntoplaceholder}, firstplaceholder: {first_placeholder}, "
_REDIRECT_16 = _REDIRECT + "snapshotConflictHorizon: {conflict_horizon}"

OPS = {
    XLOG_SPGIST_ADD_LEAF: (
        Op(
            14,
            "ADD_LEAF",
            ADD_LEAF,
            "off: {leaf_off}, headoff: {head_off}, parentoff: {parent_off}, nodeI: {node_i}"
            "{new_page: (newpage)|}{stores_nulls: (nulls)|}",
        ),
    ),
    XLOG_SPGIST_MOVE_LEAFS: (
        Op(
            14,
            "MOVE_LEAFS",
            MOVE_LEAFS,
            "nmoves: {nmoves}, parentoff: {parent_off}, nodeI: {node_i}"
            "{new_page: (newpage)|}{replace_dead: (replacedead)|}{stores_nulls: (nulls)|}",
        ),
    ),
    XLOG_SPGIST_ADD_NODE: (
        Op(
            14,
            "ADD_NODE",
            ADD_NODE,
            "off: {off}, newoff: {new_off}, parentBlk: {parent_block}, parentoff: {parent_off}, "
            "nodeI: {node_i}{new_page: (newpage)|}",
        ),
    ),
    XLOG_SPGIST_SPLIT_TUPLE: (
        Op(
            14,
            "SPLIT_TUPLE",
            SPLIT_TUPLE,
            "prefixoff: {prefix_off}, postfixoff: {postfix_off}"
            "{new_page: (newpage)|}{postfix_block_same: (same)|}",
        ),
    ),
    XLOG_SPGIST_PICKSPLIT: (
        Op(
            14,
            "PICKSPLIT",
            PICK_SPLIT,
            "ndelete: {ndelete}, ninsert: {ninsert}, inneroff: {inner_off}, "
            "parentoff: {parent_off}, nodeI: {node_i}{inner_is_parent: (innerIsParent)|}"
            "{stores_nulls: (nulls)|}{is_root_split: (isRootSplit)|}",
        ),
    ),
    XLOG_SPGIST_VACUUM_LEAF: (
        Op(
            14,
            "VACUUM_LEAF",
            VACUUM_LEAF,
            "ndead: {ndead}, nplaceholder: {nplaceholder}, nmove: {nmove}, nchain: {nchain}",
        ),
    ),
    XLOG_SPGIST_VACUUM_ROOT: (Op(14, "VACUUM_ROOT", VACUUM_ROOT, "ndelete: {ndelete}"),),
    XLOG_SPGIST_VACUUM_REDIRECT: (
        Op(
            14,
            "VACUUM_REDIRECT",
            REDIRECT_14,
            _REDIRECT + "newestredirectxid: {newest_redirect_xid}",
        ),
        Op(16, "VACUUM_REDIRECT", REDIRECT_16, _REDIRECT_16),
        Op(
            17,
            "VACUUM_REDIRECT",
            REDIRECT_16,
            _REDIRECT_16 + ", isCatalogRel: {is_catalog_rel:T|F}",
        ),
    ),
}
