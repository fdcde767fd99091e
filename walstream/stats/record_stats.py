"""Counts records by kind, in threads: what ``pg_waldump --stats`` prints, and nothing more.

A module of its own because such a count takes less time than loading what the other statistics
need.
"""

from __future__ import annotations

from typing import NamedTuple

from walstream.scanning.ending import Ending
from walstream.scanning.output import TotalsOutput
from walstream.scanning.range_scan import RangeScan
from walstream.scanning.wal_range import stored
from walstream.segments.source import SegmentSource
from walstream.wal.totals import RecordTotals


class Count(NamedTuple):
    """Totals per kind of record, the version (0: there was none), how WAL ended behind them."""

    totals: RecordTotals
    version: int
    ending: Ending | None


def count_records(
    source: SegmentSource, threads: int = 1, start_lsn: int = 0, end_lsn: int | None = None
) -> Count:
    """Returns what there is of every kind of record, up to the end of WAL or to damage.

    Raises:
        StorageError: a file cannot be read.
    """
    whole = RecordTotals()
    wanted = stored(source, start_lsn, end_lsn)
    scan = RangeScan(source, TotalsOutput, wanted, threads=threads, beyond=True)
    for totals in scan.items():
        whole.add_totals(totals)
    return Count(whole, scan.version if whole.records else 0, scan.ending)
