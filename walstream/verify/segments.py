"""Checks a store's WAL segment by segment: what was sound is remembered, and not read again.

Segments are read by threads, or known from the ledger, and then joined: the first record of each
must point back to the last of the segment before. Damage does not end the check: reading goes on
behind it, and what was lost is reported. The report is that of ``check.py``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from walstream.errors import WalError
from walstream.scanning.ending import EndKind
from walstream.scanning.runs import Run, RunEnd, RunScan
from walstream.scanning.tail import Position, tail_of
from walstream.scanning.threads import in_order
from walstream.segments.source import SegmentSource
from walstream.verify.check import KINDS
from walstream.verify.ledger import Ledger
from walstream.verify.report import Problem, Report, Verdict
from walstream.wal.model import format_lsn
from walstream.wal.reason import Reason


def check_run(source: SegmentSource, run: Run, system_identifier: int | None) -> RunEnd:
    """Returns what is known after reading one run to its end."""
    scan = RunScan(source, run, resync=True, system_identifier=system_identifier)
    for _ in scan.batches():
        pass
    return scan.end()


def verify_segments(
    source: SegmentSource,
    *,
    threads: int = 1,
    system_identifier: int | None = None,
    progress: Callable[[int], None] | None = None,
    ledger: Ledger | None = None,
    removed: Sequence[tuple[int, int]] = (),
) -> Report:
    """Returns the report on all the WAL of a source.

    Args:
        source: the segments.
        threads: how many runs are read at the same time.
        system_identifier: the cluster's, where it is known from elsewhere (a store).
        progress: called with the number of segments that were read since the last call.
        ledger: of the store whose WAL it is; what it knows is not read again.
        removed: WAL ``[begin, end)`` that is not there by intention (``walstream gc``).

    Raises:
        StorageError: a file cannot be read.
    """
    began = time.perf_counter()
    report = Report(
        source.files.where(),
        segment_size=source.segment_size,
        segments=len(source.numbers()),
    )
    # One segment each, so that what is found does not depend on the number of threads.
    runs = [Run(number, number) for number in source.numbers()]
    known = {} if ledger is None else {run: ledger.recall(source, run) for run in runs}
    report.remembered = sum(end is not None for end in known.values())

    def check(run: Run) -> RunEnd:
        return check_run(source, run, system_identifier)

    found = in_order(threads, lambda: check, [run for run in runs if known.get(run) is None])
    ends: list[RunEnd] = []
    for run in runs:
        end = known.get(run)
        if end is None:
            end = next(found)
            if ledger is not None:
                ledger.note(source, end)
        ends.append(end)
        if progress is not None:
            progress(end.run.last - end.run.first + 1)
    join(source, ends, report, removed)
    report.seconds = time.perf_counter() - began
    return report


def join(
    source: SegmentSource,
    ends: list[RunEnd],
    report: Report,
    removed: Sequence[tuple[int, int]] = (),
) -> None:
    """Puts the runs together: the chain between them, gaps, and how WAL ends.

    A gap within ``removed`` is none.
    """
    problems = report.problems
    # The last run with records, and the first thing wrong behind its last one.
    last: RunEnd | None = None
    wrong: Problem | None = None
    before: Run | None = None
    for end in ends:
        if before is not None and end.run.first != before.last + 1:
            if end.records:
                # A record that goes on into the gap is lost with it.
                if not is_removed(source, before, end, removed):
                    problems.append(missing(source, before, end, last))
                last = wrong = None
            else:
                continue  # nothing but what an older life of the file left
        before = end.run
        first, inner = split_lost(end)
        if end.records:
            if first is not None or wrong is not None:
                error = wrong or first
                assert error is not None
                start = last.end_lsn if last is not None else error.lost_start_lsn
                problems.append(replace(error, lost_start_lsn=start, lost_end_lsn=end.first_lsn))
            elif last is not None and end.first_prev != last.last_lsn:
                problems.append(broken_chain(last, end))
            elif last is not None and 0 < end.first_timeline < last.timeline:
                problems.append(older_timeline(last, end))
            wrong = None
            problems += inner
            note(report, source, end, problems)
            last = end
        elif wrong is None:
            wrong = first
        wrong = wrong or trouble(end)
    judge(source, report, last, ends)


def split_lost(end: RunEnd) -> tuple[Problem | None, list[Problem]]:
    """Returns what is wrong before a run's first record, and what between later ones."""
    first = None
    inner = []
    for lost in end.lost:
        problem = as_problem(lost.error, lost.start_lsn, lost.end_lsn)
        if lost.end_lsn == end.first_lsn:
            first = problem
        else:
            inner.append(problem)
    if not end.records and end.errors:
        first = as_problem(end.errors[0], end.errors[0].lsn or 0, None)
    return first, inner


def trouble(end: RunEnd) -> Problem | None:
    """Returns what is wrong behind the last record of a run, if anything is."""
    followed = max((lost.end_lsn for lost in end.lost), default=0)
    for error in end.errors:
        if (error.lsn or 0) >= max(end.end_lsn, followed):
            return as_problem(error, end.end_lsn, None)
    if end.zeros_lsn is not None:
        message = f"zeros follow the last record at {format_lsn(end.zeros_lsn)}"
        return Problem("zeros", end.zeros_lsn, message, end.zeros_lsn, None)
    if end.short is not None or end.pending_lsn is not None:
        lsn = end.end_lsn if end.pending_lsn is None else end.pending_lsn
        message = f"WAL ends within the record at {format_lsn(lsn)}"
        if end.short is not None:
            message += f": {end.short} is shorter than a segment"
        return Problem("truncated", lsn, message, lsn, None)
    return None


def note(report: Report, source: SegmentSource, end: RunEnd, problems: list[Problem]) -> None:
    """Adds the records of a run to the report, and whether they are another cluster's."""
    report.start_lsn = report.start_lsn or end.first_lsn
    report.end_lsn = end.end_lsn
    report.records += end.records
    report.version = end.version
    report.timeline = end.timeline
    report.system_identifier = report.system_identifier or end.system_identifier
    if end.system_identifier not in (0, report.system_identifier):
        problems.append(
            Problem(
                Reason.OTHER_SYSTEM.name.lower(),
                end.first_lsn,
                "WAL is from different database system: expected system identifier "
                f"{report.system_identifier}, got {end.system_identifier} "
                f"in segment {source.name_of(end.run.first)}",
                end.first_lsn,
                end.end_lsn,
            )
        )


def broken_chain(last: RunEnd, end: RunEnd) -> Problem:
    """Returns that a run does not go on where the one before ended; both are sound."""
    return Problem(
        Reason.INCORRECT_PREV.name.lower(),
        end.first_lsn,
        f"record with incorrect prev-link: expected {format_lsn(last.last_lsn)}, got "
        f"{format_lsn(end.first_prev)} in record at {format_lsn(end.first_lsn)}",
        last.end_lsn,
        end.first_lsn,
    )


def older_timeline(last: RunEnd, end: RunEnd) -> Problem:
    """Returns that a run begins on a timeline before that on which the one before ended."""
    lsn = last.end_lsn
    return Problem(
        Reason.OUT_OF_SEQUENCE_TIMELINE.name.lower(),
        lsn,
        f"out-of-sequence timeline ID: expected at least {last.timeline}, got "
        f"{end.first_timeline} behind {format_lsn(lsn)}",
        lsn,
        end.first_lsn,
    )


def as_problem(error: WalError, lost_start: int, lost_end: int | None) -> Problem:
    kind = "wal" if error.reason is None else Reason(error.reason).name.lower()
    return Problem(kind, error.lsn or 0, str(error), lost_start, lost_end)


def is_removed(
    source: SegmentSource, before: Run, after: RunEnd, removed: Sequence[tuple[int, int]]
) -> bool:
    """Returns whether all between two runs was taken away by intention."""
    size = source.segment_size
    gap = (before.last + 1) * size, after.run.first * size
    return any(begin <= gap[0] and gap[1] <= end for begin, end in removed)


def missing(source: SegmentSource, before: Run, after: RunEnd, last: RunEnd | None) -> Problem:
    """Returns the gap between two runs, and what of the first could not be read for it."""
    first, end = before.last + 1, after.run.first - 1
    size = source.segment_size
    names = source.name_of(first) + (f" to {source.name_of(end)}" if end > first else "")
    message = f"missing: segment {names}, WAL {format_lsn(first * size)} to "
    return Problem(
        "missing",
        first * size,
        message + format_lsn((end + 1) * size),
        first * size if last is None else min(first * size, last.end_lsn),
        after.first_lsn,
    )


def judge(source: SegmentSource, report: Report, last: RunEnd | None, ends: list[RunEnd]) -> None:
    """Sets the verdict: by what is wrong before the last record, and what stands behind it."""
    kinds = {problem.kind for problem in report.problems}
    if last is not None:
        ending = tail_of(source, last.position)
    else:
        first = ends[0].run.first * source.segment_size if ends else 0
        ending = tail_of(source, Position(first, find=True))
    report.ending = ending.message
    if ending.kind not in (EndKind.CLEAN, EndKind.LIMIT):
        report.problems.append(
            Problem(KINDS[ending.kind], ending.lsn, ending.message, ending.lsn, None)
        )
    if "other_system" in kinds or ending.kind is EndKind.WRONG_CLUSTER:
        report.verdict = Verdict.WRONG_CLUSTER
    elif "missing" in kinds or ending.kind is EndKind.MISSING:
        report.verdict = Verdict.MISSING
    elif kinds or ending.kind is EndKind.DAMAGED:
        report.verdict = Verdict.DAMAGED
    elif ending.kind is EndKind.TRUNCATED:
        report.verdict = Verdict.TRUNCATED
    elif report.records == 0:
        report.verdict = Verdict.DAMAGED
        report.ending = f"there is no record: {ending.message}"
