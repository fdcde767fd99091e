"""The resource managers, a row each: what has no place in one manager's own modules (rmgrlist.h).

Whoever needs a name or a property of all of them finds it here without loading what their records
say, as the redo child does.
"""

from __future__ import annotations

from typing import NamedTuple

from walstream.wal import layout


class Rmgr(NamedTuple):
    """One resource manager.

    ``name`` is what pg_waldump prints. Modules are below ``walstream.rmgr``: ``records`` has its
    operations, ``mask`` hides what may differ between its pages of a primary and those after redo;
    it is empty where it has no pages. ``codes`` is what its op codes begin with in ``wal/opcodes``,
    where redo errors name them.
    """

    id: int
    name: str
    records: str
    mask: str = ""
    codes: str = ""

    @property
    def changes_pages(self) -> bool:
        """Whether every block reference of its records is a page that it changes.

        Beside these (and the visibility map) such a record says nothing that the index must keep.
        """
        return self.mask != ""


# In the order of rmgrlist.h: the position is the id.
RMGRS = (
    Rmgr(layout.RM_XLOG_ID, "XLOG", "xlog.records"),
    Rmgr(layout.RM_XACT_ID, "Transaction", "xact"),
    Rmgr(layout.RM_SMGR_ID, "Storage", "storage", codes="XLOG_SMGR_"),
    Rmgr(layout.RM_CLOG_ID, "CLOG", "clog"),
    Rmgr(layout.RM_DBASE_ID, "Database", "database"),
    Rmgr(layout.RM_TBLSPC_ID, "Tablespace", "tablespace"),
    Rmgr(layout.RM_MULTIXACT_ID, "MultiXact", "multixact"),
    Rmgr(layout.RM_RELMAP_ID, "RelMap", "relmap"),
    Rmgr(layout.RM_STANDBY_ID, "Standby", "standby"),
    Rmgr(layout.RM_HEAP2_ID, "Heap2", "heap2.records", "heap.mask", "XLOG_HEAP2_"),
    Rmgr(layout.RM_HEAP_ID, "Heap", "heap.records", "heap.mask", "XLOG_HEAP_"),
    Rmgr(layout.RM_BTREE_ID, "Btree", "btree.records", "btree.mask", "XLOG_BTREE_"),
    Rmgr(layout.RM_HASH_ID, "Hash", "hash.records", "hash.mask", "XLOG_HASH_"),
    Rmgr(layout.RM_GIN_ID, "Gin", "gin.records", "gin.mask", "XLOG_GIN_"),
    Rmgr(layout.RM_GIST_ID, "Gist", "gist.records", "gist.mask", "XLOG_GIST_"),
    Rmgr(layout.RM_SEQ_ID, "Sequence", "sequence.records", "sequence.mask", "XLOG_SEQ_"),
    Rmgr(layout.RM_SPGIST_ID, "SPGist", "spgist.records", "spgist.mask", "XLOG_SPGIST_"),
    Rmgr(layout.RM_BRIN_ID, "BRIN", "brin.records", "brin.mask", "XLOG_BRIN_"),
    Rmgr(layout.RM_COMMIT_TS_ID, "CommitTs", "commit_ts"),
    Rmgr(layout.RM_REPLORIGIN_ID, "ReplicationOrigin", "origin"),
    Rmgr(layout.RM_GENERIC_ID, "Generic", "generic.records", "generic.mask"),
    Rmgr(layout.RM_LOGICALMSG_ID, "LogicalMessage", "message"),
)
RMGR_NAMES = tuple(rmgr.name for rmgr in RMGRS)


def rmgr_name(rmgr_id: int) -> str:
    """Returns the name that pg_waldump prints: ``custom133`` for custom ids."""
    if rmgr_id < len(RMGR_NAMES):
        return RMGR_NAMES[rmgr_id]
    if rmgr_id >= layout.RM_MIN_CUSTOM_ID:
        return f"custom{rmgr_id:03d}"
    return f"UNKNOWN ({rmgr_id})"


def parse_rmgr_name(name: str) -> int:
    """Returns the id of a resource manager by the name that pg_waldump prints, in any case.

    Raises:
        ValueError: there is none of that name.
    """
    lower = name.lower()
    for rmgr_id, known in enumerate(RMGR_NAMES):
        if known.lower() == lower:
            return rmgr_id
    number = lower.removeprefix("custom")
    if lower.startswith("custom") and number.isascii() and number.isdigit() and len(number) <= 3:
        rmgr_id = int(number)
        if layout.RM_MIN_CUSTOM_ID <= rmgr_id <= 255:
            return rmgr_id
        raise ValueError(f'custom resource manager "{name}" does not exist')
    raise ValueError(f'resource manager "{name}" does not exist')
