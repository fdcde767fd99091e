"""walstream: PostgreSQL's physical WAL, streamed, kept, decoded, indexed and replayed.

The names below are the public API. They are imported when they are first used, so that a program
pays only for what it takes.
"""

from __future__ import annotations

import _imp
import importlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from walstream.app.open import open_pages as open_pages
    from walstream.app.run import Application as Application
    from walstream.config import RunConfig as RunConfig
    from walstream.errors import WalstreamError as WalstreamError
    from walstream.pages.service import BlockChange as BlockChange
    from walstream.pages.service import PageService as PageService
    from walstream.rmgr import describe as describe
    from walstream.sql.tables import WalScan as WalScan
    from walstream.sql.tables import scan as scan
    from walstream.wal.model import BufferTag as BufferTag
    from walstream.wal.model import RelFileLocator as RelFileLocator
    from walstream.wal.model import XLogRecord as XLogRecord
    from walstream.wal.model import format_lsn as format_lsn
    from walstream.wal.model import parse_lsn as parse_lsn
    from walstream.wal.record import decode_wal_record as decode_wal_record
    from walstream.wal.relpath import parse_relation as parse_relation
    from walstream.wal.stream import WalStreamDecoder as WalStreamDecoder

__version__ = "0.1.0"

# Of a file that every build with kernels has (setup.py): a stat, for a path is cheaper than a Path.
if not os.path.exists(f"{__path__[0]}/_cython{_imp.extension_suffixes()[0]}"):  # noqa: PTH110
    from walstream import uncompiled

    uncompiled.provide()

_MODULES = {
    "Application": "walstream.app.run",
    "BlockChange": "walstream.pages.service",
    "BufferTag": "walstream.wal.model",
    "PageService": "walstream.pages.service",
    "RelFileLocator": "walstream.wal.model",
    "RunConfig": "walstream.config",
    "WalScan": "walstream.sql.tables",
    "WalStreamDecoder": "walstream.wal.stream",
    "WalstreamError": "walstream.errors",
    "XLogRecord": "walstream.wal.model",
    "decode_wal_record": "walstream.wal.record",
    "describe": "walstream.rmgr",
    "format_lsn": "walstream.wal.model",
    "open_pages": "walstream.app.open",
    "parse_lsn": "walstream.wal.model",
    "parse_relation": "walstream.wal.relpath",
    "scan": "walstream.sql.tables",
}


if not TYPE_CHECKING:
    # Hidden from type checkers, which would take any name for one of ours.

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*_MODULES, "__version__"])
