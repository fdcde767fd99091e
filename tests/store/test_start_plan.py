"""Where streaming goes on, by the names of files alone: timelines, dead branches, holes."""

from __future__ import annotations

import pytest

from walstream.errors import ConnectionLost, ServerRefused
from walstream.segments.names import segment_file_name
from walstream.store.start_plan import WalEntry, choose_start, find_holes, parse_entry
from walstream.wal.timeline import INFINITY, TimelineHistory, TimelinePart, Upstream, WalHole

SIZE = 1 << 20
FIRST = TimelineHistory((TimelinePart(1, 0, INFINITY),))
# Timeline 2 left the first one in the middle of segment 5.
SECOND = TimelineHistory(
    (TimelinePart(1, 0, 5 * SIZE + 4096), TimelinePart(2, 5 * SIZE + 4096, INFINITY))
)


def upstream(
    history: TimelineHistory = FIRST, flush: int = 20 * SIZE, *, recovery: bool = False
) -> Upstream:
    timeline = history.parts[-1].timeline
    return Upstream(1, 18, SIZE, timeline, flush, history, None, 0, 0, recovery)


def entries(*names: tuple[int, int, str]) -> list[WalEntry]:
    found = [parse_entry(segment_file_name(t, n, SIZE) + end, SIZE, SIZE) for t, n, end in names]
    assert None not in found
    return [entry for entry in found if entry is not None]


def test_an_empty_directory_begins_where_it_is_told() -> None:
    server = upstream()
    assert choose_start([], server)[:2] == (1, 20 * SIZE)
    assert choose_start([], server, empty_start=(1, 3 * SIZE + 77))[:2] == (1, 3 * SIZE)
    slot = server._replace(slot_restart_lsn=9 * SIZE + 5, slot_restart_timeline=1)
    plan = choose_start([], slot)
    assert plan[:2] == (1, 9 * SIZE)
    assert plan.anew


@pytest.mark.parametrize(
    ("end", "start"), [("", 8 * SIZE), (".gz", 8 * SIZE), (".partial", 7 * SIZE)]
)
def test_the_newest_segment_is_gone_on_with_or_behind(end: str, start: int) -> None:
    plan = choose_start(entries((1, 6, ""), (1, 7, end)), upstream())
    assert plan[:2] == (1, start)
    assert [entry.name[24:] for entry in plan.partials] == ([end] if "partial" in end else [])
    assert not plan.holes
    assert not plan.dead


def test_of_two_unfinished_files_of_a_segment_both_are_candidates() -> None:
    plan = choose_start(entries((1, 7, ".partial"), (1, 7, ".zst.partial")), upstream())
    assert len(plan.partials) == 2


def test_what_the_server_has_left_is_dead() -> None:
    held = entries((1, 4, ""), (1, 5, ""), (1, 6, ".partial"))
    plan = choose_start(held, upstream(SECOND))
    assert {entry.segment_number for entry in plan.dead} == {5, 6}
    assert plan[:2] == (1, 5 * SIZE)
    followed = choose_start(entries((1, 4, ""), (2, 5, "")), upstream(SECOND))
    assert followed[:2] == (2, 6 * SIZE)
    assert followed.dead == ()


def test_a_directory_ahead_of_the_server() -> None:
    held = entries((1, 30, ""))
    with pytest.raises(ServerRefused, match="reset"):
        choose_start(held, upstream())
    with pytest.raises(ConnectionLost, match="may still get there"):
        choose_start(held, upstream(recovery=True))
    with pytest.raises(ServerRefused, match="timeline 2"):
        choose_start(entries((2, 5, "")), upstream())


def test_holes_are_runs_between_what_is_held() -> None:
    held = [(1, 2), (1, 5), (1, 6), (1, 9)]
    assert find_holes(held, FIRST, 10 * SIZE, SIZE) == [
        WalHole(1, 3 * SIZE, 5 * SIZE),
        WalHole(1, 7 * SIZE, 9 * SIZE),
    ]
    assert find_holes([], FIRST, 10 * SIZE, SIZE) == []
    far = find_holes([(1, 1), (1, 1 << 40)], FIRST, (1 << 40) * SIZE, SIZE)
    assert far == [WalHole(1, 2 * SIZE, (1 << 40) * SIZE)]


def test_a_hole_across_a_switch_is_asked_for_on_both_timelines() -> None:
    held = [(1, 2), (2, 7)]
    assert find_holes(held, SECOND, 8 * SIZE, SIZE) == [
        WalHole(1, 3 * SIZE, 5 * SIZE),
        WalHole(2, 5 * SIZE, 7 * SIZE),
    ]


def test_names_that_are_no_segments() -> None:
    name = segment_file_name(1, 7, SIZE)
    for other in (name + ".partial.tmp", name + ".bak", name[:-1], "00000002.history"):
        assert parse_entry(other, SIZE, SIZE) is None
    assert parse_entry(name, SIZE - 1, SIZE) is None
