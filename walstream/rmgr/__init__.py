"""What the records of each resource manager say, per major version 14 to 18.

One module per resource manager declares its operations (``records`` in the folder of those that
change pages, beside their redo rules): bodies as C structs, and the line that pg_waldump of that
version prints. The ``parse_*`` functions give the bodies that the rest of
walstream acts upon as typed values. Pure: bytes in, values and text out.

The names below are imported when they are first used, and a resource manager's module when its
first record is described: whoever looks for a few records pays only for theirs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from walstream.rmgr.database import DatabaseCreate as DatabaseCreate
    from walstream.rmgr.database import DatabaseDrop as DatabaseDrop
    from walstream.rmgr.database import parse_database as parse_database
    from walstream.rmgr.description import describe as describe
    from walstream.rmgr.description import describer as describer
    from walstream.rmgr.description import fields as fields
    from walstream.rmgr.description import identify as identify
    from walstream.rmgr.description import operation_name as operation_name
    from walstream.rmgr.storage import StorageCreate as StorageCreate
    from walstream.rmgr.storage import StorageTruncate as StorageTruncate
    from walstream.rmgr.storage import parse_storage as parse_storage
    from walstream.rmgr.tablespace import TablespaceCreate as TablespaceCreate
    from walstream.rmgr.tablespace import TablespaceDrop as TablespaceDrop
    from walstream.rmgr.tablespace import parse_tablespace as parse_tablespace
    from walstream.rmgr.xact import DroppedStats as DroppedStats
    from walstream.rmgr.xact import XactEnd as XactEnd
    from walstream.rmgr.xact import XactPrepare as XactPrepare
    from walstream.rmgr.xact import parse_end as parse_end
    from walstream.rmgr.xact import parse_prepare as parse_prepare
    from walstream.rmgr.xlog.records import CheckPoint as CheckPoint
    from walstream.rmgr.xlog.records import EndOfRecovery as EndOfRecovery
    from walstream.rmgr.xlog.records import parse_checkpoint as parse_checkpoint
    from walstream.rmgr.xlog.records import parse_end_of_recovery as parse_end_of_recovery

_NAMES = {
    "database": ("DatabaseCreate", "DatabaseDrop", "parse_database"),
    "description": ("describe", "describer", "fields", "identify", "operation_name"),
    "storage": ("StorageCreate", "StorageTruncate", "parse_storage"),
    "tablespace": ("TablespaceCreate", "TablespaceDrop", "parse_tablespace"),
    "xact": ("DroppedStats", "XactEnd", "XactPrepare", "parse_end", "parse_prepare"),
    "xlog.records": ("CheckPoint", "EndOfRecovery", "parse_checkpoint", "parse_end_of_recovery"),
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_MODULE_OF)
