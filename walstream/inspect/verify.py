"""Checks a whole archive of WAL: pages, CRCs, the prev chain, timelines, gaps; in parallel.

Runs of segments are read by threads and then joined: the first record of each must point back to
the last of the run before. Damage does not end the check: reading goes on behind it, and what was
lost is reported.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from walstream.errors import WalError
from walstream.inspect.runs import Run, RunEnd, RunScan, name_of, plan_runs, stored_numbers
from walstream.inspect.source import SegmentSource
from walstream.inspect.workers import in_order
from walstream.wal.model import format_lsn
from walstream.wal.reason import Reason


class Verdict(Enum):
    """What the check comes to, the worst first."""

    WRONG_CLUSTER = "WAL of another cluster"
    MISSING = "segments are missing"
    DAMAGED = "WAL is damaged"
    TRUNCATED = "WAL ends within a record"
    SOUND = "sound"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong; ``lost`` is the WAL without readable records, where known."""

    kind: str
    lsn: int
    message: str
    lost_start_lsn: int
    lost_end_lsn: int | None

    def as_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "lsn": format_lsn(self.lsn),
            "message": self.message,
            "lost_start_lsn": format_lsn(self.lost_start_lsn),
            "lost_end_lsn": None if self.lost_end_lsn is None else format_lsn(self.lost_end_lsn),
        }


@dataclass(slots=True)
class Report:
    """The result of ``verify``. ``[start_lsn, end_lsn)`` is from the first to the last record."""

    where: str
    verdict: Verdict = Verdict.SOUND
    version: int = 0
    system_identifier: int = 0
    timeline: int = 0
    segment_size: int = 0
    segments: int = 0
    records: int = 0
    start_lsn: int = 0
    end_lsn: int = 0
    ending: str = ""
    seconds: float = 0.0
    problems: list[Problem] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Returns the report as JSON would have it; LSNs as text, the system identifier too."""
        return {
            "where": self.where,
            "verdict": self.verdict.name.lower(),
            "version": self.version,
            "system_identifier": str(self.system_identifier),
            "timeline": self.timeline,
            "segment_size": self.segment_size,
            "segments": self.segments,
            "records": self.records,
            "start_lsn": format_lsn(self.start_lsn),
            "end_lsn": format_lsn(self.end_lsn),
            "ending": self.ending,
            "seconds": round(self.seconds, 3),
            "problems": [problem.as_json() for problem in self.problems],
        }


def check_run(source: SegmentSource, run: Run, system_identifier: int | None) -> RunEnd:
    """Returns what is known after reading one run to its end."""
    scan = RunScan(source, run, resync=True, system_identifier=system_identifier)
    for _ in scan.batches():
        pass
    return scan.end()


def verify(
    source: SegmentSource,
    *,
    threads: int = 1,
    system_identifier: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Returns the report on all the WAL of a source.

    Args:
        source: the segments.
        threads: how many runs are read at the same time.
        system_identifier: the cluster's, where it is known from elsewhere (a store).
        progress: called with the number of segments that were read since the last call.

    Raises:
        StorageError: a file cannot be read.
    """
    began = time.perf_counter()
    report = Report(
        source.files.where(),
        segment_size=source.segment_size,
        segments=len(stored_numbers(source)),
    )
    runs = plan_runs(source, threads)
    ends: list[RunEnd] = []

    def check(run: Run) -> RunEnd:
        return check_run(source, run, system_identifier)

    for end in in_order(threads, lambda: check, runs):
        ends.append(end)
        if progress is not None:
            progress(end.run.last - end.run.first + 1)
    join(source, ends, report)
    report.seconds = time.perf_counter() - began
    return report


def join(source: SegmentSource, ends: list[RunEnd], report: Report) -> None:
    """Puts the runs together: the chain between them, gaps, and how WAL ends."""
    problems = report.problems
    before: RunEnd | None = None
    # Where WAL may have ended: what looks like the end is damage once a record follows.
    tail: list[Problem] = []
    for end in ends:
        if before is not None and end.run.first != before.run.last + 1:
            # A record that goes on into the gap is lost with it.
            problems.append(missing(source, before, end, tail))
            tail = []
        elif before is not None and end.records and before.records:
            if end.first_prev != before.last_lsn:
                # In this run nothing is wrong; what is, lies between the two.
                tail = tail or [
                    Problem(
                        Reason.INCORRECT_PREV.name.lower(),
                        end.first_lsn,
                        "record with incorrect prev-link: expected "
                        f"{format_lsn(before.last_lsn)}, got {format_lsn(end.first_prev)} "
                        f"in record at {format_lsn(end.first_lsn)}",
                        before.end_lsn,
                        end.first_lsn,
                    )
                ]
            elif tail and all(problem.kind == "truncated" for problem in tail):
                tail = []
        if end.records:
            problems += tail
            tail = []
            report.start_lsn = report.start_lsn or end.first_lsn
            report.end_lsn = end.end_lsn
            report.records += end.records
            report.version = end.version
            report.timeline = end.timeline
            report.system_identifier = report.system_identifier or end.system_identifier
        take_damage(end, problems, tail)
        if (
            report.system_identifier
            and end.records
            and end.system_identifier not in (0, report.system_identifier)
        ):
            problems.append(
                Problem(
                    Reason.OTHER_SYSTEM.name.lower(),
                    end.first_lsn,
                    "WAL is from different database system: expected system identifier "
                    f"{report.system_identifier}, got {end.system_identifier} "
                    f"in segment {name_of(source, end.run.first)}",
                    end.first_lsn,
                    end.end_lsn,
                )
            )
        if end.records or before is None or end.run.first != before.run.last + 1:
            before = end
        else:
            before = before._replace(run=Run(before.run.first, end.run.last))
    judge(report, tail)


def take_damage(end: RunEnd, problems: list[Problem], tail: list[Problem]) -> None:
    """Splits the damage of a run into what records follow, and what may be the end of WAL."""
    followed = {id(lost.error): lost for lost in end.lost}
    for error in end.errors:
        lost = followed.get(id(error))
        if lost is not None:
            problems.append(as_problem(error, lost.start_lsn, lost.end_lsn))
        elif error.reason == Reason.OTHER_SYSTEM:
            problems.append(as_problem(error, end.end_lsn, None))
        elif not any(other.lost_start_lsn <= (error.lsn or 0) for other in tail):
            tail.append(as_problem(error, end.end_lsn or (error.lsn or 0), None))
    if end.zeros_lsn is not None and not tail:
        message = f"zeros follow the last record at {format_lsn(end.zeros_lsn)}"
        tail.append(Problem("zeros", end.zeros_lsn, message, end.zeros_lsn, None))
    if end.pending_lsn is not None and not tail:
        message = f"WAL ends within the record at {format_lsn(end.pending_lsn)}"
        if end.short is not None:
            message += f": {end.short} is shorter than a segment"
        tail.append(Problem("truncated", end.pending_lsn, message, end.pending_lsn, None))


def as_problem(error: WalError, lost_start: int, lost_end: int | None) -> Problem:
    kind = "wal" if error.reason is None else Reason(error.reason).name.lower()
    return Problem(kind, error.lsn or 0, str(error), lost_start, lost_end)


def missing(source: SegmentSource, before: RunEnd, after: RunEnd, tail: list[Problem]) -> Problem:
    """Returns the gap between two runs, and what of the first could not be read for it."""
    first, last = before.run.last + 1, after.run.first - 1
    size = source.segment_size
    names = name_of(source, first) + (f" to {name_of(source, last)}" if last > first else "")
    message = f"missing: segment {names}, WAL {format_lsn(first * size)} to "
    return Problem(
        "missing",
        first * size,
        message + format_lsn((last + 1) * size),
        min([first * size, *(problem.lost_start_lsn for problem in tail)]),
        after.first_lsn or (last + 1) * size,
    )


def judge(report: Report, tail: list[Problem]) -> None:
    """Sets the verdict; ``tail`` is what no record follows: the end of WAL, or damage at it."""
    kinds = {problem.kind for problem in report.problems}
    if tail and tail[0].kind not in ("zeros", "unexpected_pageaddr", "invalid_magic"):
        # A page of an older segment, or of zeros, is where the server will go on.
        report.problems.append(tail[0])
    report.ending = tail[0].message if tail else f"WAL ends at {format_lsn(report.end_lsn)}"
    if "other_system" in kinds:
        report.verdict = Verdict.WRONG_CLUSTER
    elif "missing" in kinds:
        report.verdict = Verdict.MISSING
    elif kinds:
        report.verdict = Verdict.DAMAGED
    elif report.problems:
        report.verdict = Verdict.TRUNCATED
    elif report.records == 0:
        report.verdict = Verdict.DAMAGED
        report.ending = report.ending if tail else "there is no record"
