"""States that were folded on the way are those that folding from the base backup gives."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.datadir.story import Story, told
from walstream.errors import NoSpace, StoreError
from walstream.index.forks import databases_at, tablespaces_at
from walstream.index.page_index import Batch, PageIndex
from walstream.state import folder
from walstream.state.cluster import LOG_NUMBERS, NUMBERS, ClusterState, cluster_state
from walstream.state.folded import newest_folded
from walstream.state.folder import StateFolder
from walstream.wal.relpath import DEFAULT_TABLESPACE, GLOBAL_TABLESPACE

INTERVAL = 1 << 17
MOMENTS = 25


@pytest.fixture(scope="module")
def story(pg_version: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    with told(pg_version, tmp_path_factory.mktemp("story"), whole=False) as story:
        yield story


@pytest.fixture(autouse=True)
def short_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "INTERVAL", INTERVAL)


def everything(state: ClusterState) -> dict[str, object]:
    log = state.transactions
    found: dict[str, object] = {name: getattr(state, name) for name in NUMBERS}
    found |= {name: getattr(log, name) for name in LOG_NUMBERS}
    found |= {
        name: getattr(state, name)
        for name in (
            "parameters",
            "checkpoint",
            "directories",
            "relation_maps",
            "tablespaces",
            "two_phase",
            "origins",
        )
    }
    found["files"] = dict(log.files())
    found["tracked"] = log.tracked
    return found


def folds(story: Story) -> StateFolder:
    past = story.past
    return StateFolder(
        past.pages.index, past.pages.archive, lambda: past.backups, story.server.version
    )


def stored(index: PageIndex) -> list[tuple[bytes, bytes]]:
    return list(index.scan(b"f", b"f"))


def forget(index: PageIndex) -> None:
    for key, _ in stored(index):
        del index._db[key]


@pytest.mark.pg_versions(14, 18)
@pytest.mark.timeout(600)
def test_the_state_at_any_lsn_is_that_from_the_base(story: Story) -> None:
    past = story.past
    index, start_lsn = past.pages.index, past.backups[0].start_lsn
    chosen = sorted(random.sample(story.records, MOMENTS))
    lsns = [end_lsn for _, end_lsn in (*chosen, story.records[-1])]
    expected = {}
    for lsn in lsns:
        state = cluster_state(past.source(lsn), lsn)
        assert databases_at(index, lsn) == sorted(state.directories)
        spaces = {DEFAULT_TABLESPACE, GLOBAL_TABLESPACE, *state.tablespaces}
        assert tablespaces_at(index, lsn) == sorted(spaces)
        expected[lsn] = everything(state)
    at_once = folds(story)
    for lsn in lsns:
        at_once.step(lsn)
    made = stored(index)
    for lsn in lsns:
        folded = newest_folded(index, start_lsn, lsn)
        if lsn - lsn % INTERVAL > past.backups[0].stop_lsn:
            # No event was applied again that lies before the last multiple.
            assert folded is not None
            assert folded.lsn == lsn - lsn % INTERVAL
        assert everything(cluster_state(past.source(lsn), lsn)) == expected[lsn], lsn
    forget(index)
    for lsn in lsns:
        folds(story).step(lsn)
    assert stored(index) == made


@pytest.mark.pg_versions(18)
def test_what_goes_wrong_leaves_the_base_to_fold_from(
    story: Story, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    past = story.past
    index = past.pages.index
    lsn = story.records[-1][1]
    forget(index)
    expected = everything(cluster_state(past.source(lsn), lsn))
    own, write, full = folds(story), index.write, [True]

    def fails_once(batch: Batch) -> None:
        if full:
            full.pop()
            raise NoSpace("no space", "index")
        write(batch)

    monkeypatch.setattr(index, "write", fails_once)
    own.step(lsn)
    assert not full
    assert stored(index)
    assert everything(cluster_state(past.source(lsn), lsn)) == expected
    forget(index)

    def damaged(*_: object) -> None:
        raise StoreError("cannot be read")

    monkeypatch.setattr(ClusterState, "apply", damaged)
    folds(story).step(lsn)
    assert [record.message for record in caplog.records if "not folded" in record.message]
    assert len([record for record in caplog.records if "not folded" in record.message]) == 1
    assert stored(index) == []


@pytest.mark.pg_versions(18)
def test_taking_back_drops_those_beyond(story: Story, tmp_path: Path) -> None:
    """And going on from there makes them again."""
    index = story.past.pages.index
    forget(index)
    own = folds(story)
    own.step(story.records[-1][1])
    made = stored(index)
    middle = story.records[len(story.records) // 2][1]
    kept = [pair for pair in made if int.from_bytes(pair[0][-8:], "big") <= middle]
    assert 0 < len(kept) < len(made)
    for key, _ in made:
        if int.from_bytes(key[-8:], "big") > middle:
            del index._db[key]
    own.taken_back()
    own.step(story.records[-1][1])
    assert stored(index) == made
