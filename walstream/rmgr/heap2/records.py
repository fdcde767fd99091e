"""Heap2: pruning, freezing, visibility, multi-insert (heapam_xlog.h, heapdesc.c).

17 replaced PRUNE, VACUUM and FREEZE_PAGE by three PRUNE operations of one format.
"""

from __future__ import annotations

import struct

from walstream.errors import RecordError
from walstream.rmgr.arrays import numbers_text, redirects_text
from walstream.rmgr.heap.effects import PruneParts
from walstream.rmgr.layout import Cursor, Layout, Value
from walstream.rmgr.op import Op
from walstream.rmgr.view import View
from walstream.wal.opcodes import (
    XLHP_HAS_CONFLICT_HORIZON,
    XLOG_HEAP2_FREEZE_PAGE,
    XLOG_HEAP2_LOCK_UPDATED,
    XLOG_HEAP2_MULTI_INSERT,
    XLOG_HEAP2_NEW_CID,
    XLOG_HEAP2_PRUNE,
    XLOG_HEAP2_REWRITE,
    XLOG_HEAP2_VACUUM,
    XLOG_HEAP2_VISIBLE,
    XLOG_HEAP_INIT_PAGE,
)

PRUNE_14 = Layout("latest_removed_xid xid, nredirected u16, ndead u16")
PRUNE_16 = Layout("conflict_horizon xid, nredirected u16, ndead u16, is_catalog_rel bool")
PRUNE_17 = Layout("reason u8, flags u8")
VACUUM = Layout("nunused u16")
FREEZE_14 = Layout("cutoff_xid xid, ntuples u16")
FREEZE_16 = Layout("conflict_horizon xid, nplans u16, is_catalog_rel bool")
VISIBLE_14 = Layout("cutoff_xid xid, flags u8")
VISIBLE_16 = Layout("conflict_horizon xid, flags u8")
MULTI_INSERT = Layout("flags u8, ntuples u16, offsets u16[ntuples]")
MULTI_INSERT_INIT = Layout("flags u8, ntuples u16")
LOCK_UPDATED = Layout("xmax xid, off u16, infobits u8, flags u8")
NEW_CID = Layout("top_xid xid, cmin u32, cmax u32, combo u32, locator locator, tid tid")
REWRITE = Layout("mapped_xid xid, mapped_db oid, mapped_rel oid, offset i64, num_mappings u32")

# xlhp_freeze_plan (xl_heap_freeze_plan in 16): xmax, infomask2, infomask, flags, ntuples
_PLAN = struct.Struct("<IHHBxH")
Plan = tuple[int, int, int, int, int]


def read_plans(cursor: Cursor, count: int) -> list[Plan]:
    at = cursor.skip(_PLAN.size * count)
    return [_PLAN.unpack_from(cursor.data, at + i * _PLAN.size) for i in range(count)]


def read_plan_offsets(cursor: Cursor, plans: list[Plan]) -> list[tuple[int, ...]]:
    return [cursor.integers("u16", plan[4]) for plan in plans]


def plans_text(plans: list[Plan], offsets: list[tuple[int, ...]]) -> str:
    texts = (
        f"{{ xmax: {plan[0]}, infomask: {plan[2]}, infomask2: {plan[1]}, ntuples: {plan[4]}, "
        f"offsets: {numbers_text(numbers)} }}"
        for plan, numbers in zip(plans, offsets, strict=True)
    )
    return f"[{', '.join(texts)}]"


Items = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


def pruned_items(data: bytes, parts: PruneParts) -> Items:
    """Returns redirections, dead and unused items."""
    return (
        Cursor(data, parts.redirected_at).integers("u16", 2 * parts.redirected),
        Cursor(data, parts.dead_at).integers("u16", parts.dead),
        Cursor(data, parts.unused_at).integers("u16", parts.unused),
    )


def prune_items_16(view: View) -> Items | None:
    """Returns redirections, dead and unused items of a PRUNE of 14 to 16, None without data."""
    data = view.block_data(0)
    if data is None:
        return None
    body = Cursor(view.main)
    body.skip(4)
    redirected, dead = body.integers("u16", 2)
    parts = PruneParts()
    if parts.find_counted(0, len(data), redirected, dead) != 0:
        raise RecordError("record body too short: items beyond the data of block 0")
    return pruned_items(data, parts)


def describe_prune_16(view: View) -> str:
    body = Cursor(view.main)
    horizon = body.integer()
    nredirected, ndead = body.integers("u16", 2)
    text = f"snapshotConflictHorizon: {horizon}, nredirected: {nredirected}, ndead: {ndead}"
    items = prune_items_16(view)
    if items is None:
        return text
    redirected, dead, unused = items
    return (
        f"{text}, nunused: {len(unused)}, redirected: {redirects_text(redirected)}, "
        f"dead: {numbers_text(dead)}, unused: {numbers_text(unused)}"
    )


def describe_vacuum_16(view: View) -> str:
    count = Cursor(view.main).integer("u16")
    data = view.block_data(0)
    if data is None:
        return f"nunused: {count}"
    unused = Cursor(data).integers("u16", count)
    return f"nunused: {count}, unused: {numbers_text(unused)}"


def describe_freeze_16(view: View) -> str:
    body = Cursor(view.main)
    horizon, count = body.integer(), body.integer("u16")
    text = f"snapshotConflictHorizon: {horizon}, nplans: {count}"
    data = view.block_data(0)
    if data is None:
        return text
    cursor = Cursor(data)
    plans = read_plans(cursor, count)
    return f"{text}, plans: {plans_text(plans, read_plan_offsets(cursor, plans))}"


def conflict_horizon(view: View) -> int | None:
    cursor = Cursor(view.main)
    _, flags = cursor.integers("u8", 2)
    return cursor.integer() if flags & XLHP_HAS_CONFLICT_HORIZON else None


def prune_fields_17(view: View, fields: dict[str, Value]) -> None:
    horizon = conflict_horizon(view)
    if horizon is not None:
        fields["conflict_horizon"] = horizon
    data = view.block_data(0)
    if data is not None:
        parts = PruneParts()
        parts.find_bytes(data, view.main[1])
        plans = read_plans(Cursor(data, parts.plans_at), parts.plans)
        offsets = read_plan_offsets(Cursor(data, parts.offsets_at), plans)
        fields["plans"] = tuple(plans)
        fields["plan_offsets"] = tuple(offsets)
        fields["redirected"], fields["dead"], fields["unused"] = pruned_items(data, parts)


def prune_fields_14(view: View, fields: dict[str, Value]) -> None:
    items = prune_items_16(view)
    if items is not None:
        fields["redirected"], fields["dead"], fields["unused"] = items


def vacuum_fields(view: View, fields: dict[str, Value]) -> None:
    data = view.block_data(0)
    if data is not None:
        fields["unused"] = Cursor(data).integers("u16", len(data) // 2)


def freeze_fields_16(view: View, fields: dict[str, Value]) -> None:
    data = view.block_data(0)
    if data is not None:
        cursor = Cursor(data)
        count = fields["nplans"]
        assert isinstance(count, int)
        plans = read_plans(cursor, count)
        fields["plans"] = tuple(plans)
        fields["plan_offsets"] = tuple(read_plan_offsets(cursor, plans))


def _prune(name: str) -> Op:
    return Op(17, name, PRUNE_17, "{:prune}", prune_fields_17)


_LOCK_16 = "xmax: {xmax}, off: {off}, infobits: [{infobits:infobits,}], flags: 0x{flags:02X}"
_HORIZON = "snapshotConflictHorizon: {conflict_horizon}"

_FORMS = {
    XLOG_HEAP2_REWRITE: (Op(14, "REWRITE", REWRITE),),
    XLOG_HEAP2_PRUNE: (
        Op(
            14,
            "PRUNE",
            PRUNE_14,
            "latestRemovedXid {latest_removed_xid} nredirected {nredirected} ndead {ndead}",
            prune_fields_14,
        ),
        Op(16, "PRUNE", PRUNE_16, describe_prune_16, prune_fields_14),
        _prune("PRUNE_ON_ACCESS"),
    ),
    XLOG_HEAP2_VACUUM: (
        Op(14, "VACUUM", VACUUM, "nunused {nunused}", vacuum_fields),
        Op(16, "VACUUM", VACUUM, describe_vacuum_16, vacuum_fields),
        _prune("PRUNE_VACUUM_SCAN"),
    ),
    XLOG_HEAP2_FREEZE_PAGE: (
        Op(14, "FREEZE_PAGE", FREEZE_14, "cutoff xid {cutoff_xid} ntuples {ntuples}"),
        Op(16, "FREEZE_PAGE", FREEZE_16, describe_freeze_16, freeze_fields_16),
        _prune("PRUNE_VACUUM_CLEANUP"),
    ),
    XLOG_HEAP2_VISIBLE: (
        Op(14, "VISIBLE", VISIBLE_14, "cutoff xid {cutoff_xid} flags 0x{flags:02X}"),
        Op(16, "VISIBLE", VISIBLE_16, _HORIZON + ", flags: 0x{flags:02X}"),
    ),
    XLOG_HEAP2_MULTI_INSERT: (
        Op(14, "MULTI_INSERT", MULTI_INSERT, "{ntuples} tuples flags 0x{flags:02X}"),
        Op(
            16,
            "MULTI_INSERT",
            MULTI_INSERT,
            "ntuples: {ntuples}, flags: 0x{flags:02X}{:block0}, offsets: {offsets:[]}",
        ),
    ),
    XLOG_HEAP2_LOCK_UPDATED: (
        Op(
            14,
            "LOCK_UPDATED",
            LOCK_UPDATED,
            "off {off}: xmax {xmax}: flags 0x{flags:02X} {infobits:infobits+}",
        ),
        Op(16, "LOCK_UPDATED", LOCK_UPDATED, _LOCK_16),
    ),
    XLOG_HEAP2_NEW_CID: (
        Op(
            14,
            "NEW_CID",
            NEW_CID,
            "rel {locator}; tid {tid}; cmin: {cmin}, cmax: {cmax}, combo: {combo}",
        ),
        Op(
            16,
            "NEW_CID",
            NEW_CID,
            "rel: {locator}, tid: {tid}, cmin: {cmin}, cmax: {cmax}, combo: {combo}",
        ),
    ),
}
# The page was empty: the tuples lie at 1, 2, 3, ... and no offsets are recorded.
_INIT = (
    Op(14, "MULTI_INSERT+INIT", MULTI_INSERT_INIT, "{ntuples} tuples flags 0x{flags:02X}"),
    Op(16, "MULTI_INSERT+INIT", MULTI_INSERT_INIT, "ntuples: {ntuples}, flags: 0x{flags:02X}"),
)
OPS = (
    _FORMS
    | {
        code | XLOG_HEAP_INIT_PAGE: tuple(form._replace(name=None) for form in forms)
        for code, forms in _FORMS.items()
    }
    | {XLOG_HEAP2_MULTI_INSERT | XLOG_HEAP_INIT_PAGE: _INIT}
)
