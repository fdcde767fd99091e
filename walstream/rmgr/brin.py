"""BRIN (brin_xlog.h, brindesc.c); the same in 14 to 18."""

from __future__ import annotations

from walstream.rmgr.layout import Layout
from walstream.rmgr.op import Op

INIT_PAGE = 0x80

INSERT = Layout("heap_block block, pages_per_range block, offnum u16")
UPDATE = Layout("old_offnum u16, heap_block block, pages_per_range block, offnum u16")
_INSERT = "heapBlk {heap_block} pagesPerRange {pages_per_range} offnum {offnum}"
_UPDATE = (
    "heapBlk {heap_block} pagesPerRange {pages_per_range} "
    "old offnum {old_offnum}, new offnum {offnum}"
)
DESUMMARIZE = Layout("pages_per_range block, heap_block block, offset u16")

_FORMS = {
    0x00: (
        Op(
            14,
            "CREATE_INDEX",
            Layout("pages_per_range block, version u16"),
            "v{version} pagesPerRange {pages_per_range}",
        ),
    ),
    0x10: (Op(14, "INSERT", INSERT, _INSERT),),
    0x20: (Op(14, "UPDATE", UPDATE, _UPDATE),),
    0x30: (Op(14, "SAMEPAGE_UPDATE", Layout("offnum u16"), "offnum {offnum}"),),
    0x40: (Op(14, "REVMAP_EXTEND", Layout("target block"), "targetBlk {target}"),),
    0x50: (
        Op(
            14,
            "DESUMMARIZE",
            DESUMMARIZE,
            "pagesPerRange {pages_per_range}, heapBlk {heap_block}, page offset {offset}",
        ),
    ),
}
_WITH_INIT = {0x10: "INSERT+INIT", 0x20: "UPDATE+INIT"}
OPS = _FORMS | {
    code | INIT_PAGE: tuple(form._replace(name=_WITH_INIT.get(code)) for form in forms)
    for code, forms in _FORMS.items()
}
