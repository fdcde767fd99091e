"""Which moments of a store can be had, as people, JSON and Prometheus are told."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from trio_util import AsyncValue

from tests.status.test_text import HEALTHY, NOW
from tests.support.synthetic_store import SEGMENT, SyntheticStore, times_at
from walstream.errors import StoreError
from walstream.index.page_index import PageIndex
from walstream.receive.receiver import Receiver
from walstream.retention.plan import Policy
from walstream.retention.tombstones import apply_plan
from walstream.status.file import write_status
from walstream.status.monitor import Monitor
from walstream.status.prometheus import WindowCollector
from walstream.status.store import store_status
from walstream.status.window import (
    Loss,
    Window,
    gauges,
    read_window,
    take_window,
    window_line,
    window_lines,
    window_table,
)
from walstream.store.holds import Hold, write_hold
from walstream.store.writer import Writer

LATER = datetime(2026, 11, 30, 2, 15, tzinfo=UTC)


@pytest.fixture
def synthetic(tmp_path: Path) -> SyntheticStore:
    """A store with bases in segments 3, 6 and 9, and WAL to 12."""
    store = SyntheticStore(tmp_path / "store")
    for _ in range(3):
        store.take_base()
        store.receive(3 * SEGMENT - 1000)
    return store


def window_at(synthetic: SyntheticStore, now: float) -> Window:
    with closing(PageIndex(synthetic.store.index_path, read_only=True)) as index:
        return take_window(synthetic.store, index, now)


def test_a_store_without_holes_or_retention(synthetic: SyntheticStore) -> None:
    synthetic.make_index([7 * SEGMENT, 11 * SEGMENT])
    found = read_window(synthetic.path)
    assert (found.earliest_lsn, found.latest_lsn) == (3 * SEGMENT + 1000, 12 * SEGMENT)
    assert found.latest_time == times_at([11 * SEGMENT])[0]
    assert (found.kept, found.holes, found.holds, found.loss) == ((), (), (), None)
    assert found.base_lsn == 9 * SEGMENT
    assert window_line(found).endswith("lost if the server burnt now: not known, no receiver says")


def test_after_gc_it_begins_later_and_names_what_is_kept(synthetic: SyntheticStore) -> None:
    synthetic.make_index()
    hold = Hold("a", 4 * SEGMENT, 5 * SEGMENT, LATER + timedelta(1), "audit", "4..5", LATER)
    write_hold(synthetic.path, hold)
    apply_plan(synthetic.store, synthetic.plan(Policy(10 * SEGMENT)), LATER)
    found = window_at(synthetic, LATER.timestamp())
    assert found.earliest_lsn == 9 * SEGMENT + 1000
    assert [str(each) for each in found.kept] == ["0/3003E8 to 0/600000"]
    assert found.holes == ()
    assert found.holds == (hold,)
    assert window_at(synthetic, (LATER + timedelta(2)).timestamp()).holds == ()
    lines = dict(window_lines(found))
    assert lines["kept before"] == "0/3003E8 to 0/600000"
    assert lines["hold"] == "a: 0/400000 to 0/500000, until 2026-12-01 02:15:00+00:00: audit"
    table = window_table(found)
    assert table["kept"] == [{"from": "0/3003E8", "to": "0/600000"}]
    assert table["loss_bytes"] is None


def test_wal_that_nobody_took_away_is_a_hole(synthetic: SyntheticStore) -> None:
    synthetic.make_index()
    (synthetic.wal / synthetic.name(7)).unlink()
    found = read_window(synthetic.path)
    assert found.holes == ((7 * SEGMENT, 8 * SEGMENT),)
    assert ("HOLE", "0/700000 to 0/800000") in list(window_lines(found))
    assert "1 HOLES" in window_line(found)


def test_what_is_behind_is_lost(synthetic: SyntheticStore) -> None:
    synthetic.make_index()
    write_status(synthetic.store.status_path, HEALTHY)
    found = window_at(synthetic, NOW)
    assert found.loss == Loss(16 << 20, 0.25, True)
    assert dict(window_lines(found))["lost now"] == "if the server burnt: 16 MB, 250 ms"
    # Of a receiver that is silent the least is known.
    silent = window_at(synthetic, NOW + 3599)
    assert silent.loss == Loss(16 << 20, 3600.25, False)
    assert dict(window_lines(silent))["lost now"].endswith("at least 16 MB, at least 60 min")
    assert Loss.of(replace(HEALTHY, flushed_lsn=0), NOW) is None


def test_gauges_have_the_loss_of_now(synthetic: SyntheticStore) -> None:
    synthetic.make_index([11 * SEGMENT])
    found = read_window(synthetic.path)
    told = {name: value for name, _, value in gauges(found, Loss(5, 0.5, True))}
    assert told["walstream_window_loss_bytes"] == 5
    assert told["walstream_window_latest_lsn"] == 12 * SEGMENT
    assert told["walstream_window_holes"] == 0
    assert "walstream_window_earliest_timestamp_seconds" in told
    assert "walstream_window_loss_seconds" not in {n for n, _, _ in gauges(found, None)}
    monitor = Monitor(Receiver(AsyncValue(""), writer := Writer(synthetic.wal)), writer)
    collector = WindowCollector(monitor)
    assert list(collector.collect()) == []
    monitor.window = found
    assert told.keys() - {metric.name for metric in collector.collect()} == {
        "walstream_window_loss_bytes",
        "walstream_window_loss_seconds",
    }


def test_nothing_can_be_had_before_the_end_of_a_base(synthetic: SyntheticStore) -> None:
    synthetic.latest = 3 * SEGMENT + 10
    synthetic.make_index()
    found = read_window(synthetic.path)
    assert (found.earliest_lsn, found.latest_lsn) == (None, None)
    assert dict(window_lines(found))["window"].startswith("no moment can be had yet")


def test_a_store_without_index_or_base_says_so(tmp_path: Path) -> None:
    synthetic = SyntheticStore(tmp_path / "store")
    with pytest.raises(StoreError, match="there is no index in"):
        read_window(synthetic.path)
    synthetic.make_index()
    with pytest.raises(StoreError, match="has no base backup yet"):
        read_window(synthetic.path)
    assert store_status(synthetic.path).window is None
    synthetic.take_base()
    (synthetic.base / "0000000000300000.toml").write_text("x")
    with pytest.raises(StoreError, match="malformed"):
        read_window(synthetic.path)
