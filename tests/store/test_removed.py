"""WAL that gc took away: ranges, what they explain, and which moments are left."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from walstream.errors import LsnNotAvailable, StoreError
from walstream.store.base_backup import BaseBackup
from walstream.store.file_layer import FileLayer
from walstream.store.removed import (
    Moments,
    RemovedWal,
    answerable,
    check_answerable,
    joined,
    read_removed,
    unexplained,
    without,
    write_removed,
)
from walstream.wal.timeline import WalHole

RANGES = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)).map(lambda p: RemovedWal(*p)))


def points(ranges: object) -> set[int]:
    return {n for begin, end in ranges for n in range(begin, end)}  # type: ignore[attr-defined]


@given(RANGES, RANGES)
def test_ranges_are_sets_of_bytes(some: list[RemovedWal], others: list[RemovedWal]) -> None:
    whole, rest = joined(some), without(some, others)
    assert points(whole) == points(some)
    assert points(rest) == points(some) - points(others)
    for found in (whole, rest):
        assert all(begin < end for begin, end in found)
        assert all(a.end < b.begin for a, b in pairwise(found))


@given(RANGES)
def test_holes_are_explained_byte_by_byte(removed: list[RemovedWal]) -> None:
    holes = [WalHole(1, 3, 9), WalHole(2, 20, 40)]
    left = unexplained(holes, joined(removed))
    assert points((h.begin, h.end) for h in left) == points(h[1:] for h in holes) - points(removed)
    assert all((hole.timeline == 1) == (hole.end <= 9) for hole in left)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert read_removed(tmp_path) == ()
    ranges = (RemovedWal(0, 3 << 20), RemovedWal(5 << 32, 6 << 32))
    write_removed(FileLayer(), tmp_path, ranges, 0o640)
    assert read_removed(tmp_path) == ranges
    write_removed(FileLayer(), tmp_path, (), 0o640)
    assert read_removed(tmp_path) == ()


@pytest.mark.parametrize("text", ["", "removed = 7", 'removed = [["0/1"]]', "removed = [[1, 2]]"])
def test_what_is_malformed_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "removed.toml").write_text(text)
    with pytest.raises(StoreError, match=r"removed.toml: missing or malformed"):
        read_removed(tmp_path)


def base(start: int, stop: int, wal_from: int | None = None) -> BaseBackup:
    return BaseBackup(Path(f"base/{start}"), start, stop, start, 1, {}, wal_from)


def test_moments_go_from_each_base_to_what_was_taken_away() -> None:
    bases = [base(10, 12), base(30, 33), base(50, 55)]
    assert answerable(bases, ()) == (Moments(12, None, 10),)
    removed = [RemovedWal(0, 8), RemovedWal(16, 30)]
    assert answerable(bases, removed) == (Moments(12, 16, 10), Moments(33, None, 30))
    # A base that was advanced needs WAL from before its start.
    advanced = [base(10, 12), base(30, 33, 25), base(50, 55)]
    assert answerable(advanced, removed) == (Moments(12, 16, 10), Moments(55, None, 50))
    # One whose own WAL is gone gives nothing.
    assert answerable(bases[:1], [RemovedWal(11, 20)]) == ()


def test_a_moment_that_is_gone_names_those_that_are_there() -> None:
    moments = answerable([base(10, 12), base(30, 33)], [RemovedWal(16, 30)])
    for lsn in (12, 16, 33, 99):
        check_answerable(moments, lsn)
    for lsn in (11, 17, 32):
        with pytest.raises(LsnNotAvailable, match=r"can be had are 0/C to 0/10, from 0/21 on"):
            check_answerable(moments, lsn)
