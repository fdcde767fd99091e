"""BRIN (brin_xlog.h, brindesc.c); the same in 14 to 18."""

from __future__ import annotations

from walstream.rmgr.layout import Layout
from walstream.rmgr.op import Op
from walstream.wal.opcodes import (
    XLOG_BRIN_CREATE_INDEX,
    XLOG_BRIN_DESUMMARIZE,
    XLOG_BRIN_INIT_PAGE,
    XLOG_BRIN_INSERT,
    XLOG_BRIN_REVMAP_EXTEND,
    XLOG_BRIN_SAMEPAGE_UPDATE,
    XLOG_BRIN_UPDATE,
)

INSERT = Layout("heap_block block, pages_per_range block, offnum u16")
UPDATE = Layout("old_offnum u16, heap_block block, pages_per_range block, offnum u16")
_INSERT = "heapBlk {heap_block} pagesPerRange {pages_per_range} offnum {offnum}"
_UPDATE = (
    "heapBlk {heap_block} pagesPerRange {pages_per_range} "
    "old offnum {old_offnum}, new offnum {offnum}"
)
DESUMMARIZE = Layout("pages_per_range block, heap_block block, offset u16")

_FORMS = {
    XLOG_BRIN_CREATE_INDEX: (
        Op(
            14,
            "CREATE_INDEX",
            Layout("pages_per_range block, version u16"),
            "v{version} pagesPerRange {pages_per_range}",
        ),
    ),
    XLOG_BRIN_INSERT: (Op(14, "INSERT", INSERT, _INSERT),),
    XLOG_BRIN_UPDATE: (Op(14, "UPDATE", UPDATE, _UPDATE),),
    XLOG_BRIN_SAMEPAGE_UPDATE: (
        Op(14, "SAMEPAGE_UPDATE", Layout("offnum u16"), "offnum {offnum}"),
    ),
    XLOG_BRIN_REVMAP_EXTEND: (
        Op(14, "REVMAP_EXTEND", Layout("target block"), "targetBlk {target}"),
    ),
    XLOG_BRIN_DESUMMARIZE: (
        Op(
            14,
            "DESUMMARIZE",
            DESUMMARIZE,
            "pagesPerRange {pages_per_range}, heapBlk {heap_block}, page offset {offset}",
        ),
    ),
}
_WITH_INIT = {XLOG_BRIN_INSERT: "INSERT+INIT", XLOG_BRIN_UPDATE: "UPDATE+INIT"}
OPS = _FORMS | {
    code | XLOG_BRIN_INIT_PAGE: tuple(form._replace(name=_WITH_INIT.get(code)) for form in forms)
    for code, forms in _FORMS.items()
}
