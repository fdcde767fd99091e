"""Counts records by kind, in threads: what ``pg_waldump --stats`` prints, and nothing more.

A module of its own because such a count takes less time than loading what the other statistics
need.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable

from walstream.inspect.runs import Run, RunScan, plan_runs
from walstream.inspect.source import SegmentSource
from walstream.inspect.totals import RecordTotals
from walstream.inspect.workers import in_order

_CELLS = 4096

# What one run gives: totals as ``WalScanner.add_totals`` keeps them, and the version.
Part = tuple["array[int]", int]


def count_records(
    source: SegmentSource, threads: int = 1, start_lsn: int = 0, end_lsn: int | None = None
) -> tuple[RecordTotals, int, int]:
    """Returns totals per kind of record, the start of the first record, and the version.

    Raises:
        WalError: the WAL is damaged.
        StorageError: a file cannot be read.
    """

    def counter() -> Callable[[Run], Part]:
        return count

    def count(run: Run) -> Part:
        totals = array("Q", bytes(8 * (3 * _CELLS + 4)))
        scan = RunScan(source, run, start_lsn=start_lsn, end_lsn=end_lsn)
        scan.add_totals(totals)
        return totals, scan.scanner.version

    runs = plan_runs(source, threads, start_lsn, end_lsn)
    whole = RecordTotals()
    first = 0
    version = 0
    for totals, of_version in in_order(threads, counter, runs):
        if not totals[3 * _CELLS]:
            continue
        version = of_version
        first = first or totals[3 * _CELLS]
        whole.add_sums(totals)
    return whole, first, version
