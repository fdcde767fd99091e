"""Which WAL a new index is made of: up to holes, and across what gc took away."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from tests.support.synthetic_store import SEGMENT, SyntheticStore
from walstream.app.reindex import stretches_to_index
from walstream.segments.reader import SegmentReader
from walstream.store.base_backup import list_base_backups
from walstream.store.removed import RemovedWal

# Segments of the store; base backups begin in those of BASES.
FIRST, END = 3, 24
BASES = (4, 10, 16)


@pytest.fixture
def store(tmp_path: Path) -> SyntheticStore:
    store = SyntheticStore(tmp_path / "store", FIRST * SEGMENT)
    for number in BASES:
        store.receive(number * SEGMENT - store.latest)
        store.take_base()
    store.receive(END * SEGMENT - 5 - store.latest)
    return store


def stretches(store: SyntheticStore, *removed: tuple[int, int]) -> list[tuple[list[int], int]]:
    """Returns the segments that the bases of each stretch begin in, and its end."""
    ranges = [RemovedWal(begin * SEGMENT, end * SEGMENT) for begin, end in removed]
    with closing(SegmentReader(store.wal, SEGMENT)) as archive:
        found = stretches_to_index(archive, list_base_backups(store.base), ranges)
    return [([each.start_lsn // SEGMENT for each in begin], end // SEGMENT) for begin, end in found]


def lose(store: SyntheticStore, *numbers: int) -> None:
    for number in numbers:
        (store.wal / store.name(number)).unlink()


def test_all_of_it(store: SyntheticStore) -> None:
    assert stretches(store) == [([*BASES], END)]
    # What is to go and is still there is no hole.
    assert stretches(store, (6, 9)) == [([*BASES], END)]


def test_what_gc_took_away_parts_stretches(store: SyntheticStore) -> None:
    lose(store, *range(5, 9), *range(12, 16))
    assert stretches(store, (0, 3), (5, 9), (12, 16)) == [([4], 5), ([10], 12), ([16], END)]


@pytest.mark.parametrize("removed", [(), ((5, 8),), ((6, 9),), ((0, 3), (12, 14))])
def test_the_index_begins_behind_a_hole_that_nobody_made(
    store: SyntheticStore, removed: tuple[tuple[int, int], ...]
) -> None:
    lose(store, *range(5, 9))
    assert stretches(store, *removed) == [([10, 16], END)]


def test_a_hole_and_behind_it_what_gc_took_away(store: SyntheticStore) -> None:
    lose(store, 5, *range(12, 16))
    assert stretches(store, (12, 16)) == [([10], 12), ([16], END)]
    # The other way round what is before the hole is of no use.
    assert stretches(store, (5, 6)) == [([16], END)]


def test_wal_behind_a_hole_without_a_base(store: SyntheticStore) -> None:
    lose(store, 20)
    assert stretches(store) == [([*BASES], 20)]
    lose(store, *range(5, 9))
    assert stretches(store, (5, 9)) == [([4], 5), ([10, 16], 20)]


def test_no_stretch_has_a_base(store: SyntheticStore) -> None:
    lose(store, *BASES)
    assert stretches(store) == [([*BASES], END)]
