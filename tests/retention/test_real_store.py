"""gc of a store that a real server streamed into, beside walstream run and after kill -9."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trio

from tests.support.bases import take_base
from tests.support.running import Running, walstream
from tests.support.servers import PostgresServer
from walstream import open_pages
from walstream.errors import LsnNotAvailable
from walstream.store.base_backup import BaseBackup, list_base_backups
from walstream.wal.model import BufferTag, RelFileLocator, format_lsn

# Runs walstream's own command line, killed where the N-th rename or removal would begin.
KILLED = """
import os, signal, sys
from walstream.store.file_layer import FileLayer
left = int(sys.argv.pop(1))
def counted(name):
    real = getattr(FileLayer, name)
    def call(self, *arguments):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(self, *arguments)
    setattr(FileLayer, name, call)
for name in ("rename", "unlink", "fsync_directory", "fsync"):
    counted(name)
from walstream.__main__ import main
sys.argv[0] = "walstream"
main()
"""
Pages = dict[tuple[int, int], bytes | str]


class Story(NamedTuple):
    """A store with three bases, and moments after each of them."""

    server: PostgresServer
    store: Path
    running: Running
    bases: list[BaseBackup]
    moments: list[int]
    locator: RelFileLocator


def gc(store: Path, *options: object) -> dict[str, Any]:
    answer = walstream("gc", store, *options, "--json")
    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout)
    assert isinstance(found, dict)
    return found


def things(store: Path) -> set[str]:
    """Returns what is in the store but for the index and what is being received."""
    paths = {path.relative_to(store) for path in store.rglob("*")}
    return {
        str(p) for p in paths if "index" not in p.parts and p.suffix not in (".partial", ".tmp")
    }


def rebuilt(story: Story, moments: list[int]) -> Pages:
    """Returns every page of the table at each moment, or the name of what was raised."""
    found: Pages = {}

    async def main() -> None:
        async with open_pages(story.store, sandbox=False) as pages:
            for moment in moments:
                size = pages.index.size_at(story.locator, 0, moment) or 0
                for block in range(size):
                    tag = BufferTag(*story.locator, 0, block)
                    found[moment, block] = await pages.get_page(tag, moment)

    trio.run(main)
    assert found
    return found


@pytest.fixture
def story(pg_version: int, tmp_path: Path) -> Iterator[Story]:
    store = tmp_path / "store"
    options = {"wal_keep_size": "512MB", "full_page_writes": "off"}
    with PostgresServer(pg_version, segment_size=1 << 20, config=options) as server:
        running = Running(server.dsn, store, "--no-sandbox")
        running.wait_until(lambda now: bool(now.get("base_backups")))
        server.execute("CREATE TABLE t (id int, note text) WITH (fillfactor = 50)")
        server.execute("INSERT INTO t SELECT i, 'first ' || i FROM generate_series(1, 3000) i")
        moments = []
        for turn in range(3):
            if turn:
                take_base(store, server.dsn)
            for _ in range(3):
                server.execute(f"UPDATE t SET note = 'turn {turn}' WHERE id % 3 = {turn}")
                server.execute("CREATE TABLE junk AS SELECT * FROM generate_series(1, 20000)")
                server.execute("DROP TABLE junk")
                server.switch_wal()
            moments.append(server.flush_lsn())
        running.wait_until_indexed(moments[-1])
        path = str(server.execute("SELECT pg_relation_filepath('t')")[0][0])
        _, database, relation = path.split("/")
        try:
            yield Story(
                server,
                store,
                running,
                list_base_backups(store / "base"),
                moments,
                RelFileLocator(1663, int(database), int(relation)),
            )
        finally:
            if running.process.poll() is None:
                running.end(signal.SIGINT)


@pytest.mark.pg_versions(15, 18)
def test_what_stays_answers_as_before(story: Story) -> None:
    store, moments = story.store, story.moments
    before = rebuilt(story, moments)
    kept = {key: page for key, page in before.items() if key[0] != moments[0]}
    window = ["--keep-from", format_lsn(moments[1])]
    names = things(store)
    plan = gc(store, *window)
    assert plan["goes_bytes"] > 0
    assert not plan["applied"]
    # The server goes on: WAL may have come, nothing else.
    assert names - things(store) == set()
    assert not list(store.rglob("*.gone"))
    gone = [row["first"] for row in plan["rows"] if not row["stays"] and row["kind"] == "base"]
    assert gone == [f"base/{story.bases[0].path.name}"]

    done = gc(store, *window, "--apply")
    assert done["mark"]
    assert [each.start_lsn for each in list_base_backups(store / "base")] == [
        each.start_lsn for each in story.bases[1:]
    ]
    assert rebuilt(story, moments[1:]) == kept
    with pytest.raises(LsnNotAvailable, match="before the store begins: the earliest is"):
        rebuilt(story, moments[:1])
    asked = walstream("materialize", store, "--at", format_lsn(moments[0]), "-D", store / "no")
    assert (asked.returncode, asked.stderr.count("\n")) == (8, 1)
    assert format_lsn(story.bases[1].stop_lsn) in asked.stderr

    undone = walstream("gc", "undo", store)
    assert undone.returncode == 0, undone.stderr
    assert rebuilt(story, moments) == before
    assert walstream("gc", "undo", store).returncode == 5

    # Nobody streams into it now, so that the index can be trimmed too.
    assert story.running.end(signal.SIGINT) == 0
    gc(store, *window, "--apply")
    swept = gc(store, *window, "--apply", "--grace", "0s")
    assert swept["deleted_count"] > 0
    assert swept["index_keys_removed"] > 0
    assert not list(store.rglob("*.gone"))
    assert rebuilt(story, moments[1:]) == kept
    assert walstream("reindex", store).returncode == 0
    assert rebuilt(story, moments[1:]) == kept
    again = Running(story.server.dsn, store, "--no-sandbox")
    story.server.execute("UPDATE t SET note = 'and on'")
    again.wait_until_indexed(story.server.flush_lsn())
    assert again.status()["receiver"]["holes"] == []
    assert again.end(signal.SIGINT) == 0
    assert rebuilt(story, moments[1:]) == kept


@pytest.mark.pg_versions(18)
def test_a_kept_point_beyond_the_window(story: Story) -> None:
    store, moments = story.store, story.moments
    first = story.bases[0].stop_lsn
    held = walstream(
        *("hold", store, format_lsn(first), "--until", "90d", "--reason", "audit", "--name", "a")
    )
    assert held.returncode == 0, held.stderr
    wanted = [*moments[2:], first]
    before = rebuilt(story, wanted)
    gc(store, "--keep-from", format_lsn(moments[2]), "--apply", "--grace", "0s")
    gc(store, "--keep-from", format_lsn(moments[2]), "--apply", "--grace", "0s")
    assert rebuilt(story, wanted) == before
    wal = sorted(path.name for path in (store / "wal").iterdir())
    for lsn in moments[:2]:
        with pytest.raises(LsnNotAvailable, match=r"walstream gc removed .* can be had are 0/"):
            rebuilt(story, [lsn])
    assert story.running.end(signal.SIGINT) == 0
    again = Running(story.server.dsn, store, "--no-sandbox")
    story.server.execute("UPDATE t SET note = 'and on'")
    again.wait_until_indexed(story.server.flush_lsn())
    assert again.status()["receiver"]["holes"] == []
    assert again.end(signal.SIGINT) == 0
    # The server has that WAL still, and was not asked for it again.
    newest = max(name[:24] for name in wal if name[:24].isalnum() and len(name) >= 24)
    new = {path.name for path in (store / "wal").iterdir()} - set(wal)
    assert all(name[:24] >= newest for name in new)
    answer = walstream("verify", store)
    assert answer.returncode == 0, answer.stdout
    assert walstream("reindex", store).returncode == 0
    assert rebuilt(story, wanted) == before
    assert walstream("hold", "release", store, "a").returncode == 0
    gc(store, "--keep-from", format_lsn(moments[2]), "--apply")
    assert rebuilt(story, moments[2:]) == {k: p for k, p in before.items() if k[0] != first}


@pytest.mark.pg_versions(18)
def test_run_keeps_to_its_settings(story: Story, tmp_path: Path) -> None:
    store, moments = story.store, story.moments
    before = rebuilt(story, moments[2:])
    assert story.running.end(signal.SIGINT) == 0
    settings = tmp_path / "walstream.toml"
    lsn = format_lsn(moments[2])
    settings.write_text(f'[retention]\nkeep_from = "{lsn}"\ngrace = "1s"\nevery = "1s"\n')
    again = Running(story.server.dsn, store, "--no-sandbox", "--config", str(settings))
    again.wait_until(lambda now: len(now["base_backups"]) == 1)
    again.wait_until(lambda _: not list(store.rglob("*.gone")))
    again.wait_until(lambda now: "window" in now and now["window"]["loss_bytes"] == 0)
    status = again.status()
    assert status["receiver"]["retention"].startswith(f"from {lsn} on")
    assert status["window"]["earliest_lsn"] == format_lsn(story.bases[2].stop_lsn)
    shown = walstream("window", store, "--json")
    assert json.loads(shown.stdout)["holes"] == []
    assert again.end(signal.SIGINT) == 0
    assert rebuilt(story, moments[2:]) == before


@pytest.mark.pg_versions(18)
def test_killed_at_every_step(story: Story) -> None:
    store, moments = story.store, story.moments
    before = rebuilt(story, moments[1:])
    window = ["--keep-from", format_lsn(moments[1]), "--apply", "--grace", "0s"]
    assert story.running.end(signal.SIGINT) == 0
    step = 0
    for command in (window, window, window):
        for _ in range(7):
            killed = subprocess.run(
                [sys.executable, "-c", KILLED, str(step), "gc", str(store), *command],
                capture_output=True,
                text=True,
                check=False,
            )
            assert killed.returncode in (-signal.SIGKILL, 0), killed.stderr
            assert rebuilt(story, moments[1:]) == before
            step += 3
        step = 1
    gc(store, *window)
    gc(store, *window)
    assert not list(store.rglob("*.gone"))
    assert not list(store.rglob("*.swept"))
    assert rebuilt(story, moments[1:]) == before
