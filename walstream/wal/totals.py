"""Sums records per resource manager and operation (XLogRecStoreStats of xlogstats.c).

``RecordTotals`` is a kernel that ``scan.py`` adds to record by record, or others columns.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import cython

if TYPE_CHECKING:
    from walstream.wal.columns import RecordColumns
if not cython.compiled:
    from walstream.wal.layout import MAX_XLINFO_TYPES, RM_XACT_ID
    from walstream.wal.opcodes import XLOG_XACT_OPMASK

_CELLS = 256 * MAX_XLINFO_TYPES


class RecordTotals:
    """Count, record bytes and page image bytes of (resource manager, operation).

    Attributes:
        counts, record_bytes, fpi_bytes: arrays of 256 * 16 (id times 16 plus ``info >> 4``; of
            Transaction only the lower three of these bits). ``record_bytes`` is without images.
        records: how many.
        first_lsn, last_lsn: start of the first and of the last record, 0 before the first.
        end_lsn: end of the last record, 0 before the first.
    """

    def __init__(self) -> None:
        self.counts = array("Q", bytes(8 * _CELLS))
        self.record_bytes = array("Q", bytes(8 * _CELLS))
        self.fpi_bytes = array("Q", bytes(8 * _CELLS))
        # The same memory, as kernels see it.
        self.count = self.counts
        self.record = self.record_bytes
        self.fpi = self.fpi_bytes
        self.records = 0
        self.first_lsn = self.last_lsn = self.end_lsn = 0

    def add_span(self, first_lsn: int, last_lsn: int, end_lsn: int, records: int) -> None:
        """Adds where some records stand, behind those added so far."""
        if self.first_lsn == 0:
            self.first_lsn = first_lsn
        self.last_lsn = last_lsn
        self.end_lsn = end_lsn
        self.records += records

    def add(self, columns: RecordColumns, count: int) -> None:
        """Adds the first ``count`` records of columns."""
        if count > 0:
            self.sum_up(count, columns.rmgr, columns.info, columns.total_length, columns.fpi_length)
            last = count - 1
            self.add_span(
                columns.start_lsn[0], columns.start_lsn[last], columns.end_lsn[last], count
            )

    def add_totals(self, other: RecordTotals) -> None:
        """Adds the sums of records behind those added so far."""
        if other.records:
            for i in range(_CELLS):
                if other.count[i]:
                    self.count[i] += other.count[i]
                    self.record[i] += other.record[i]
                    self.fpi[i] += other.fpi[i]
            self.add_span(other.first_lsn, other.last_lsn, other.end_lsn, other.records)

    def sum_up(
        self,
        count: int,
        rmgr: array[int],
        info: array[int],
        total_length: array[int],
        fpi_length: array[int],
    ) -> None:
        for row in range(count):
            op = info[row]
            if rmgr[row] == RM_XACT_ID:
                op &= XLOG_XACT_OPMASK
            place = rmgr[row] * MAX_XLINFO_TYPES + (op >> 4)
            self.count[place] += 1
            self.record[place] += total_length[row] - fpi_length[row]
            self.fpi[place] += fpi_length[row]


COMPILED: bool = cython.compiled
