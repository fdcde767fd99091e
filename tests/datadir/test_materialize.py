"""A materialized directory against PostgreSQL's own recovery, file by file, and servers on it."""

from __future__ import annotations

import os
import random
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.datadir.compare import counters, differences
from tests.datadir.story import CONFIG, Story, recovered, told
from tests.support.binaries import wheel_client
from tests.support.pages import changed_pages
from tests.support.servers import PostgresServer
from walstream.datadir.materialize import materialize
from walstream.datadir.plan import Target
from walstream.errors import BackupDamaged, LsnNotAvailable, RedoError, SegmentMissing, StoreError
from walstream.pages.service import Block
from walstream.wal.model import RelFileLocator, format_lsn


@pytest.fixture(scope="module")
def story(pg_version: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    with told(pg_version, tmp_path_factory.mktemp("story"), whole=False) as story:
        yield story


def dump(server: PostgresServer) -> str:
    """Everything that SQL can see of a cluster, without the tokens that differ in each dump."""
    command = [str(wheel_client("pg_dumpall")), "-d", server.dsn]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return re.sub(r"^\\(?:un)?restrict .*$", "", text, flags=re.MULTILINE)


async def materialized(story: Story, lsn: int, directory: Path) -> Path:
    made = await materialize(
        story.past.pages, story.past.source(lsn), lsn, Target(directory / "data", {})
    )
    assert made.directory == directory / "data"
    return made.directory


async def compare(story: Story, moment: tuple[int, int], directory: Path, *, run: bool) -> None:
    start_lsn, end_lsn = moment
    where = f"PostgreSQL {story.server.version} at {format_lsn(end_lsn)}"
    ours = await materialized(story, end_lsn, directory)
    with recovered(story, start_lsn) as theirs:
        assert differences(ours, theirs.data_directory) == [], where
        assert counters(ours) == counters(theirs.data_directory), where
        if not run:
            return
        theirs.start()
        with PostgresServer(
            story.server.version,
            config=CONFIG,
            backup=ours,
            segment_size=story.server.segment_size,
        ) as server:
            assert dump(server) == dump(theirs), where
            prepared = "SELECT gid, transaction, owner, database FROM pg_prepared_xacts ORDER BY 1"
            assert server.execute(prepared) == theirs.execute(prepared), where
            # It takes writes, ends what was prepared, and lives through a crash of its own.
            for (gid,) in server.execute(
                "SELECT gid FROM pg_prepared_xacts WHERE database = 'postgres'"
            ):
                server.execute(f"COMMIT PREPARED '{gid}'")
            server.execute("CREATE TABLE after_it AS SELECT generate_series(1, 1000) i")
            server.execute("SELECT count(*) FROM fleeting")
            server.crash()
            server.start()
            assert server.execute("SELECT count(*) FROM after_it") == [(1000,)]
            server.execute("CREATE DATABASE one_more")
            archive = "SELECT name FROM pg_settings WHERE name = 'archive_mode' AND setting = 'off'"
            assert server.execute(archive) == [("archive_mode",)]


@pytest.mark.pg_versions(15, 18)
@pytest.mark.timeout(600)
async def test_every_file_equals_that_of_a_recovery(story: Story, tmp_path: Path) -> None:
    # One moment in the middle of what lies beside the pages, one at the end; a failure names it.
    early = story.records[: len(story.records) // 8]
    (tmp_path / "early").mkdir()
    await compare(story, random.choice(early), tmp_path / "early", run=False)
    await compare(story, story.records[-1], tmp_path, run=True)


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_twenty_moments_of_the_whole_workload(pg_version: int, tmp_path: Path) -> None:
    with told(pg_version, tmp_path, whole=True) as story:
        part = len(story.records) // 20
        for number in range(20):
            place = tmp_path / str(number)
            place.mkdir()
            moment = story.records[part * number + random.randrange(part)]
            await compare(story, moment, place, run=number % 5 == 0)


@pytest.mark.pg_versions(18)
async def test_what_cannot_be_had_is_refused_before_anything_is_written(
    story: Story, tmp_path: Path
) -> None:
    first = story.past.backups[0]
    with pytest.raises(LsnNotAvailable, match=f"earliest moment is {format_lsn(first.stop_lsn)}"):
        story.past.source(first.stop_lsn - 1)
    end_lsn = story.records[-1][1]
    size = story.server.segment_size
    with pytest.raises(SegmentMissing, match="latest moment that can be had is before"):
        await materialized(story, end_lsn + 4 * size, tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/something").touch()
    with pytest.raises(StoreError, match="exists and is not empty"):
        await materialized(story, end_lsn, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.pg_versions(18)
async def test_an_interrupted_run_is_gone_on_with(
    story: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end_lsn = story.records[len(story.records) // 4][1]
    asked = 0

    def fail(_locator: RelFileLocator, _fork: int, block: Block) -> Block:
        nonlocal asked
        asked += 1
        if asked == 60:
            return Block(block.number, None, RedoError("the child is gone"))
        return block

    pages = story.past.pages
    monkeypatch.setattr("walstream.datadir.work.SYNC_FILES", 8)
    monkeypatch.setattr(pages, "get_pages", changed_pages(pages, fail))
    with pytest.raises(RedoError, match="the child is gone"):
        await materialized(story, end_lsn, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["data.partial"]
    other = story.records[-1][1]
    with pytest.raises(StoreError, match="unfinished directory of another moment"):
        await materialized(story, other, tmp_path)
    monkeypatch.undo()
    (tmp_path / "whole").mkdir()
    whole = await materialized(story, end_lsn, tmp_path / "whole")
    resumed = await materialized(story, end_lsn, tmp_path)
    assert differences(resumed, whole) == []
    assert not (tmp_path / "data.partial").exists()


@pytest.mark.pg_versions(18)
@pytest.mark.parametrize("how", ["flipped", "cut", "missing"])
@pytest.mark.parametrize("name", ["pg_xact/0000", "global/pg_filenode.map", "base/1/1255"])
async def test_a_damaged_file_of_the_base_backup_is_not_copied(
    story: Story, tmp_path: Path, name: str, how: str
) -> None:
    path = story.past.backups[0].path / name
    content, changed = path.read_bytes(), path.stat().st_mtime_ns
    try:
        if how == "missing":
            path.unlink()
        else:
            half = len(content) // 2
            flipped = content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]
            path.write_bytes(flipped if how == "flipped" else content[:-512])
        with pytest.raises(BackupDamaged, match=name):
            await materialized(story, story.records[-1][1], tmp_path)
    finally:
        path.write_bytes(content)
        os.utime(path, ns=(changed, changed))
    assert not (tmp_path / "data").exists()
