"""Names of the operations that change pages, as pg_waldump prints them, for error messages.

They are PostgreSQL's names of the op codes without what all codes of a resource manager begin with.
"""

from __future__ import annotations

from walstream.rmgr.rmgrlist import RMGRS
from walstream.wal import opcodes
from walstream.wal.layout import RM_BRIN_ID, RM_GENERIC_ID, RM_HEAP2_ID, RM_HEAP_ID, RM_XLOG_ID

# From 17 on Heap2 says what the pruning was for; the codes stand after those of 16.
_OLD_HEAP2 = {
    opcodes.XLOG_HEAP2_PRUNE: "PRUNE",
    opcodes.XLOG_HEAP2_VACUUM: "VACUUM",
    opcodes.XLOG_HEAP2_FREEZE_PAGE: "FREEZE_PAGE",
}
_BITS = ("OPMASK", "INIT_PAGE")
_NAMES = {
    rmgr.id: {
        code: name.removeprefix(rmgr.codes)
        for name, code in vars(opcodes).items()
        if name.startswith(rmgr.codes) and not name.endswith(_BITS)
    }
    for rmgr in RMGRS
    if rmgr.codes
}
_NAMES[RM_XLOG_ID] = {opcodes.XLOG_FPI_FOR_HINT: "FPI_FOR_HINT", opcodes.XLOG_FPI: "FPI"}
_NAMES[RM_GENERIC_ID] = {0x00: "Generic"}
# The one name that is not the code's.
_NAMES[RM_HEAP_ID][opcodes.XLOG_HEAP_CONFIRM] = "HEAP_CONFIRM"
# Whose highest bit says that the record begins with an empty page.
_WITH_INIT = {
    RM_HEAP2_ID: {opcodes.XLOG_HEAP2_MULTI_INSERT},
    RM_HEAP_ID: {
        opcodes.XLOG_HEAP_INSERT,
        opcodes.XLOG_HEAP_UPDATE,
        opcodes.XLOG_HEAP_HOT_UPDATE,
    },
    RM_BRIN_ID: {opcodes.XLOG_BRIN_INSERT, opcodes.XLOG_BRIN_UPDATE},
}
assert opcodes.XLOG_HEAP_INIT_PAGE == opcodes.XLOG_BRIN_INIT_PAGE


def operation_name(rmgr: int, op: int, version: int) -> str:
    """Returns the name of ``op`` (``info & 0xF0``), or its number where it has none."""
    names = _NAMES.get(rmgr, {})
    if rmgr == RM_HEAP2_ID and version < 17:
        names = names | _OLD_HEAP2
    plain = op & ~opcodes.XLOG_HEAP_INIT_PAGE
    if op != plain and plain in _WITH_INIT.get(rmgr, ()):
        return f"{names[plain]}+INIT"
    return names.get(op, f"op 0x{op:02X}")
