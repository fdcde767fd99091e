"""The plan alone: values in, what stays and goes out."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from walstream.errors import SegmentMissing, StoreError
from walstream.retention.contents import Base, Contents, Dump, Pin, Place, WalFile
from walstream.retention.plan import Plan, Policy, make_plan
from walstream.store.removed import RemovedWal
from walstream.wal.timeline import INFINITY, parse_history

SEGMENT = 1 << 20
DAY = datetime(2026, 11, 1, 12, tzinfo=UTC).timestamp()
ONE = parse_history(1, b"")


def wal(first: int, last: int, timeline: int = 1, **changes: object) -> list[WalFile]:
    """Returns the files of segments ``first`` to ``last``."""
    return [
        WalFile(f"wal/{timeline}-{n}", timeline, n * SEGMENT, (n + 1) * SEGMENT, SEGMENT)._replace(
            **changes  # type: ignore[arg-type]
        )
        for n in range(first, last + 1)
    ]


def base(segment: int, day: int = 0, timeline: int = 1, **changes: object) -> Base:
    """Returns a base that begins and ends in a segment, taken on a day of November."""
    start = segment * SEGMENT + 40
    found = Base(
        f"base/{segment}", start, start + 1000, start, timeline, 5 * SEGMENT, DAY + day * 86400
    )
    return found._replace(**changes)  # type: ignore[arg-type]


def contents(*bases: Base, files: list[WalFile] | None = None, **changes: object) -> Contents:
    """Returns a store with segments 0 to 20, of which the last is being received."""
    found = Contents(SEGMENT, ONE, wal(0, 20), bases, latest_lsn=20 * SEGMENT + 500)
    if files is not None:
        found = found._replace(files=files)
    return found._replace(**changes)  # type: ignore[arg-type]


def going(plan: Plan) -> list[str]:
    return [item.path for item in plan.going]


def segments(plan: Plan) -> list[int]:
    """Returns the numbers of the segments that go."""
    return [item.begin // SEGMENT for item in plan.going if item.kind == "wal"]


def test_the_newest_base_before_the_window_stays_and_all_after_it() -> None:
    plan = make_plan(contents(base(2), base(6), base(10)), Policy(8 * SEGMENT))
    assert going(plan)[:1] == ["base/2"]
    assert segments(plan) == [0, 1, 2, 3, 4, 5]
    assert plan.window_lsn == 8 * SEGMENT
    assert plan.floor_lsn == base(6).start_lsn
    assert plan.removed == (RemovedWal(0, 6 * SEGMENT),)


@pytest.mark.parametrize("segment", [0, 2])
def test_a_window_that_reaches_back_further_keeps_all_that_there_is(segment: int) -> None:
    plan = make_plan(contents(base(2), base(6)), Policy(segment * SEGMENT))
    assert segments(plan) == [0, 1]
    assert plan.window_lsn == base(2).stop_lsn


def test_a_window_within_a_base_begins_with_the_one_before() -> None:
    middle = base(6)
    plan = make_plan(contents(base(2), middle), Policy(middle.stop_lsn - 1))
    assert segments(plan) == [0, 1]
    plan = make_plan(contents(base(2), middle), Policy(middle.stop_lsn))
    assert segments(plan) == [0, 1, 2, 3, 4, 5]


def test_the_newest_base_stays_whatever_is_asked() -> None:
    for policy in (Policy(INFINITY), Policy(keep_size=0)):
        plan = make_plan(contents(base(2), base(6)), policy)
        assert next(item.path for item in plan.items if item.stays) == "base/6"
        assert segments(plan) == [0, 1, 2, 3, 4, 5]


def test_an_unusual_order_of_names_means_nothing() -> None:
    older = base(2, path="base/zz")
    newer = base(6, path="base/aa")
    assert going(make_plan(contents(newer, older), Policy(8 * SEGMENT)))[0] == "base/zz"


def test_what_a_base_needs_before_its_start_stays() -> None:
    advanced = base(8, first_needed_lsn=5 * SEGMENT + 7)
    plan = make_plan(contents(base(2), advanced), Policy(INFINITY))
    assert segments(plan) == [0, 1, 2, 3, 4]
    assert plan.floor_lsn == 5 * SEGMENT + 7


def test_by_size() -> None:
    # From base 6 on: 3 bases of 5 segments, and segments 6 to 20.
    bases = (base(2), base(6), base(10), base(14))
    fits = 15 * SEGMENT + 15 * SEGMENT
    assert segments(make_plan(contents(*bases), Policy(keep_size=fits))) == [0, 1, 2, 3, 4, 5]
    assert segments(make_plan(contents(*bases), Policy(keep_size=fits - 1))) == list(range(10))


def test_kept_points_keep_their_wal_to_just_past_their_end() -> None:
    bases = (base(2, 1), base(4, 1), base(8, 2), base(12, 3), base(16, 4))
    plan = make_plan(contents(*bases), Policy(18 * SEGMENT, daily=3))
    reasons = {item.path: item.reason for item in plan.items if item.kind == "base"}
    assert reasons["base/8"] == "daily 2026-11-03"
    assert reasons["base/12"] == "daily 2026-11-04"
    assert going(plan)[:2] == ["base/2", "base/4"]
    assert segments(plan) == [0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 13, 14, 15]
    assert plan.removed == (
        RemovedWal(0, 8 * SEGMENT),
        RemovedWal(9 * SEGMENT, 12 * SEGMENT),
        RemovedWal(13 * SEGMENT, 16 * SEGMENT),
    )
    assert plan.floor_lsn == base(8).start_lsn


def test_of_a_day_week_and_month_the_newest_base_is_kept() -> None:
    bases = [base(n, day) for n, day in enumerate((1, 2, 9, 10, 29, 30, 31))]
    policy = Policy(20 * SEGMENT, weekly=2, monthly=2)
    plan = make_plan(contents(*bases), policy)
    stays = {item.path: item.reason for item in plan.items if item.kind == "base" and item.stays}
    assert stays == {
        "base/4": "monthly 2026-11",
        "base/3": "weekly 2026-W46",
        "base/6": "the window begins with it",
    }


def test_a_base_that_cannot_be_restored_is_no_kept_point() -> None:
    files = [file for file in wal(0, 20) if file.begin != 8 * SEGMENT]
    bases = (base(4, 1), base(8, 2), base(16, 4))
    plan = make_plan(contents(*bases, files=files), Policy(18 * SEGMENT, daily=2))
    reasons = {item.path: item.reason for item in plan.items if item.kind == "base"}
    assert reasons["base/4"] == "daily 2026-11-02"
    assert reasons["base/8"] == "cannot be restored: WAL from 0/800000 is missing"


def test_leases_and_places_keep_what_they_name() -> None:
    pins = [Pin("reader", 5 * SEGMENT, 6 * SEGMENT - 1)]
    places = [Place("hold a", base(8).stop_lsn, 9 * SEGMENT + 3, "audit")]
    bases = (base(2), base(5), base(8), base(9), base(16))
    store = contents(*bases, pins=pins, places=places)
    plan = make_plan(store, Policy(18 * SEGMENT))
    reasons = {item.path: item.reason for item in plan.items if item.kind == "base"}
    assert (reasons["base/5"], reasons["base/8"]) == ("reader", "hold a: audit")
    assert [path for path in going(plan) if path.startswith("base")] == ["base/2", "base/9"]
    assert segments(plan) == [0, 1, 2, 3, 4, 6, 7, 10, 11, 12, 13, 14, 15]


def test_what_is_not_indexed_or_being_backed_up_is_not_touched() -> None:
    bases = (base(2), base(16))
    plan = make_plan(contents(*bases, protected_lsn=12 * SEGMENT), Policy(18 * SEGMENT))
    assert segments(plan) == list(range(12))
    plan = make_plan(contents(*bases, unfinished=[9 * SEGMENT]), Policy(18 * SEGMENT))
    assert segments(plan) == list(range(9))


def test_a_base_whose_end_is_not_reached_does_not_count() -> None:
    plan = make_plan(
        contents(base(2), base(6), base(19), latest_lsn=19 * SEGMENT), Policy(INFINITY)
    )
    assert segments(plan) == list(range(6))
    with pytest.raises(StoreError, match="no base backup that WAL and index reach the end of"):
        make_plan(contents(base(19), latest_lsn=19 * SEGMENT), Policy(INFINITY))


def test_a_hole_in_the_window_stops_it() -> None:
    files = [file for file in wal(0, 20) if file.begin != 8 * SEGMENT]
    with pytest.raises(SegmentMissing, match=r"from 0/800000 to 0/900000 .*had, and from 0/A"):
        make_plan(contents(base(2), base(6), base(10), files=files), Policy(7 * SEGMENT))
    # Before the window it is nobody's business, and is not told of again.
    plan = make_plan(contents(base(2), base(10), files=files), Policy(11 * SEGMENT))
    assert plan.removed == (RemovedWal(0, 10 * SEGMENT),)


def test_a_segment_that_was_cut_is_a_hole() -> None:
    files = wal(0, 20)
    files[8] = files[8]._replace(counts=False)
    with pytest.raises(SegmentMissing):
        make_plan(contents(base(6), files=files), Policy(7 * SEGMENT))
    files[8] = files[8]._replace(counts=True, whole=False)
    with pytest.raises(SegmentMissing):
        make_plan(contents(base(6), files=files), Policy(7 * SEGMENT))


def test_a_place_keeps_the_newest_base_that_it_can_be_rebuilt_from() -> None:
    place = Place("branch b", 12 * SEGMENT, 12 * SEGMENT)
    bases = (base(2), base(6), base(10), base(16))
    plan = make_plan(contents(*bases, places=[place]), Policy(18 * SEGMENT))
    assert [path for path in going(plan) if path.startswith("base")] == ["base/2", "base/6"]
    assert segments(plan) == [*range(10), 13, 14, 15]
    assert {item.reason for item in plan.items if item.path == "wal/1-11"} == {"branch b"}
    # With WAL missing that the newest needs, an older one will do where all of its is there.
    advanced = base(10, first_needed_lsn=3 * SEGMENT)
    files = [file for file in wal(0, 20) if file.begin != 4 * SEGMENT]
    store = contents(base(2), base(6), advanced, base(16), places=[place], files=files)
    plan = make_plan(store, Policy(18 * SEGMENT))
    assert [path for path in going(plan) if path.startswith("base")] == ["base/2", "base/10"]


def test_a_place_within_the_window_changes_nothing() -> None:
    bases = (base(2), base(6), base(10))
    place = Place("branch b", 12 * SEGMENT, INFINITY)
    plain = make_plan(contents(*bases), Policy(8 * SEGMENT))
    assert make_plan(contents(*bases, places=[place]), Policy(8 * SEGMENT)) == plain


def test_a_place_whose_base_or_wal_is_gone_stops_it() -> None:
    place = Place("hold a", 4 * SEGMENT, 5 * SEGMENT)
    with pytest.raises(StoreError, match=r"hold a: no base .* ends at or before 0/400000"):
        make_plan(contents(base(8), base(10), places=[place]), Policy(12 * SEGMENT))
    files = [file for file in wal(0, 20) if file.begin != 4 * SEGMENT]
    with pytest.raises(SegmentMissing, match="hold a: WAL from 0/400000"):
        make_plan(contents(base(2), base(10), places=[place], files=files), Policy(12 * SEGMENT))


def test_a_window_that_is_not_all_there_says_so() -> None:
    for segment, short in ((1, True), (2, True), (3, False)):
        assert make_plan(contents(base(2), base(6)), Policy(segment * SEGMENT)).short is short
    assert not make_plan(contents(base(2)), Policy(keep_size=0)).short


def test_what_an_earlier_gc_took_is_no_hole() -> None:
    files = wal(2, 2) + wal(8, 20)
    removed = [RemovedWal(0, 2 * SEGMENT), RemovedWal(3 * SEGMENT, 8 * SEGMENT)]
    store = contents(base(2), base(8), base(12), files=files, removed=removed)
    # The window is wider than it was: what is left of before stays, and is not promised.
    plan = make_plan(store, Policy(4 * SEGMENT))
    assert going(plan) == []
    assert plan.window_lsn == base(8).stop_lsn
    assert plan.removed == tuple(removed)
    plan = make_plan(store, Policy(13 * SEGMENT))
    assert segments(plan) == [2, 8, 9, 10, 11]
    assert plan.removed == (RemovedWal(0, 12 * SEGMENT),)


def test_timelines_go_by_lsn() -> None:
    """The branch that the server left goes when the window has passed it; so do its bases."""
    history = parse_history(2, f"1\t0/{10 * SEGMENT + 99:X}\n".encode())
    files = wal(0, 9) + wal(10, 10, whole=False) + wal(10, 20, timeline=2)
    files += wal(10, 13, path="wal/dead/x", counts=False)
    dead = base(12, path="base/dead")
    bases = (base(2), dead, base(11, timeline=2), base(16, timeline=2))
    store = contents(*bases, files=files, history=history)
    plan = make_plan(store, Policy(12 * SEGMENT))
    assert going(plan)[0] == "base/2"
    assert "base/dead" not in going(plan)
    assert segments(plan) == [*range(10), 10, 10, 10]
    plan = make_plan(store, Policy(18 * SEGMENT))
    assert "base/dead" in going(plan)
    assert going(plan).count("wal/dead/x") == 4
    # The segment of the switch is the newer timeline's: the older one's alone is a hole.
    files = [file for file in files if (file.timeline, file.begin) != (2, 10 * SEGMENT)]
    with pytest.raises(SegmentMissing):
        make_plan(store._replace(files=files), Policy(3 * SEGMENT))


def test_a_base_over_a_switch_is_not_relied_on() -> None:
    history = parse_history(2, f"1\t0/{6 * SEGMENT + 500:X}\n".encode())
    files = wal(0, 6) + wal(6, 20, timeline=2)
    store = contents(base(2), base(6), base(16, timeline=2), files=files, history=history)
    plan = make_plan(store, Policy(8 * SEGMENT))
    assert segments(plan) == [0, 1]
    assert [item.stays for item in plan.items if item.kind == "base"] == [True, True, True]
    # One that says on which timeline it ended is.
    told = base(6, stop_timeline=2)._replace(stop_lsn=6 * SEGMENT + 900)
    plan = make_plan(store._replace(bases=[base(2), told]), Policy(8 * SEGMENT))
    assert segments(plan) == list(range(6))
    dead = told._replace(stop_timeline=1)
    assert segments(make_plan(store._replace(bases=[base(2), dead]), Policy(INFINITY))) == [0, 1]


def test_dumps_go_by_time() -> None:
    dumps = [Dump("dumps/old", 5, 100.0), Dump("dumps/new", 6, 300.0)]
    store = contents(base(2), dumps=dumps)
    assert going(make_plan(store, Policy(INFINITY)))[-1] != "dumps/old"
    assert "dumps/old" in going(make_plan(store, Policy(INFINITY, dumps_before_s=200.0)))
    assert "dumps/new" not in going(make_plan(store, Policy(INFINITY, dumps_before_s=200.0)))
