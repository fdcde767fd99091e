"""The kernels as they are installed and, beside them, executed from source."""

from __future__ import annotations

from types import ModuleType

from tests.support.pure import load
from walstream.wal import record, scan, stream

PURE: dict[str, ModuleType] = {}
STREAMS: list[ModuleType] = [stream, load("walstream.wal.stream", PURE)]
SCANS: list[ModuleType] = [scan, load("walstream.wal.scan", PURE)]
RECORDS: list[ModuleType] = [record, load("walstream.wal.record", PURE)]
IDS = ("installed", "pure")
