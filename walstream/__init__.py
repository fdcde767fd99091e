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
    from walstream.app.receive import Receiving as Receiving
    from walstream.app.receive import receive_wal as receive_wal
    from walstream.app.reindex import reindex as reindex
    from walstream.app.run import Application as Application
    from walstream.app.run import open_application as open_application
    from walstream.config import RunConfig as RunConfig
    from walstream.errors import BackupDamaged as BackupDamaged
    from walstream.errors import ConfigError as ConfigError
    from walstream.errors import ConnectionLost as ConnectionLost
    from walstream.errors import FileDamaged as FileDamaged
    from walstream.errors import HistoryMissing as HistoryMissing
    from walstream.errors import InvalidFilter as InvalidFilter
    from walstream.errors import LocalServerError as LocalServerError
    from walstream.errors import LsnNotAvailable as LsnNotAvailable
    from walstream.errors import MountError as MountError
    from walstream.errors import NameNotFound as NameNotFound
    from walstream.errors import NoBaseImage as NoBaseImage
    from walstream.errors import NoRows as NoRows
    from walstream.errors import NoSpace as NoSpace
    from walstream.errors import NoWalFound as NoWalFound
    from walstream.errors import PageDamaged as PageDamaged
    from walstream.errors import PageError as PageError
    from walstream.errors import PageHeaderError as PageHeaderError
    from walstream.errors import PageNotFound as PageNotFound
    from walstream.errors import ProtocolError as ProtocolError
    from walstream.errors import ReadError as ReadError
    from walstream.errors import RecordError as RecordError
    from walstream.errors import RedoError as RedoError
    from walstream.errors import RedoProcessDied as RedoProcessDied
    from walstream.errors import RedoProtocolError as RedoProtocolError
    from walstream.errors import RedoQuarantined as RedoQuarantined
    from walstream.errors import RedoTimeout as RedoTimeout
    from walstream.errors import ReplicationProtocolError as ReplicationProtocolError
    from walstream.errors import RowDamaged as RowDamaged
    from walstream.errors import RowsError as RowsError
    from walstream.errors import SandboxError as SandboxError
    from walstream.errors import SegmentMissing as SegmentMissing
    from walstream.errors import ServerRefused as ServerRefused
    from walstream.errors import StorageError as StorageError
    from walstream.errors import StoreError as StoreError
    from walstream.errors import UnsupportedRecord as UnsupportedRecord
    from walstream.errors import WalDivergedError as WalDivergedError
    from walstream.errors import WalError as WalError
    from walstream.errors import WalGapError as WalGapError
    from walstream.errors import WalstreamError as WalstreamError
    from walstream.errors import WriteError as WriteError
    from walstream.errors import WrongCluster as WrongCluster
    from walstream.errors import WrongResult as WrongResult
    from walstream.pages.service import BlockChange as BlockChange
    from walstream.pages.service import PageService as PageService
    from walstream.pages.text import page_lines as page_lines
    from walstream.records.live import stream_wal as stream_wal
    from walstream.records.stored import read_wal as read_wal
    from walstream.rmgr import describe as describe
    from walstream.rmgr.record import WalRecord as WalRecord
    from walstream.rmgr.xact import XactEnd as XactEnd
    from walstream.sql.tables import WalScan as WalScan
    from walstream.sql.tables import scan as scan
    from walstream.store.store import Store as Store
    from walstream.wal.image import restore_image as restore_image
    from walstream.wal.model import BlockRef as BlockRef
    from walstream.wal.model import BufferTag as BufferTag
    from walstream.wal.model import ForkNumber as ForkNumber
    from walstream.wal.model import PageImage as PageImage
    from walstream.wal.model import RawRecord as RawRecord
    from walstream.wal.model import RelFileLocator as RelFileLocator
    from walstream.wal.model import WalChunk as WalChunk
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

# The same names as above (tests/test_api.py), by the module that has them.
_EXPORTS = {
    "walstream.app.open": ("open_pages",),
    "walstream.app.receive": (
        "Receiving",
        "receive_wal",
    ),
    "walstream.app.reindex": ("reindex",),
    "walstream.app.run": (
        "Application",
        "open_application",
    ),
    "walstream.config": ("RunConfig",),
    "walstream.errors": (
        "BackupDamaged",
        "ConfigError",
        "ConnectionLost",
        "FileDamaged",
        "HistoryMissing",
        "InvalidFilter",
        "LocalServerError",
        "LsnNotAvailable",
        "MountError",
        "NameNotFound",
        "NoBaseImage",
        "NoRows",
        "NoSpace",
        "NoWalFound",
        "PageDamaged",
        "PageError",
        "PageHeaderError",
        "PageNotFound",
        "ProtocolError",
        "ReadError",
        "RecordError",
        "RedoError",
        "RedoProcessDied",
        "RedoProtocolError",
        "RedoQuarantined",
        "RedoTimeout",
        "ReplicationProtocolError",
        "RowDamaged",
        "RowsError",
        "SandboxError",
        "SegmentMissing",
        "ServerRefused",
        "StorageError",
        "StoreError",
        "UnsupportedRecord",
        "WalDivergedError",
        "WalError",
        "WalGapError",
        "WalstreamError",
        "WriteError",
        "WrongCluster",
        "WrongResult",
    ),
    "walstream.pages.service": (
        "BlockChange",
        "PageService",
    ),
    "walstream.pages.text": ("page_lines",),
    "walstream.records.live": ("stream_wal",),
    "walstream.records.stored": ("read_wal",),
    "walstream.rmgr": ("describe",),
    "walstream.rmgr.record": ("WalRecord",),
    "walstream.rmgr.xact": ("XactEnd",),
    "walstream.sql.tables": (
        "WalScan",
        "scan",
    ),
    "walstream.store.store": ("Store",),
    "walstream.wal.image": ("restore_image",),
    "walstream.wal.model": (
        "BlockRef",
        "BufferTag",
        "ForkNumber",
        "PageImage",
        "RawRecord",
        "RelFileLocator",
        "WalChunk",
        "XLogRecord",
        "format_lsn",
        "parse_lsn",
    ),
    "walstream.wal.record": ("decode_wal_record",),
    "walstream.wal.relpath": ("parse_relation",),
    "walstream.wal.stream": ("WalStreamDecoder",),
}
_MODULE_OF = {name: module for module, names in _EXPORTS.items() for name in names}

__all__ = sorted(_MODULE_OF)

if not TYPE_CHECKING:
    # Hidden from type checkers, which would take any name for one of ours.

    def __getattr__(name: str) -> object:
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
