"""A synthetic store on the disk: what is moved, what comes back, what cannot be understood."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.synthetic_store import SEGMENT, SyntheticStore, write_branch
from walstream.errors import StoreError
from walstream.retention.contents import Place
from walstream.retention.plan import Policy
from walstream.retention.survey import survey
from walstream.retention.text import lines, rows
from walstream.retention.tombstones import apply_plan, condemn, sweep, tombstones, undo
from walstream.store.holds import Hold, write_hold
from walstream.store.leases import LEASES, RESTORING, Lease, note_restore
from walstream.store.store import Store

NOW = datetime(2026, 11, 30, 2, 15, tzinfo=UTC)


@pytest.fixture
def synthetic(tmp_path: Path) -> SyntheticStore:
    """A store with bases in segments 3, 6 and 9, and WAL to 12."""
    store = SyntheticStore(tmp_path / "store")
    for _ in range(3):
        store.take_base()
        store.receive(3 * SEGMENT - 1000)
    return store


def test_it_goes_comes_back_and_is_deleted(synthetic: SyntheticStore) -> None:
    names = synthetic.names()
    (synthetic.path / "dumps" / "redo-pg18-x.request").write_bytes(b"x")
    policy = Policy(7 * SEGMENT, dumps_before_s=9e12)
    plan = synthetic.plan(policy)
    mark = apply_plan(synthetic.store, plan, NOW)
    assert mark == "20261130T021500Z"
    assert [n for n in synthetic.names() if ".gone" in n.split("/")[-1]] == [
        f"base/0000000000300000.{mark}.gone",
        f"base/0000000000300000.toml.{mark}.gone",
        f"dumps/redo-pg18-x.request.{mark}.gone",
        *(f"wal/00000001000000000000000{n}.{mark}.gone" for n in (3, 4, 5)),
    ]
    assert apply_plan(synthetic.store, synthetic.plan(policy), NOW) == ""
    condemn(synthetic.path, NOW - timedelta(seconds=1))
    assert sweep(synthetic.path).names == 0
    assert undo(synthetic.store)[0] == mark
    back = set(synthetic.names()) - {"wal/removed.toml", "dumps/redo-pg18-x.request"}
    assert back == set(names)
    apply_plan(synthetic.store, synthetic.plan(policy), NOW)
    condemn(synthetic.path, NOW)
    with pytest.raises(StoreError, match="nothing to take back"):
        undo(synthetic.store)
    done: list[tuple[int, int]] = []
    assert sweep(synthetic.path, report=lambda *numbers: done.append(numbers)).names == 6
    assert done == [(n, 6) for n in range(6)]
    assert tombstones(synthetic.path) == []
    with pytest.raises(StoreError, match="nothing to take back"):
        undo(synthetic.store)


def test_undo_takes_back_every_later_gc(synthetic: SyntheticStore) -> None:
    first = apply_plan(synthetic.store, synthetic.plan(Policy(7 * SEGMENT)), NOW)
    second = apply_plan(synthetic.store, synthetic.plan(Policy(10 * SEGMENT)), NOW)
    assert second > first
    with pytest.raises(StoreError, match=f"there are {first}, {second}"):
        undo(synthetic.store, "20200101T000000Z")
    assert undo(synthetic.store, first)[0] == first
    assert len(synthetic.bases()) == 3
    assert synthetic.is_there(4 * SEGMENT)


def test_what_was_there_again_is_not_replaced(synthetic: SyntheticStore) -> None:
    apply_plan(synthetic.store, synthetic.plan(Policy(7 * SEGMENT)), NOW)
    again = synthetic.wal / synthetic.name(4)
    again.write_bytes(b"received again")
    undo(synthetic.store)
    assert again.read_bytes() == b"received again"
    apply_plan(synthetic.store, synthetic.contents() and synthetic.plan(Policy(10 * SEGMENT)), NOW)
    (synthetic.base / "0000000000300000").mkdir()
    (synthetic.base / "0000000000300000.toml").write_text("")
    with pytest.raises(StoreError, match="is there again"):
        undo(synthetic.store)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda s: (s.base / "00000000004FFFFF").mkdir(), "without its description"),
        (lambda s: (s.base / "0000000000300000.toml").write_text("x = 1"), "malformed"),
        (lambda s: (s.wal / "000000010000000000FFFFFF").write_text(""), "no segment of 1 MB"),
        (lambda s: (s.wal / "removed.toml").write_text("removed = 7"), "malformed"),
        (lambda s: _file(s.path / "holds", "a.toml").write_text("until = 7"), "malformed"),
        (lambda s: write_branch(s.path, "b", 0).write_text("lsn = 7"), "malformed"),
        (lambda s: write_branch(s.path, "b", 0).unlink(), "a branch without branch.toml"),
        (lambda s: _file(s.path / LEASES, f"7{RESTORING}").write_text("0/0 end 7"), "understood"),
    ],
)
def test_what_is_not_understood_stops_it(
    synthetic: SyntheticStore, make: object, message: str
) -> None:
    make(synthetic)  # type: ignore[operator]
    with pytest.raises(StoreError, match=message):
        survey(synthetic.store, synthetic.latest)


def _file(directory: Path, name: str) -> Path:
    directory.mkdir(exist_ok=True)
    return directory / name


def test_strange_names_are_left_alone(synthetic: SyntheticStore) -> None:
    names = ("wal/notes.txt", "wal/00000002.history", "base/keep-me", "dumps/mine.gone")
    (synthetic.wal / "00000002.history").write_text("1\t0/FFFFFFFF\n")
    for name in names[:1] + names[2:]:
        (synthetic.path / name).write_text("")
    (synthetic.wal / "00000002.history").unlink()
    apply_plan(synthetic.store, synthetic.plan(Policy(10 * SEGMENT)), NOW)
    condemn(synthetic.path, NOW)
    sweep(synthetic.path)
    assert all((synthetic.path / name).exists() for name in names if "history" not in name)


def test_compressed_backup_history_and_dead_files_go_by_their_lsn(
    synthetic: SyntheticStore,
) -> None:
    dead = synthetic.wal / "dead"
    dead.mkdir()
    segment = synthetic.wal / synthetic.name(4)
    segment.rename(segment.with_name(segment.name + ".gz"))
    for name in (f"{synthetic.name(3)}.00000028.backup", f"dead/{synthetic.name(4)}.partial.1"):
        (synthetic.wal / name).write_bytes(b"")
    (dead / synthetic.name(8)).write_bytes(b"")
    plan = synthetic.plan(Policy(7 * SEGMENT))
    assert sorted(item.path for item in plan.going if item.kind == "wal") == [
        "wal/000000010000000000000003",
        "wal/000000010000000000000003.00000028.backup",
        "wal/000000010000000000000004.gz",
        "wal/000000010000000000000005",
        "wal/dead/000000010000000000000004.partial.1",
    ]


def test_a_killed_gc_leaves_no_description_behind(synthetic: SyntheticStore) -> None:
    directory = synthetic.base / "0000000000300000"
    directory.rename(directory.with_name(f"{directory.name}.20261130T021500Z.gone"))
    apply_plan(synthetic.store, synthetic.plan(Policy(0)), NOW)
    assert not directory.with_suffix(".toml").exists()
    undo(synthetic.store, "20261130T021500Z")
    assert len(synthetic.bases()) == 3


def test_leases_keep_what_they_say(synthetic: SyntheticStore) -> None:
    assert len(synthetic.plan(Policy(10 * SEGMENT)).going) == 8
    with Lease(synthetic.path) as lease:
        plan = synthetic.plan(Policy(10 * SEGMENT))
        assert plan.going == ()
        assert any("process" in item.reason for item in plan.items)
        lease.narrow(6 * SEGMENT, 7 * SEGMENT - 1)
        plan = synthetic.plan(Policy(10 * SEGMENT))
        assert [item.begin // SEGMENT for item in plan.going] == [3, 3, 4, 5, 7, 8]
    assert len(synthetic.plan(Policy(10 * SEGMENT)).going) == 8


def test_a_recovery_keeps_what_is_ahead_of_it(synthetic: SyntheticStore) -> None:
    note_restore(synthetic.path, 5 * SEGMENT)
    plan = synthetic.plan(Policy(10 * SEGMENT))
    assert [item.begin // SEGMENT for item in plan.going] == [3, 3, 4]
    late = datetime.now(UTC) + timedelta(hours=2)
    survey(synthetic.store, synthetic.latest, now=late)
    assert len(synthetic.plan(Policy(10 * SEGMENT)).going) == 8


def test_branches_keep_their_moment(synthetic: SyntheticStore) -> None:
    path = write_branch(synthetic.path, "repair", 4 * SEGMENT)
    (path.parent.parent / "being-made.tmp").mkdir()
    plan = synthetic.plan(Policy(10 * SEGMENT))
    reasons = {item.path: item.reason for item in plan.items}
    assert reasons["base/0000000000300000"] == "branch repair"
    assert [item.begin // SEGMENT for item in plan.going] == [6, 5, 6, 7, 8]


def test_holds_expire(synthetic: SyntheticStore) -> None:
    write_hold(
        synthetic.path,
        Hold(
            "audit",
            4 * SEGMENT,
            5 * SEGMENT,
            NOW,
            'why "so"',
            "latest",
            NOW - timedelta(days=1),
        ),
    )
    store = Store.open(synthetic.path, lock=False)
    assert survey(store, synthetic.latest, now=NOW).places == []
    (place,) = survey(store, synthetic.latest, now=NOW - timedelta(seconds=1)).places
    assert place == Place("hold audit", 4 * SEGMENT, 5 * SEGMENT, 'why "so"')


def test_the_table_says_what_stays_and_why(synthetic: SyntheticStore) -> None:
    plan = synthetic.plan(Policy(7 * SEGMENT))
    text = list(lines(plan))
    assert re.fullmatch(
        r"goes  +base backup  +1  0/300000 to 0/3003E8  .* before the window", text[0]
    )
    assert text[-1] == "window: 0/700000 to 0/C00000; 4 go, 3 MB"
    assert [(row.kind, row.things) for row in rows(plan)] == [
        ("base", 1),
        ("base", 1),
        ("base", 1),
        ("wal", 3),
        ("wal", 7),
    ]
