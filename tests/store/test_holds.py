"""Holds on the disk: written, listed, released, refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from walstream.errors import ConfigError, StoreError
from walstream.store.holds import Hold, check_hold_name, list_holds, release_hold, write_hold

NOW = datetime(2026, 11, 30, 2, 15, tzinfo=UTC)


def hold(name: str, **changes: object) -> Hold:
    found = Hold(name, 1 << 33, 1 << 34, NOW, 'why "so" \\ é\n', "5 minutes ago..latest", NOW)
    return found._replace(**changes)  # type: ignore[arg-type]


def test_what_is_written_is_listed_until_it_is_released(tmp_path: Path) -> None:
    assert list_holds(tmp_path) == []
    for name in ("b", "a-1"):
        write_hold(tmp_path, hold(name))
    assert list_holds(tmp_path) == [hold("a-1"), hold("b")]
    with pytest.raises(StoreError, match="there is a hold 'b' already"):
        write_hold(tmp_path, hold("b", from_lsn=0))
    release_hold(tmp_path, "b")
    assert list_holds(tmp_path) == [hold("a-1")]
    with pytest.raises(StoreError, match="there is no hold 'b': there are a-1"):
        release_hold(tmp_path, "b")


def test_it_ends_at_its_time() -> None:
    assert hold("a").expired(NOW)
    assert not hold("a").expired(NOW - timedelta(microseconds=1))


@pytest.mark.parametrize("name", ["", "../a", "a/b", ".a", "a" * 65, "ä", "a\n"])
def test_a_name_that_is_none(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be called"):
        check_hold_name(name)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"2/0"', '"2/x"'),
        ("2026-11-30T02:15:00+00:00", "2026-11-30T02:15:00"),
        ("2026-11-30T02:15:00+00:00", '"tomorrow"'),
        ("reason", "because"),
        ("asked =", "asked"),
    ],
)
def test_what_is_malformed_is_told(tmp_path: Path, old: str, new: str) -> None:
    write_hold(tmp_path, hold("a"))
    path = tmp_path / "holds" / "a.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(StoreError, match=r"a.toml: missing or malformed"):
        list_holds(tmp_path)
