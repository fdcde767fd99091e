"""What may be called WAL: the same from every place, and what is said where there is none."""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.archives import mixed_wal, write_segments
from tests.support.walgen import SEGMENT
from walstream.errors import NoWalFound, ReadError
from walstream.scanning.opening import open_range, open_wal, wal_directory
from walstream.scanning.wal_range import ALL_WAL, WalRange
from walstream.segments.names import segment_file_name

FIRST, SECOND = (segment_file_name(1, number, SEGMENT) for number in (1, 2))


def directory(place: Path) -> Path:
    place.mkdir(parents=True)
    write_segments(place, mixed_wal(2).close())
    return place


def data_directory(place: Path) -> Path:
    directory(place / "pg_wal")
    return place


def store(place: Path) -> Path:
    directory(place / "wal")
    (place / "walstream.toml").touch()
    return place


def archive(place: Path) -> Path:
    path = place.with_suffix(".tar")
    with tarfile.open(path, "w") as tar:
        tar.add(directory(place / "pg_wal"), "pg_wal")
    return path


@pytest.mark.parametrize("make", [directory, data_directory, store, archive])
def test_the_segments_of_a_place(make: Callable[[Path], Path], tmp_path: Path) -> None:
    path = make(tmp_path / "there")
    with closing(open_wal(path)) as source:
        assert source.numbers() == [1, 2]
    source, wanted = open_range(path, ALL_WAL)
    source.close()
    assert wanted == ALL_WAL


@pytest.mark.parametrize("suffix", ["", ".gz", ".partial"])
def test_one_segment_is_its_part_of_the_range(tmp_path: Path, suffix: str) -> None:
    path = directory(tmp_path / "there") / SECOND
    data = path.read_bytes()
    path.unlink()
    path = path.with_name(SECOND + suffix)
    path.write_bytes(gzip.compress(data, 1) if suffix == ".gz" else data)
    source, wanted = open_range(path, ALL_WAL)
    assert wanted == (2 * SEGMENT, 3 * SEGMENT)
    # Its neighbours are there too: the record under way at its start is found by way of them.
    assert source.numbers() == [1, 2]
    assert open_range(path, WalRange(5, 2 * SEGMENT + 9))[1] == (2 * SEGMENT, 2 * SEGMENT + 9)


def test_where_a_named_file_lies(tmp_path: Path) -> None:
    data_directory(tmp_path / "data")
    assert wal_directory(tmp_path / "data", FIRST) == tmp_path / "data" / "pg_wal"
    assert wal_directory(tmp_path / "data", FIRST + ".gz") is None
    assert wal_directory(tmp_path) is None
    # What lies right there comes first.
    write_segments(tmp_path / "data", mixed_wal(1).close())
    assert wal_directory(tmp_path / "data") == tmp_path / "data"


def test_nothing_there(tmp_path: Path) -> None:
    (tmp_path / "pg_wal").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(NoWalFound, match="could not find any WAL file"):
        open_wal(tmp_path)
    with pytest.raises(NoWalFound, match="is no directory of WAL"):
        open_wal(tmp_path / "file")
    with pytest.raises(ReadError, match="could not open directory"):
        open_wal(tmp_path / "none")
