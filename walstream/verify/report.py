"""What ``walstream verify`` found: the verdict, and what is wrong where."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from walstream.wal.model import format_lsn


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
    """The result of ``verify``. ``[start_lsn, end_lsn)`` is from the first to the last record.

    ``remembered``: so many of the segments were not read, since nothing changed since they were.
    """

    where: str
    verdict: Verdict = Verdict.SOUND
    version: int = 0
    system_identifier: int = 0
    timeline: int = 0
    segment_size: int = 0
    segments: int = 0
    remembered: int = 0
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
            "remembered": self.remembered,
            "records": self.records,
            "start_lsn": format_lsn(self.start_lsn),
            "end_lsn": format_lsn(self.end_lsn),
            "ending": self.ending,
            "seconds": round(self.seconds, 3),
            "problems": [problem.as_json() for problem in self.problems],
        }
