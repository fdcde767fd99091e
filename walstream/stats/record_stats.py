"""Counts records by kind, in threads: what ``pg_waldump --stats`` prints, and nothing more.

A module of its own because such a count takes less time than loading what the other statistics
need.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import NamedTuple

from walstream.errors import WalError, WrongCluster
from walstream.scanning.ending import Ending
from walstream.scanning.join import RunJoin
from walstream.scanning.runs import Run, RunEnd, RunScan, plan_runs
from walstream.scanning.threads import in_order
from walstream.segments.source import SegmentSource
from walstream.wal.totals import RecordTotals

# What one run gives: its totals, and how it ended.
Part = tuple[RecordTotals, RunEnd]


class Count(NamedTuple):
    """Totals per kind of record, the start of the first one, and the version.

    ``ending`` is how WAL ended: None where no more was wanted. ``error`` is what is wrong behind
    what was counted.
    """

    totals: RecordTotals
    first_lsn: int
    version: int
    ending: Ending | None
    error: WalError | WrongCluster | None


def count_records(
    source: SegmentSource, threads: int = 1, start_lsn: int = 0, end_lsn: int | None = None
) -> Count:
    """Returns what there is of every kind of record, up to the end of WAL or to damage.

    Raises:
        StorageError: a file cannot be read.
    """

    def counter() -> Callable[[Run], Part]:
        return count

    def count(run: Run) -> Part:
        totals = RecordTotals()
        scan = RunScan(source, run, start_lsn=start_lsn, end_lsn=end_lsn, joining=True)
        scan.add_totals(totals)
        return totals, scan.end()

    runs = plan_runs(source, threads, start_lsn, end_lsn)
    whole = RecordTotals()
    first = 0
    version = 0
    error: WalError | WrongCluster | None = None
    join = RunJoin(source, start_lsn)
    with contextlib.closing(in_order(threads, counter, runs)) as parts:
        try:
            for totals, end in parts:
                join.check(end)
                if end.records:
                    version = end.version
                    first = first or end.first_lsn
                    whole.add_totals(totals)
                if not join.goes_on(end):
                    break
        except (WalError, WrongCluster) as found:
            error = found
    return Count(whole, first, version, join.ending, error)
