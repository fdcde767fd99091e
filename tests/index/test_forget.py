"""What leaves the index with its WAL, and what stays for later moments."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.index.stored import posting_list
from walstream.index.changes import TimeKind
from walstream.index.forget import forget
from walstream.index.page_index import (
    Batch,
    Entry,
    Event,
    PageIndex,
    SizeChange,
    SizeKind,
    TimePoint,
)
from walstream.wal.model import BufferTag, RelFileLocator

REL = RelFileLocator(1663, 5, 16384)
TAG = BufferTag(*REL, 0, 0)
# Posting lists of one block: two entries each, a key at the first of them.
LISTS = (100, 200, 300, 400, 500)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[PageIndex]:
    index = PageIndex(tmp_path / "index")
    batch = Batch()
    for lsn in LISTS:
        batch.pairs.append(
            posting_list(TAG, [Entry(lsn, lsn - 20, 0), Entry(lsn + 50, lsn + 30, 0)])
        )
        batch.events.append(Event(lsn, lsn - 20, 1, 0, 7))
        batch.times.append(TimePoint(lsn * 10, lsn, lsn - 20, 7, TimeKind.COMMIT))
    batch.sizes = [(REL, 0, SizeChange(100, SizeKind.CREATE, 1))]
    index.write(batch)
    yield index
    index.close()


def entries(index: PageIndex) -> list[int]:
    return sorted(entry.end_lsn for entry in index.entries(TAG))


def events(index: PageIndex) -> list[int]:
    return [event.end_lsn for event in index.events()]


def times(index: PageIndex) -> list[int]:
    return [point.end_lsn for point in index.times()]


def test_all_before_the_window_goes_but_the_newest_commit(index: PageIndex) -> None:
    assert forget(index, [(0, 320)]) == 2 + 3 + 2
    # The third list reaches out of what is gone.
    assert entries(index) == [300, 350, 400, 450, 500, 550]
    assert events(index) == [400, 500]
    assert times(index) == [300, 400, 500]
    assert index.size_at(REL, 0, 500) == 1


def test_between_kept_moments_their_times_stay(index: PageIndex) -> None:
    forget(index, [(0, 150), (260, 460)])
    assert entries(index) == [200, 250, 500, 550]
    assert events(index) == [200, 500]
    assert times(index) == [100, 200, 300, 400, 500]


def test_what_is_done_is_not_done_again(index: PageIndex) -> None:
    assert forget(index, []) == 0
    assert forget(index, [(0, 160)]) > 0
    batch = Batch()
    batch.events.append(Event(120, 110, 1, 0, 7))
    index.write(batch)
    assert forget(index, [(0, 160)]) == 0
    assert forget(index, [(0, 161)]) == 1


def test_interrupted_it_begins_again(index: PageIndex) -> None:
    class Interrupted(Exception):
        pass

    def interrupt() -> None:
        raise Interrupted

    with pytest.raises(Interrupted):
        forget(index, [(0, 320)], interrupt)
    forget(index, [(0, 320)])
    assert events(index) == [400, 500]


@pytest.mark.parametrize("at_once", [1, 3])
def test_in_few_writes_or_many(
    index: PageIndex, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr("walstream.index.forget.AT_ONCE", at_once)
    forget(index, [(0, 320)])
    assert (entries(index)[0], events(index), times(index)) == (300, [400, 500], [300, 400, 500])
