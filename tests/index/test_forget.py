"""What leaves the index with its WAL, and what stays for later moments."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.index.stored import end_list, posting_list
from walstream.index.ends import End, ends
from walstream.index.forget import forget
from walstream.index.page_index import (
    Batch,
    Entry,
    Event,
    PageIndex,
    SizeChange,
    SizeKind,
)
from walstream.wal.model import BufferTag, RelFileLocator
from walstream.wal.opcodes import XLOG_XACT_COMMIT

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
        batch.pairs.append(end_list([End(lsn, lsn - 20, 7, lsn * 10, XLOG_XACT_COMMIT)]))
    batch.sizes = [(REL, 0, SizeChange(100, SizeKind.CREATE, 1))]
    index.write(batch)
    yield index
    index.close()


def entries(index: PageIndex) -> list[int]:
    return sorted(entry.end_lsn for entry in index.entries(TAG))


def events(index: PageIndex) -> list[int]:
    return [event.end_lsn for event in index.events()]


def commits(index: PageIndex) -> list[int]:
    return [end.end_lsn for end in ends(index)]


def test_all_before_the_window_goes_but_commits_and_sizes(index: PageIndex) -> None:
    assert forget(index, [(0, 320)]) == 2 + 3
    # The third list reaches out of what is gone.
    assert entries(index) == [300, 350, 400, 450, 500, 550]
    assert events(index) == [400, 500]
    assert commits(index) == list(LISTS)
    assert index.size_at(REL, 0, 500) == 1


def test_what_lies_between_kept_moments_goes(index: PageIndex) -> None:
    forget(index, [(0, 150), (260, 460)])
    assert entries(index) == [200, 250, 500, 550]
    assert events(index) == [200, 500]


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
    assert (entries(index)[0], events(index)) == (300, [400, 500])


def test_folded_states_of_bases_that_are_gone_go(index: PageIndex) -> None:
    batch = Batch()
    for start_lsn in (200, 500):
        key = b"f" + start_lsn.to_bytes(8, "big") + b"\0" + bytes(8) + (550).to_bytes(8, "big")
        batch.pairs.append((key, b"state"))
    index.write(batch)
    forget(index, [(0, 320)])
    assert [int.from_bytes(key[1:9], "big") for key, _ in index.pairs(b"f")] == [500]
