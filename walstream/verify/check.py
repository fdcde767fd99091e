"""Checks a whole archive of WAL: pages, CRCs, the prev chain, timelines, gaps; in parallel.

Damage does not end the check: reading goes on behind it, and what was lost is reported. What is
found is the same for any number of threads.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Sequence

from walstream.scanning.ending import EndKind
from walstream.scanning.output import TotalsOutput
from walstream.scanning.range_scan import LostRange, RangeScan
from walstream.segments.source import SegmentSource
from walstream.verify.report import Problem, Report, Verdict
from walstream.wal.reason import Reason
from walstream.wal.totals import RecordTotals

# What is wrong with WAL, as the kind of a problem; of damage its reason is, where it has one.
KINDS = {
    EndKind.DAMAGED: "damaged",
    EndKind.TRUNCATED: "truncated",
    EndKind.MISSING: "missing",
    EndKind.WRONG_CLUSTER: "other_system",
}


def verify(
    source: SegmentSource,
    *,
    threads: int = 1,
    system_identifier: int | None = None,
    progress: Callable[[int], None] | None = None,
    removed: Sequence[tuple[int, int]] = (),
) -> Report:
    """Returns the report on all the WAL of a source.

    Args:
        source: the segments.
        threads: how many scan at the same time.
        system_identifier: the cluster's, where it is known from elsewhere (a store).
        progress: called with the number of segments that were read since the last call.
        removed: WAL ``[begin, end)`` that is not there by intention (``walstream gc``).

    Raises:
        StorageError: a file cannot be read.
    """
    began = time.perf_counter()
    numbers = source.numbers()
    report = Report(source.files.where(), segment_size=source.segment_size, segments=len(numbers))
    scan = RangeScan(
        source,
        TotalsOutput,
        threads=threads,
        resync=True,
        system_identifier=system_identifier or 0,
    )
    told = 0
    for totals in scan.items():
        report.start_lsn = report.start_lsn or totals.first_lsn
        report.end_lsn = totals.end_lsn
        report.records += totals.records
        report.version = scan.version
        report.timeline = scan.timeline
        report.system_identifier = scan.system_identifier
        done = bisect_left(numbers, scan.feed_lsn // source.segment_size)
        if progress is not None and done > told:
            progress(done - told)
            told = done
    if progress is not None and told < len(numbers):
        progress(len(numbers) - told)
    report.problems = [
        problem_of(lost) for lost in scan.lost if not _is_removed(lost, removed, source)
    ]
    judge(report, scan)
    report.seconds = time.perf_counter() - began
    return report


def _is_removed(lost: LostRange, removed: Sequence[tuple[int, int]], source: SegmentSource) -> bool:
    """Whether what is missing is all of what was taken away there by intention."""
    if lost.kind is not EndKind.MISSING or lost.error.lsn is None:
        return False
    lsn, numbers = lost.error.lsn, source.numbers()
    return any(
        begin <= lsn < end and end // source.segment_size in numbers for begin, end in removed
    )


def problem_of(lost: LostRange) -> Problem:
    """Returns what was lost between two good records."""
    error = lost.error
    kind = KINDS[lost.kind] if error.reason is None else Reason(error.reason).name.lower()
    return Problem(kind, error.lsn or 0, str(error), lost.start_lsn, lost.end_lsn)


def judge(report: Report, scan: RangeScan[RecordTotals]) -> None:
    """Sets the verdict: by what is wrong before the last record, and what stands behind it."""
    ending = scan.ending
    assert ending is not None
    kinds = {problem.kind for problem in report.problems}
    report.ending = ending.message
    if ending.kind not in (EndKind.CLEAN, EndKind.LIMIT):
        report.problems.append(
            Problem(KINDS[ending.kind], ending.lsn, ending.message, ending.lsn, None)
        )
    if KINDS[EndKind.WRONG_CLUSTER] in kinds or ending.kind is EndKind.WRONG_CLUSTER:
        report.verdict = Verdict.WRONG_CLUSTER
    elif KINDS[EndKind.MISSING] in kinds or ending.kind is EndKind.MISSING:
        report.verdict = Verdict.MISSING
    elif kinds or ending.kind is EndKind.DAMAGED:
        report.verdict = Verdict.DAMAGED
    elif ending.kind is EndKind.TRUNCATED:
        report.verdict = Verdict.TRUNCATED
    elif report.records == 0:
        report.verdict = Verdict.DAMAGED
        report.ending = f"there is no record: {ending.message}"
