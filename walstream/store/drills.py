"""Reports of drills: what was opened, what was checked on it, and whether all was well.

```
STORE/drills/20261125T173403.123456Z.json     one a drill, named after when it began (UTC)
```
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from walstream.errors import StoreError
from walstream.segments.files import read_error
from walstream.store.file_layer import FileLayer, storage_error, write_durably

DIRECTORY = "drills"
_NAME = "%Y%m%dT%H%M%S.%fZ"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. ``passed``: None where it was not run; ``said``: why."""

    name: str
    passed: bool | None
    seconds: float
    said: str = ""


@dataclass(frozen=True, slots=True)
class DrillReport:
    """What a drill found.

    Attributes:
        began: when, in UTC.
        lsn: the moment that was opened; None: none could be.
        first_query_s: from the command to the first answer.
        pages_read: pages of 8 kB that were made for all checks.
        checks: in the order in which they ran.
    """

    began: datetime
    lsn: str | None
    time: str | None
    first_query_s: float | None
    pages_read: int
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return all(check.passed is not False for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """Returns it as JSON's types."""
        return {**asdict(self), "began": self.began.isoformat(), "passed": self.passed}


def write_drill(store: Path, report: DrillReport) -> Path:
    """Keeps a report; returns its path. Blocks.

    Raises:
        StorageError: it cannot be written.
    """
    directory = store / DIRECTORY
    try:
        directory.mkdir(exist_ok=True)
    except OSError as error:
        raise storage_error("create", directory, error) from error
    path = directory / (report.began.astimezone(UTC).strftime(_NAME) + ".json")
    text = json.dumps(report.to_json(), indent=2) + "\n"
    write_durably(FileLayer(), path, text.encode(), 0o644)
    return path


def last_drill(store: Path, *, passed: bool = False) -> DrillReport | None:
    """Returns the newest report, None without one. Blocks.

    Args:
        passed: the newest of a drill in which nothing failed.

    Raises:
        StoreError: a report is malformed.
        ReadError: it cannot be read.
    """
    for path in sorted((store / DIRECTORY).glob("*.json"), reverse=True):
        report = _load(path)
        if report.passed or not passed:
            return report
    return None


def _load(path: Path) -> DrillReport:
    try:
        table = json.loads(path.read_text())
        return DrillReport(
            datetime.fromisoformat(table["began"]),
            table["lsn"],
            table["time"],
            table["first_query_s"],
            table["pages_read"],
            tuple(Check(**check) for check in table["checks"]),
        )
    except OSError as error:
        raise read_error("read", path, error) from error
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: missing or malformed {error}") from error
