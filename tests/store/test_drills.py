"""Reports of drills: kept, found again, and told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from walstream.errors import StoreError
from walstream.status.prometheus import DrillCollector
from walstream.status.text import drill_lines
from walstream.store.drills import Check, DrillReport, last_drill, write_drill

BEGAN = datetime(2026, 11, 25, 17, 34, 3, 123456, tzinfo=UTC)


def report(hours: int, *passed: bool | None) -> DrillReport:
    checks = tuple(Check(f"check {i}", one, 0.5, "") for i, one in enumerate(passed))
    return DrillReport(BEGAN + timedelta(hours=hours), "0/3000060", None, 0.75, 10, checks)


def gauges(store: Path) -> dict[str, float]:
    return {family.name: family.samples[0].value for family in DrillCollector(store).collect()}


def test_the_newest_and_the_newest_good_one(tmp_path: Path) -> None:
    assert last_drill(tmp_path) is None
    assert gauges(tmp_path) == {}
    good, bad = report(1, True, None), report(2, True, False)
    for one in (bad, good, report(0, True)):
        write_drill(tmp_path, one)
    assert last_drill(tmp_path) == bad
    assert last_drill(tmp_path, passed=True) == good
    assert gauges(tmp_path) == {
        "walstream_drill_passed": 0.0,
        "walstream_drill_good_timestamp_seconds": good.began.timestamp(),
        "walstream_drill_first_query_seconds": 0.75,
    }


def test_what_status_tells() -> None:
    now = (BEGAN + timedelta(hours=26)).timestamp()
    good, bad = report(1, True), report(2, True, False)
    ((title, text),) = drill_lines(good, good, now)
    assert (title, text) == ("drill", "passed 25 h ago, at 0/3000060, first query 0.8 s")
    ((title, text),) = drill_lines(bad, good, now)
    assert title == "DRILL FAILED"
    assert "check 1; one passed 25 h ago" in text
    ((title, text),) = drill_lines(bad, None, now)
    assert text.endswith("none has passed")


def test_a_report_that_is_none_is_told(tmp_path: Path) -> None:
    write_drill(tmp_path, report(0, True)).write_text("{")
    with pytest.raises(StoreError, match=r"drills/20261125T173403\.123456Z\.json"):
        last_drill(tmp_path)
