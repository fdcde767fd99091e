"""Which base backups of a store count: what is complete, and of the history that goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from walstream.errors import StoreError
from walstream.store.base_backup import BaseBackup, list_base_backups, remove_unfinished
from walstream.store.base_directory import first_needed, is_of_history, lock_bases, of_history
from walstream.wal.timeline import INFINITY, TimelineHistory, TimelinePart

# Timeline 2 left 1 at 500, and 3 left 2 at 900.
HISTORY = TimelineHistory(
    (TimelinePart(1, 0, 500), TimelinePart(2, 500, 900), TimelinePart(3, 900, INFINITY))
)


def base(start: int, stop: int, timeline: int, stop_timeline: int | None) -> BaseBackup:
    return BaseBackup(Path(f"{start:016X}"), start, stop, start, timeline, {}, None, stop_timeline)


@pytest.mark.parametrize(
    ("start", "stop", "timeline", "stop_timeline", "alive"),
    [
        (100, 200, 1, 1, True),
        (100, 500, 1, 1, True),  # all of it was before the switch
        (100, 501, 1, 1, False),
        (400, 600, 1, 2, True),  # the standby was promoted while it was backed up
        (600, 700, 2, 2, True),
        (600, 700, 1, 1, False),
        (800, 901, 2, 2, False),
        (1000, 2000, 3, 3, True),
        (1000, 2000, 4, 4, False),
        (100, 600, 1, None, True),  # as earlier releases wrote it
        (500, 600, 1, None, False),
    ],
)
def test_only_what_goes_on_counts(
    start: int, stop: int, timeline: int, stop_timeline: int | None, alive: bool
) -> None:
    assert is_of_history(base(start, stop, timeline, stop_timeline), HISTORY) is alive


def test_a_store_whose_only_base_is_dead_is_refused() -> None:
    alive, dead = base(100, 200, 1, 1), base(600, 700, 1, 1)
    assert of_history([alive, dead], HISTORY) == [alive]
    assert of_history([], HISTORY) == []
    with pytest.raises(StoreError, match="dead branch: the server is on timeline 3"):
        of_history([dead], HISTORY)


def test_a_base_needs_wal_from_its_checkpoint() -> None:
    taken = base(0x150, 0x200, 1, 1)
    advanced = base(0x300, 0x300, 1, 1)._replace(wal_from=0x120)
    assert taken.first_needed_lsn == 0x150
    assert advanced.first_needed_lsn == 0x120
    assert first_needed([taken, advanced]) is advanced


def test_a_description_says_all_of_it_and_counts_with_its_directory(tmp_path: Path) -> None:
    advanced = BaseBackup(
        tmp_path / "0000000000000300", 0x300, 0x300, 0x130, 1, {5: 'a "b"\\ü'}, 0x120, 2
    )
    taken = BaseBackup(tmp_path / "0000000000000100", 0x100, 0x200, 0x110, 1)
    for one in (advanced, taken):
        one.path.with_suffix(".toml").write_text(one.to_toml())
    advanced.path.mkdir()
    assert list_base_backups(tmp_path) == [advanced]
    taken.path.mkdir()
    assert list_base_backups(tmp_path) == [taken, advanced]
    taken.path.rmdir()
    lock = lock_bases(tmp_path)
    with pytest.raises(StoreError, match="a base backup is being made"):
        lock_bases(tmp_path)
    remove_unfinished(tmp_path)
    lock.release()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "0000000000000300", "0000000000000300.toml", "lock",
    ]  # fmt: skip
