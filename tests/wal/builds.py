"""The kernels as they are installed and, beside them, executed from source."""

from __future__ import annotations

from types import ModuleType

from tests.pure import pure
from walstream.wal import record, scan, stream

PURE_CRC = pure("walstream.wal.crc")
PURE_WALK = pure("walstream.wal.walk", {"walstream.wal.crc": PURE_CRC})
PURE_RECORD = pure("walstream.wal.record")
PURE_STREAM = pure("walstream.wal.stream", {"walstream.wal.walk": PURE_WALK})
PURE_SCAN = pure(
    "walstream.wal.scan",
    {
        "walstream.wal.crc": PURE_CRC,
        "walstream.wal.walk": PURE_WALK,
        "walstream.wal.record": PURE_RECORD,
    },
)

STREAMS: list[ModuleType] = [stream, PURE_STREAM]
SCANS: list[ModuleType] = [scan, PURE_SCAN]
RECORDS: list[ModuleType] = [record, PURE_RECORD]
IDS = ("installed", "pure")
