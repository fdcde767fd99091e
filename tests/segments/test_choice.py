"""Which file holds a segment: the rule against a naive walk over bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from walstream.segments.choice import candidates, timelines_of
from walstream.segments.compression import CODECS
from walstream.segments.names import KINDS
from walstream.wal.timeline import INFINITY, TimelineHistory, TimelinePart

SIZE = 1 << 20
# Positions in quarters of a segment, so that switch points at and between boundaries are common.
QUARTER = SIZE // 4


@st.composite
def histories(draw: st.DrawFn) -> TimelineHistory:
    switches = sorted(draw(st.lists(st.integers(0, 40), max_size=5)))
    timelines = sorted(
        draw(st.sets(st.integers(1, 50), min_size=len(switches) + 1, max_size=len(switches) + 1))
    )
    parts = []
    begin = 0
    for timeline, switch in zip(timelines, [*switches, None], strict=True):
        end = INFINITY if switch is None else switch * QUARTER
        parts.append(TimelinePart(timeline, begin, end))
        begin = end
    return TimelineHistory(tuple(parts))


@given(histories(), st.integers(0, 12))
def test_the_first_timeline_has_the_last_byte_and_each_has_one(
    history: TimelineHistory, number: int
) -> None:
    begin, end = number * SIZE, (number + 1) * SIZE
    found = timelines_of(history, number, SIZE)
    assert found[0] == history.part_at(end - 1).timeline
    assert found == sorted(found, reverse=True)
    holders = {history.part_at(at).timeline for at in range(begin, end, QUARTER)}
    # Also those that came and went at one point: what they wrote is of the path up to there.
    assert holders <= set(found)
    for timeline in found:
        part = history.part_of(timeline)
        assert part is not None
        assert part.begin < end
        assert part.end > begin


@given(histories(), st.integers(0, 12), st.data())
def test_the_file_of_the_newest_timeline_that_has_one(
    history: TimelineHistory, number: int, data: st.DataObject
) -> None:
    names = [each.name for each in candidates(history, number, SIZE)]
    assert len(names) == len(set(names)) == len(timelines_of(history, number, SIZE)) * len(KINDS)
    there = data.draw(st.sets(st.sampled_from(names), min_size=1))
    taken = next(each for each in candidates(history, number, SIZE) if each.name in there)
    assert taken.timeline == max(int(name[:8], 16) for name in there)
    same = [name for name in there if name[:8] == taken.name[:8]]
    assert taken.partial == all(".partial" in name for name in same)
    # Of those a plain one: what is being compressed is there twice, and the copy not yet whole.
    alike = [name for name in same if (".partial" in name) == taken.partial]
    assert bool(taken.compression) == all(name[24:] not in ("", ".partial") for name in alike)


@pytest.mark.parametrize("suffix", [codec.suffix for codec in CODECS])
def test_a_segment_that_is_being_compressed_is_read_as_it_was(suffix: str) -> None:
    """What lies there at each step, of a receiver that compresses and of gzip by hand."""
    history = TimelineHistory((TimelinePart(1, 0, INFINITY),))

    def taken(*there: str) -> str:
        names = [each.name[24:] for each in candidates(history, 5, SIZE)]
        return next(name for name in names if name in there)

    assert taken("", suffix) == ""
    assert taken("", suffix + ".partial") == ""
    assert taken(".partial", ".partial" + suffix) == ".partial"
    assert taken(".partial", suffix + ".partial") == ".partial"
    # A complete one is whole, whatever it is: behind an unfinished one there may be zeros.
    assert taken(".partial", suffix) == suffix
    assert taken(suffix + ".partial", "") == ""
    assert taken(suffix, suffix + ".partial", ".partial" + suffix) == suffix
    assert taken(suffix + ".partial", ".partial" + suffix) == suffix + ".partial"


def test_a_segment_behind_a_switch_at_a_boundary_is_the_new_timelines_alone() -> None:
    history = TimelineHistory((TimelinePart(1, 0, 2 * SIZE), TimelinePart(2, 2 * SIZE, INFINITY)))
    assert timelines_of(history, 1, SIZE) == [1]
    assert timelines_of(history, 2, SIZE) == [2]
