"""Counts records by kind, in threads: what ``pg_waldump --stats`` prints, and nothing more.

A module of its own because such a count takes less time than loading what the other statistics
need.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable

from walstream.errors import WalstreamError
from walstream.inspect.runs import Run, RunScan, plan_runs
from walstream.inspect.source import SegmentSource
from walstream.inspect.totals import RecordTotals

_CELLS = 4096

# What one run gives: totals as ``WalScanner.add_totals`` keeps them, and the version.
Part = tuple["array[int]", int]


def in_threads(threads: int, work: Callable[[Run], Part], runs: list[Run]) -> list[Part]:
    """Returns the results of ``work`` in the order of the runs; raises the first run's error."""
    results: dict[int, Part] = {}
    errors: dict[int, WalstreamError] = {}
    todo = iter(range(len(runs)))
    lock = threading.Lock()

    def serve() -> None:
        while not errors:
            with lock:
                i = next(todo, None)
            if i is None:
                return
            try:
                results[i] = work(runs[i])
            except WalstreamError as error:
                errors[i] = error

    others = [threading.Thread(target=serve) for _ in range(min(threads, len(runs)) - 1)]
    for other in others:
        other.start()
    serve()
    for other in others:
        other.join()
    if errors:
        raise errors[min(errors)]
    return [results[i] for i in range(len(runs))]


def count_records(
    source: SegmentSource, threads: int = 1, start_lsn: int = 0, end_lsn: int | None = None
) -> tuple[RecordTotals, int, int]:
    """Returns totals per kind of record, the start of the first record, and the version.

    Raises:
        WalError: the WAL is damaged.
        StorageError: a file cannot be read.
    """

    def count(run: Run) -> Part:
        totals = array("Q", bytes(8 * (3 * _CELLS + 4)))
        scan = RunScan(source, run, start_lsn=start_lsn, end_lsn=end_lsn)
        scan.add_totals(totals)
        return totals, scan.scanner.version

    runs = plan_runs(source, threads, start_lsn, end_lsn)
    parts = in_threads(threads, count, runs)
    whole = RecordTotals()
    first = 0
    version = 0
    for totals, of_version in parts:
        if not totals[3 * _CELLS]:
            continue
        version = of_version
        first = first or totals[3 * _CELLS]
        whole.end_lsn = totals[3 * _CELLS + 2]
        for i in range(_CELLS):
            if totals[i]:
                whole.counts[i] += totals[i]
                whole.record_bytes[i] += totals[_CELLS + i]
                whole.fpi_bytes[i] += totals[2 * _CELLS + i]
    return whole, first, version
