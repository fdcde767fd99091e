"""A base backup made from pages, against PostgreSQL: its tools, its recovery, and our own pages."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.datadir.compare import counters, differences
from tests.datadir.story import Story, recovered, told
from tests.datadir.test_materialize import dump
from tests.support.binaries import wheel_client
from tests.support.servers import PostgresServer
from walstream.datadir.advance import advance, find_unfinished, plan_advance
from walstream.datadir.materialize import materialize
from walstream.datadir.past import Past
from walstream.datadir.plan import Target
from walstream.errors import BackupDamaged, LsnNotAvailable
from walstream.pages.service import Base, PageService
from walstream.state.cluster import RM_TBLSPC
from walstream.store.base_backup import BaseBackup, list_base_backups
from walstream.store.base_backup_pages import BasePages
from walstream.wal.model import format_lsn
from walstream.wal.opcodes import XLOG_TBLSPC_CREATE


@pytest.fixture(scope="module")
def story(pg_version: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    with told(pg_version, tmp_path_factory.mktemp("story"), whole=False) as story:
        yield story


async def advanced(story: Story, past: Past, at_lsn: int, place: Path) -> BaseBackup:
    place.mkdir(exist_ok=True)
    plan = plan_advance(past.source(at_lsn), at_lsn, place)
    return await advance(past.pages, plan)


def with_bases(past: Past, backups: list[BaseBackup]) -> Past:
    """The same past, its pages from other bases."""
    pages = past.pages
    service = PageService(
        pages.index,
        pages.archive,
        [Base(b.start_lsn, b.stop_lsn, BasePages(b.path, needs_manifest=True)) for b in backups],
        pages.facts,
        pages._redo,
    )
    return Past(service, backups)


def verify_backup(server: PostgresServer, base: Path) -> None:
    """pg_verifybackup of 18, and of the server's own version where there is one.

    That one parses the WAL too that makes the base consistent.
    """
    without_wal = [str(wheel_client("pg_verifybackup")), "-n"]
    own = [str(server.client("pg_verifybackup")), "-w", str(server.wal_directory)]
    for command in (without_wal, own) if server.client("pg_verifybackup") else (without_wal,):
        done = subprocess.run([*command, str(base)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr + done.stdout


async def one_moment(story: Story, end_lsn: int, place: Path) -> BaseBackup:
    """A base at a moment is what recovery to it gives, and recovery goes on from it."""
    base = await advanced(story, story.past, end_lsn, place / "base")
    where = f"PostgreSQL {story.server.version} at {format_lsn(base.start_lsn)}"
    assert list_base_backups(place / "base") == [base]
    assert base.start_lsn <= end_lsn and base.first_needed_lsn < base.start_lsn
    verify_backup(story.server, base.path)
    last_start = max(start for start, end in story.records if end <= base.start_lsn)
    with recovered(story, last_start) as theirs:
        found = differences(base.path, theirs.data_directory)
        # What was prepared since the checkpoint is in WAL, not yet in a file.
        found = [line for line in found if not line.startswith("only theirs: pg_twophase/")]
        assert found == [], where
    return base


async def goes_on(story: Story, base: BaseBackup, place: Path) -> None:
    """From a base, walstream and PostgreSQL come to the same later moment as from the old one."""
    last_start, last_end = story.records[-1]
    past = with_bases(story.past, [base])
    assert past.source(last_end).backup == base
    (place / "new").mkdir()
    new = await materialize(
        past.pages, past.source(last_end), last_end, Target(place / "new/data", {})
    )
    old = await materialize(
        story.past.pages,
        story.past.source(last_end),
        last_end,
        Target(place / "old", {}),
    )
    assert differences(new.directory, old.directory) == []
    assert counters(new.directory) == counters(old.directory)
    with recovered(story, last_start) as theirs:
        again = story._replace(backup=base.path)
        with recovered(again, last_start) as ours:
            assert counters(ours.data_directory) == counters(theirs.data_directory)
            assert differences(ours.data_directory, theirs.data_directory) == []
            ours.start()
            theirs.start()
            assert dump(ours) == dump(theirs)
            prepared = "SELECT gid, transaction, owner, database FROM pg_prepared_xacts ORDER BY 1"
            assert ours.execute(prepared) == theirs.execute(prepared)


@pytest.mark.pg_versions(14, 15, 18)
@pytest.mark.timeout(600)
async def test_a_base_is_what_recovery_gives_and_goes_on(story: Story, tmp_path: Path) -> None:
    count = len(story.records)
    for number, at in enumerate((random.randrange(count // 8), random.randrange(count), count - 1)):
        place = tmp_path / str(number)
        place.mkdir()
        base = await one_moment(story, story.records[at][1], place)
        await goes_on(story, base, place)


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_moments_of_the_whole_workload(pg_version: int, tmp_path: Path) -> None:
    with told(pg_version, tmp_path, whole=True) as story:
        part = len(story.records) // 5
        for number in range(5):
            place = tmp_path / str(number)
            place.mkdir()
            moment = story.records[part * number + random.randrange(part)]
            await goes_on(story, await one_moment(story, moment[1], place), place)


@pytest.mark.pg_versions(15, 18)
def test_what_cannot_be_repeated_moves_the_moment(story: Story, tmp_path: Path) -> None:
    """A server that begins at the checkpoint would replay it over what came of it."""
    first, index = story.past.backups[0], story.past.pages.index
    end_lsn = story.records[-1][1]
    made = [
        event
        for event in index.events(first.stop_lsn, end_lsn)
        if (event.rmgr_id, event.info & 0xF0) == (RM_TBLSPC, XLOG_TBLSPC_CREATE)
    ]
    assert len(made) == 2
    source = story.past.source(made[0].end_lsn)
    plan = plan_advance(source, made[0].end_lsn, tmp_path)
    assert plan.result.start_lsn == made[0].start_lsn
    assert f"CREATE TABLESPACE at {format_lsn(made[0].start_lsn)}" in plan.restart.passed_over
    # Not before the base before it, whose own recovery is not over there.
    late = replace(source, backup=first._replace(stop_lsn=made[0].end_lsn))
    with pytest.raises(LsnNotAvailable, match="next checkpoint"):
        plan_advance(late, made[0].end_lsn, tmp_path)
    # A checkpoint came since.
    plan = plan_advance(story.past.source(end_lsn), end_lsn, tmp_path)
    assert plan.result.start_lsn == end_lsn and not plan.restart.passed_over


@pytest.mark.pg_versions(18)
async def test_damage_of_the_base_before_is_not_handed_on(story: Story, tmp_path: Path) -> None:
    end_lsn = story.records[-1][1]
    path = story.past.backups[0].path / "base/1/1255"
    content, changed = path.read_bytes(), path.stat().st_mtime_ns
    try:
        path.write_bytes(content[:9000] + bytes([content[9000] ^ 1]) + content[9001:])
        with pytest.raises(BackupDamaged, match="base/1/1255"):
            await advanced(story, story.past, end_lsn, tmp_path / "base")
    finally:
        path.write_bytes(content)
        os.utime(path, ns=(changed, changed))
    assert list_base_backups(tmp_path / "base") == []
    # What was made is gone on with.
    (left,) = find_unfinished(tmp_path / "base")
    assert left.lsn == end_lsn
    base = await advanced(story, story.past, end_lsn, tmp_path / "base")
    assert find_unfinished(tmp_path / "base") == []
    verify_backup(story.server, base.path)
