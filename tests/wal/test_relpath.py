"""Relation file names, both ways."""

from __future__ import annotations

import pytest

from walstream.wal.model import RelFileLocator
from walstream.wal.relpath import RelationFile, parse_relation, parse_relation_file, relation_file


@pytest.mark.parametrize(
    ("path", "locator", "fork", "segment"),
    [
        ("base/5/16384", RelFileLocator(1663, 5, 16384), 0, 0),
        ("base/5/16384_vm.2", RelFileLocator(1663, 5, 16384), 2, 2),
        ("global/1262", RelFileLocator(1664, 0, 1262), 0, 0),
        ("pg_tblspc/77/PG_15_1/5/9_init", RelFileLocator(77, 5, 9), 3, 0),
    ],
)
def test_paths(path: str, locator: RelFileLocator, fork: int, segment: int) -> None:
    assert parse_relation_file(path) == RelationFile(locator, fork, segment)
    assert relation_file(locator, fork, segment, "PG_15_1") == path
    assert parse_relation(path) == (locator, fork)


def test_other_files_are_not_relations() -> None:
    for path in (
        "base/5/pg_filenode.map",
        "base/5/t3_16384",
        "base/PG_VERSION",
        "global/pg_control",
    ):
        assert parse_relation_file(path) is None


def test_a_locator() -> None:
    assert parse_relation("1663/5/16384") == (RelFileLocator(1663, 5, 16384), 0)
    with pytest.raises(
        ValueError, match=r"expected tablespace/database/relfilenode.*got '5/16384'"
    ):
        parse_relation("5/16384")
