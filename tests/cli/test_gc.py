"""``walstream gc`` and ``hold`` on a store without a server: what is printed and refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.running import walstream
from tests.support.synthetic_store import SEGMENT, SyntheticStore, write_branch
from walstream.cli.exit_codes import PAGE, SEGMENT_MISSING, STORE, USAGE
from walstream.store.leases import Lease


@pytest.fixture
def synthetic(tmp_path: Path) -> SyntheticStore:
    """A store with bases in segments 3, 6 and 9, and WAL to 12; a commit in each segment."""
    store = SyntheticStore(tmp_path / "store")
    for _ in range(3):
        store.take_base()
        store.receive(3 * SEGMENT - 1000)
    store.make_index([n * SEGMENT + 2000 for n in range(3, 12)])
    return store


def said(code: int, *arguments: object) -> str:
    """Runs a command that is refused with a code; returns its one line."""
    answer = walstream(*arguments)
    assert answer.returncode == code, answer.stderr
    (line,) = answer.stderr.splitlines()
    return line


def test_a_dry_run_changes_nothing_and_says_why(synthetic: SyntheticStore) -> None:
    names = synthetic.names()
    answer = walstream("gc", synthetic.path, "--keep-from", "0/700000")
    assert answer.returncode == 0, answer.stderr
    lines = answer.stdout.splitlines()
    assert lines[0].startswith("goes   base backup  1")
    assert lines[-2:] == [
        "window: 0/700000 to 0/C00000; 4 go, 3 MB",
        "nothing was done: --apply does it",
    ]
    assert [n for n in synthetic.names() if n.split("/")[0] not in ("index", "gc.lock")] == [
        n for n in names if n.split("/")[0] != "index"
    ]


def test_a_window_of_time_counts_back_from_the_newest_commit(synthetic: SyntheticStore) -> None:
    # A segment takes two hours; the newest commit is in 11, that of two hours before in 10.
    answer = walstream("gc", synthetic.path, "--keep-window", "2h", "--json")
    found = json.loads(answer.stdout)
    assert found["window"]["from"] == "0/A007D0"
    assert found["window"]["all_that_was_asked_for"] is True
    answer = walstream("gc", synthetic.path, "--keep-window", "52w")
    assert "is not all there: moments can be had from 0/3003E8 on" in answer.stdout


def test_settings_from_a_file_less_what_is_asked(synthetic: SyntheticStore, tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text('[retention]\nkeep_from = "0/400000"\nkeep_daily = 1\n')

    def window(*options: str) -> str:
        answer = walstream("gc", synthetic.path, "--config", settings, "--json", *options)
        assert answer.returncode == 0, answer.stderr
        return str(json.loads(answer.stdout)["window"]["from"])

    assert window() == "0/400000"
    assert window("--keep-from", "0/800000") == "0/800000"


def test_apply_undo_and_a_second_undo(synthetic: SyntheticStore) -> None:
    before = synthetic.bases()
    answer = walstream("gc", synthetic.path, "--keep-from", "0/A00000", "--apply")
    assert f"walstream gc undo {synthetic.path} brings it back" in answer.stdout
    assert len(synthetic.bases()) == 1
    assert "the earliest moment is 0/9003E8" in said(
        PAGE, *("hold", synthetic.path, "0/400000", "--until", "1d", "--reason", "r")
    )
    answer = walstream("gc", "undo", synthetic.path, "--json")
    assert json.loads(answer.stdout)["count"] == 10
    assert synthetic.bases() == before
    assert "nothing to take back" in said(STORE, "gc", "undo", synthetic.path)
    assert "there is no gc x to take back" in said(STORE, "gc", "undo", synthetic.path, "x")


def test_what_is_held_read_or_branched_stays(synthetic: SyntheticStore) -> None:
    command = ("gc", synthetic.path, "--keep-from", "0/A00000", "--json")
    write_branch(synthetic.path, "repair", 4 * SEGMENT)
    held = walstream(
        *("hold", synthetic.path, "0/700000..0/780000", "--until", "90d", "--reason", "audit"),
        *("--name", "november", "--json"),
    )
    assert held.returncode == 0, held.stderr
    table = json.loads(held.stdout)
    assert (table["from_lsn"], table["to_lsn"]) == ("0/700000", "0/780000")
    rows = json.loads(walstream(*command).stdout)["rows"]
    assert {row["reason"] for row in rows if row["kind"] == "base"} == {
        "branch repair",
        "hold november: audit",
        "the window begins with it",
    }
    assert [(r["from"], r["to"]) for r in rows if not r["stays"]] == [
        ("0/500000", "0/600000"),
        ("0/800000", "0/900000"),
    ]
    listed = walstream("hold", "list", synthetic.path)
    assert listed.stdout.startswith("november: 0/700000 to 0/780000, until ")
    assert walstream("hold", "release", synthetic.path, "november").returncode == 0
    assert "there is no hold" in said(STORE, "hold", "release", synthetic.path, "november")
    with Lease(synthetic.path):
        assert json.loads(walstream(*command).stdout)["goes_count"] == 0


def test_holds_that_cannot_be(synthetic: SyntheticStore) -> None:
    command = ("hold", synthetic.path)
    options = ("--reason", "r", "--until")
    assert "is past" in said(USAGE, *command, "latest", *options, "2020-01-01 00:00Z")
    assert "goes from the older to the newer" in said(
        USAGE, *command, "0/800000..0/700000", *options, "1d"
    )
    assert "0/3003E8" in said(PAGE, *command, "0/300000", *options, "1d")


def test_a_hole_in_the_window_says_what_can_be_had(synthetic: SyntheticStore) -> None:
    (synthetic.wal / synthetic.name(7)).unlink()
    line = said(SEGMENT_MISSING, "gc", synthetic.path, "--keep-from", "0/650000", "--apply")
    assert "moments before 0/700000 can be had, and from 0/9003E8 on" in line
    assert not list(synthetic.path.rglob("*.gone"))


def test_a_store_may_be_called_as_a_command_is(synthetic: SyntheticStore) -> None:
    synthetic.path.rename(synthetic.path.with_name("undo"))
    answer = walstream("gc", synthetic.path.with_name("undo"), "--keep-size", "0B")
    assert answer.returncode == 0, answer.stderr
