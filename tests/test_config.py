"""Settings from a file: what is understood, and what is said of anything else."""

from __future__ import annotations

from pathlib import Path

import pytest

from walstream.config import RetentionConfig, parse_duration, parse_size, read_retention
from walstream.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("90min", 5400), ("36h", 129600), (" 7 d ", 604800), ("2w", 1209600)],
)
def test_lengths_of_time(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(("text", "size"), [("0B", 0), ("3 kB", 3072), ("100GB", 100 << 30)])
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "7", "d", "-7d", "7m", "7.5d", "1e3s", "\u0667d", "9" * 10 + "d"]
)
def test_what_is_no_length_of_time(text: str) -> None:
    with pytest.raises(ValueError, match="expected a length of time such as 7d"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["", "100", "100gb", "1.5GB", "-1GB"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="expected a size such as 100GB"):
        parse_size(text)


def test_every_setting_of_retention(tmp_path: Path) -> None:
    path = tmp_path / "walstream.toml"
    path.write_text(
        '[retention]\nkeep_window = "7d"\nkeep_daily = 7\nkeep_weekly = 4\nkeep_monthly = 12\n'
        'grace = "48h"\nevery = "30min"\n'
    )
    assert read_retention(path) == RetentionConfig(
        604800, None, None, daily=7, weekly=4, monthly=12, grace_s=172800, every_s=1800
    )
    path.write_text('[retention]\nkeep_from = "0/16B3748"\n')
    assert read_retention(path) == RetentionConfig(keep_from_lsn=0x16B3748)
    path.write_text('conninfo = "x"\n')
    assert read_retention(path) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("retention = 7", "expected a table"),
        ("[retention]", "expected one of keep_window, keep_from, keep_size, got none"),
        ('[retention]\nkeep_window = "1d"\nkeep_size = "1GB"', "got keep_window and keep_size"),
        ('[retention]\nkeep = "1d"', "there is no setting keep: there are keep_window, "),
        ("[retention]\nkeep_window = 7", "keep_window: expected a string, got 7"),
        ('[retention]\nkeep_window = "7"', "keep_window: expected a length of time"),
        ('[retention]\nkeep_from = "7"', "keep_from: "),
        ('[retention]\nkeep_size = "1GB"\nkeep_daily = -1', "keep_daily: expected a number"),
        ('[retention]\nkeep_size = "1GB"\nkeep_daily = true', "keep_daily: expected a number"),
        ('[retention]\nkeep_size = "1GB"\nevery = "0s"', "every: expected at least 1s"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "walstream.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_retention(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
