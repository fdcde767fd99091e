"""Redo of every record of a real server's WAL, compared with the server's own image of the page."""

import pytest

from tests.redo.coverage import Coverage, check_version, table
from tests.support.servers import Setting

# What the workload must reach, so that "no disagreement" keeps its meaning. Block ids that the
# server leaves out at will, and operations that restore an image always, are not in here.
REQUIRED = {
    "Heap": "INSERT DELETE UPDATE HOT_UPDATE HEAP_CONFIRM LOCK INPLACE INSERT+INIT UPDATE+INIT",
    "Heap2": "MULTI_INSERT MULTI_INSERT+INIT LOCK_UPDATED VISIBLE",
    "Btree": "INSERT_LEAF INSERT_UPPER INSERT_META INSERT_POST SPLIT_L SPLIT_R DEDUP DELETE VACUUM"
    " UNLINK_PAGE UNLINK_PAGE_META NEWROOT MARK_PAGE_HALFDEAD META_CLEANUP",
    "Hash": "INIT_META_PAGE INIT_BITMAP_PAGE INSERT ADD_OVFL_PAGE SPLIT_ALLOCATE_PAGE DELETE"
    " SPLIT_COMPLETE SPLIT_CLEANUP MOVE_PAGE_CONTENTS SQUEEZE_PAGE UPDATE_META_PAGE"
    " VACUUM_ONE_PAGE",
    "Gin": "CREATE_PTREE INSERT DELETE_PAGE UPDATE_META_PAGE INSERT_LISTPAGE DELETE_LISTPAGE"
    " VACUUM_DATA_LEAF_PAGE",
    "Gist": "PAGE_UPDATE DELETE PAGE_SPLIT PAGE_DELETE",
    "Sequence": "LOG",
    "SPGist": "ADD_LEAF MOVE_LEAFS ADD_NODE SPLIT_TUPLE PICKSPLIT VACUUM_LEAF VACUUM_ROOT"
    " VACUUM_REDIRECT",
    "BRIN": "CREATE_INDEX INSERT UPDATE SAMEPAGE_UPDATE REVMAP_EXTEND DESUMMARIZE INSERT+INIT"
    " UPDATE+INIT",
    "Generic": "Generic",
}
PRUNE_BEFORE_17 = "PRUNE VACUUM FREEZE_PAGE"
PRUNE_FROM_17 = "PRUNE_ON_ACCESS PRUNE_VACUUM_SCAN PRUNE_VACUUM_CLEANUP"


def test_redo_agrees_with_the_server(pg_version: int) -> None:
    # Without full page writes nearly no record restores an image, so nearly all are checked.
    coverage = check_version(pg_version, {"full_page_writes": False})
    report(pg_version, coverage)
    assert missing(pg_version, coverage) == []


@pytest.mark.parametrize(
    ("pg_version", "settings", "checksums"),
    [
        pytest.param(
            15, {"wal_log_hints": True, "wal_compression": "zstd"}, False, id="pg15-hints"
        ),
        pytest.param(17, {"wal_compression": "pglz"}, True, id="pg17-checksums"),
        pytest.param(18, {}, False, id="pg18-no-checksums"),
    ],
)
def test_redo_agrees_with_the_server_where_images_are_restored_too(
    pg_version: int, settings: dict[str, Setting], checksums: bool
) -> None:
    report(pg_version, check_version(pg_version, settings, checksums=checksums))


def report(version: int, coverage: Coverage) -> None:
    """Print what was covered; fail with the disagreements, if there is one."""
    print(table({version: coverage}))
    for quirk, count in coverage.quirks.items():
        print(f"{count} x {quirk.operation} ({quirk.kind}): {quirk.why}")
    assert [str(finding) for finding in coverage.findings[:30]] == []


def missing(version: int, coverage: Coverage) -> list[str]:
    """Operations of the workload that no record was checked for."""
    required = {**REQUIRED}
    required["Heap2"] += f" {PRUNE_BEFORE_17 if version < 17 else PRUNE_FROM_17}"
    reached = {name.rpartition(" block ")[0] for name in coverage.checked}
    wanted = [f"{rmgr} {name}" for rmgr, names in required.items() for name in names.split()]
    return [name for name in wanted if name not in reached]
