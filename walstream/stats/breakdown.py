"""Counts WAL: per kind of record as pg_waldump, and per relation, fork, transaction and time."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from heapq import nlargest
from typing import Any

from walstream.rmgr import operation_name
from walstream.rmgr.rmgrlist import rmgr_name
from walstream.scanning.ending import Ending
from walstream.scanning.output import Batch, ColumnsOutput
from walstream.scanning.range_scan import RangeScan
from walstream.scanning.wal_range import stored
from walstream.segments.source import SegmentSource
from walstream.wal.columns import IMAGE_APPLY
from walstream.wal.layout import RM_XLOG_ID, XLR_RMGR_INFO_MASK
from walstream.wal.model import FORK_NAMES, POSTGRES_EPOCH_S, format_lsn
from walstream.wal.opcodes import (
    XLOG_FPI,
    XLOG_FPI_FOR_HINT,
    XLOG_SWITCH,
    XLOG_XACT_ABORT,
    XLOG_XACT_ABORT_PREPARED,
    XLOG_XACT_COMMIT,
    XLOG_XACT_COMMIT_PREPARED,
    XLOG_XACT_OPMASK,
)
from walstream.wal.totals import RecordTotals

_CELLS = 4096
_MARKS = re.compile(b"[\x00\x01]")
# Both begin with their time.
_COMMITS = (XLOG_XACT_COMMIT, XLOG_XACT_COMMIT_PREPARED)
_ABORTS = (XLOG_XACT_ABORT, XLOG_XACT_ABORT_PREPARED)

FORKS = {number: name for name, number in FORK_NAMES.items()}
HINT = "hint bits with checksums or wal_log_hints (FPI_FOR_HINT)"
WHOLE = "whole pages logged as such (FPI: index builds and the like)"
FIRST = "first change after a checkpoint"
CHECK = "wal_consistency_checking"


@dataclass(slots=True)
class Sums:
    """``[blocks or records, images, bytes of images]`` or ``[records, bytes]`` by key."""

    totals: RecordTotals = field(default_factory=RecordTotals)
    # how WAL ended behind what was counted
    ending: Ending | None = None
    first_lsn: int = 0
    version: int = 0
    blocks: Counter[tuple[int, int, int, int]] = field(default_factory=Counter)
    images: Counter[tuple[int, int, int, int]] = field(default_factory=Counter)
    image_bytes: Counter[tuple[int, int, int, int]] = field(default_factory=Counter)
    causes: Counter[str] = field(default_factory=Counter)
    cause_bytes: Counter[str] = field(default_factory=Counter)
    xid_records: Counter[int] = field(default_factory=Counter)
    xid_bytes: Counter[int] = field(default_factory=Counter)
    commits: Counter[int] = field(default_factory=Counter)
    aborts: Counter[int] = field(default_factory=Counter)
    # second since 1970 -> end LSN of the last commit or abort in it
    second_lsn: dict[int, int] = field(default_factory=dict)
    # bytes that no record is in, behind XLOG_SWITCH: so far, and up to that end LSN
    padding: int = 0
    second_padding: dict[int, int] = field(default_factory=dict)

    def add(self, batch: Batch) -> None:
        """Adds a batch of records."""
        columns = batch.columns
        self.totals.add(columns, columns.count)
        self.first_lsn = self.first_lsn or columns.start_lsn[0]
        keys = list(zip(columns.spc, columns.db, columns.rel, columns.fork, strict=True))
        self.blocks.update(keys)
        for row, image in enumerate(columns.image):
            if image:
                key, size = keys[row], columns.image_length[row]
                record = columns.block_record[row]
                self.images[key] += 1
                self.image_bytes[key] += size
                cause = image_cause(columns.rmgr[record], columns.info[record], image)
                self.causes[cause] += 1
                self.cause_bytes[cause] += size
        self.xid_records.update(columns.xid)
        xid_bytes = self.xid_bytes
        for xid, size in zip(columns.xid, columns.total_length, strict=True):
            xid_bytes[xid] += size
        self.add_times(batch)

    def add_times(self, batch: Batch) -> None:
        """Adds the commits and aborts of a batch, by second."""
        columns, piece = batch.columns, batch.piece
        rmgrs = columns.rmgr.tobytes()
        for row in marks(rmgrs):
            if rmgrs[row] == RM_XLOG_ID:
                if columns.info[row] & XLR_RMGR_INFO_MASK == XLOG_SWITCH:
                    end = columns.start_lsn[row] + columns.total_length[row]
                    self.padding += columns.end_lsn[row] - end
                continue
            op = columns.info[row] & XLOG_XACT_OPMASK
            if op in _COMMITS + _ABORTS and columns.main_length[row] >= 8:
                at = columns.main_at[row]
                data = piece[at : at + 8] if at >= 0 else columns.side[~at : ~at + 8]
                second = int.from_bytes(data, "little", signed=True) // 1_000_000 + POSTGRES_EPOCH_S
                (self.commits if op in _COMMITS else self.aborts)[second] += 1
                self.second_lsn[second] = columns.end_lsn[row]
                self.second_padding[second] = self.padding


def marks(rmgrs: bytes) -> list[int]:
    """Returns the rows of XLOG and Transaction, in order."""
    return [match.start() for match in _MARKS.finditer(rmgrs)]


def image_cause(rmgr: int, info: int, image: int) -> str:
    """Returns why a record carries a page image."""
    if not image & IMAGE_APPLY:
        return CHECK
    op = info & XLR_RMGR_INFO_MASK
    if rmgr == RM_XLOG_ID and op == XLOG_FPI_FOR_HINT:
        return HINT
    if rmgr == RM_XLOG_ID and op == XLOG_FPI:
        return WHOLE
    return FIRST


def collect(source: SegmentSource, start_lsn: int = 0, end_lsn: int | None = None) -> Sums:
    """Returns everything that can be counted, up to the end of WAL or to damage.

    Raises:
        StorageError: a file cannot be read.
    """
    sums = Sums()
    scan = RangeScan(source, ColumnsOutput, stored(source, start_lsn, end_lsn), beyond=True)
    for batch in scan.items():
        sums.add(batch)
        sums.version = batch.version
    sums.ending = scan.ending
    return sums


def as_json(sums: Sums, limit: int) -> dict[str, Any]:
    """Returns the report: plain values, at most ``limit`` relations and transactions."""
    totals = sums.totals
    kinds = [
        {
            "rmgr": rmgr_name(place >> 4),
            "operation": operation_name(sums.version, place >> 4, (place & 15) << 4),
            "count": totals.counts[place],
            "record_bytes": totals.record_bytes[place],
            "fpi_bytes": totals.fpi_bytes[place],
        }
        for place in range(_CELLS)
        if totals.counts[place]
    ]
    forks: dict[str, list[int]] = {}
    for key, count in sums.blocks.items():
        cell = forks.setdefault(FORKS.get(key[3], str(key[3])), [0, 0, 0])
        cell[0] += count
        cell[1] += sums.images[key]
        cell[2] += sums.image_bytes[key]
    relations = nlargest(
        limit, sums.blocks, key=lambda key: (sums.image_bytes[key], sums.blocks[key])
    )
    busiest = nlargest(limit, sums.blocks, key=lambda key: sums.blocks[key])
    shown = list(dict.fromkeys([*busiest, *relations]))
    own = [xid for xid in sums.xid_bytes if xid]
    largest = nlargest(limit, own, key=lambda xid: sums.xid_bytes[xid])
    seconds = sorted(sums.second_lsn)
    times = []
    before = sums.first_lsn
    padding = 0
    for second in seconds:
        lsn = max(sums.second_lsn[second], before)
        padded = max(sums.second_padding[second], padding)
        times.append(
            {
                "second": second,
                "commits": sums.commits[second],
                "aborts": sums.aborts[second],
                "end_lsn": format_lsn(lsn),
                "bytes": lsn - before - (padded - padding),
            }
        )
        before, padding = lsn, padded
    record_bytes, fpi_bytes = sum(totals.record_bytes), sum(totals.fpi_bytes)
    return {
        "version": sums.version,
        "start_lsn": format_lsn(sums.first_lsn),
        "end_lsn": format_lsn(totals.end_lsn),
        "records": sum(totals.counts),
        "record_bytes": record_bytes,
        "fpi_bytes": fpi_bytes,
        "kinds": kinds,
        "relations": [
            {
                "relation": "/".join(map(str, key[:3])),
                "fork": FORKS.get(key[3], str(key[3])),
                "block_references": sums.blocks[key],
                "images": sums.images[key],
                "image_bytes": sums.image_bytes[key],
            }
            for key in shown
        ],
        "forks": [
            {"fork": fork, "block_references": cell[0], "images": cell[1], "image_bytes": cell[2]}
            for fork, cell in sorted(forks.items())
        ],
        "image_causes": [
            {"cause": cause, "images": sums.causes[cause], "image_bytes": sums.cause_bytes[cause]}
            for cause in sorted(sums.causes, key=lambda cause: -sums.cause_bytes[cause])
        ],
        "transactions": {
            "count": len(own),
            "largest": [
                {"xid": xid, "records": sums.xid_records[xid], "bytes": sums.xid_bytes[xid]}
                for xid in largest
            ],
        },
        "times": times,
    }
