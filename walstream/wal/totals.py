"""Sums records per resource manager and operation (XLogRecStoreStats of xlogstats.c).

``RecordTotals`` is a kernel over ``RecordColumns``; the table is text of ``stats_table``.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import cython

if TYPE_CHECKING:
    from walstream.wal.columns import RecordColumns


class RecordTotals:
    """Count, record bytes and page image bytes of (resource manager, operation).

    Attributes:
        counts, record_bytes, fpi_bytes: arrays of 256 * 16 (id times 16 plus ``info >> 4``; of
            Transaction only the lower three of these bits). ``record_bytes`` is without images.
        end_lsn: end of the last record, 0 before the first.
    """

    def __init__(self) -> None:
        self.counts = array("Q", bytes(8 * 4096))
        self.record_bytes = array("Q", bytes(8 * 4096))
        self.fpi_bytes = array("Q", bytes(8 * 4096))
        self.end_lsn = 0

    def add(self, columns: RecordColumns, rows: array[int]) -> None:
        """Adds some rows."""
        if len(rows) > 0:
            self.sum_up(
                rows,
                columns.rmgr,
                columns.info,
                columns.total_length,
                columns.fpi_length,
                self.counts,
                self.record_bytes,
                self.fpi_bytes,
            )
            self.end_lsn = columns.end_lsn[rows[len(rows) - 1]]

    def add_sums(self, sums: array[int]) -> None:
        """Adds what ``WalScanner.add_totals`` summed up, of records behind those added so far."""
        if sums[12291]:
            self.end_lsn = sums[12290]
            for i in range(4096):
                if sums[i]:
                    self.counts[i] += sums[i]
                    self.record_bytes[i] += sums[4096 + i]
                    self.fpi_bytes[i] += sums[8192 + i]

    def sum_up(
        self,
        rows: array[int],
        rmgr: array[int],
        info: array[int],
        total_length: array[int],
        fpi_length: array[int],
        counts: array[int],
        record_bytes: array[int],
        fpi_bytes: array[int],
    ) -> None:
        for i in range(len(rows)):
            row = rows[i]
            op = info[row] >> 4
            if rmgr[row] == 1:
                op &= 7
            place = rmgr[row] * 16 + op
            counts[place] += 1
            record_bytes[place] += total_length[row] - fpi_length[row]
            fpi_bytes[place] += fpi_length[row]


COMPILED: bool = cython.compiled
