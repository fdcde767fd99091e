"""Several base backups of one store, made beside ``walstream run``: from the server, from pages."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.support.binaries import wheel_client
from tests.support.clusters import directory_for_server, give_to_server, roomy_directory
from tests.support.running import DEADLINE_S, WALSTREAM, Running, walstream
from tests.support.servers import PostgresServer
from walstream import RunConfig, open_application, open_pages
from walstream.app.run import Application
from walstream.cli import exit_codes
from walstream.pages.service import PageService
from walstream.wal.model import BufferTag, format_lsn, parse_lsn

ROWS = "INSERT INTO changing SELECT i, repeat('x', i % 500) FROM generate_series(1, 3000) i"

CONTENT = "SELECT count(*), sum(i), min(t), max(t) FROM changing"
END_OF_RECOVERY_SIZE = 56  # at most, padding included; two of them do not fit


def succeeded(*arguments: object) -> Any:
    """Returns the JSON that a command prints."""
    done = walstream(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def fill(server: PostgresServer) -> BufferTag:
    """Makes a table of many blocks and one that nobody touches again; returns a block of it."""
    server.execute("CREATE TABLE changing (i int, t text)")
    server.execute("CREATE TABLE still AS SELECT generate_series(1, 20000) i")
    server.execute(ROWS)
    (path,) = server.execute("SELECT pg_relation_filepath('changing')")[0]
    _, database, relation = path.split("/")
    return BufferTag(1663, int(database), int(relation), 0, 0)


def verify_backups(listed: list[dict[str, Any]]) -> None:
    for one in listed:
        verify = [str(wheel_client("pg_verifybackup")), "-n", one["path"]]
        subprocess.run(verify, check=True, capture_output=True)


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(DEADLINE_S):
        await trio.lowlevel.checkpoint()
        while not condition():  # noqa: ASYNC110 (another process does it)
            await trio.sleep(0.05)


async def pages_of(service: PageService, tag: BufferTag, lsn: int) -> list[bytes]:
    blocks = service.index.size_at(tag.locator, 0, lsn)
    assert blocks is not None and blocks > 20
    return [await service.get_page(tag._replace(block=block), lsn) for block in range(blocks)]


async def beside(application: Application, server: PostgresServer, tag: BufferTag) -> None:
    """Bases are made while the application streams: it takes them up without a restart."""
    store = application.config.store
    await application.caught_up()
    command = partial(succeeded, "base", "create", store, "-d", server.dsn)
    created = await trio.to_thread.run_sync(command)
    await until(lambda: len(application.pages.bases) == 2)
    server.execute("UPDATE changing SET i = i + 1 WHERE i % 7 = 0")
    server.execute("CHECKPOINT")
    server.execute("DELETE FROM changing WHERE i % 5 = 0")
    lsn = server.insert_lsn()
    await until(lambda: application.pages.last_valid_lsn >= lsn)
    advanced = await trio.to_thread.run_sync(succeeded, "base", "advance", store)
    await until(lambda: len(application.pages.bases) == 3)
    starts = [base.start_lsn for base in application.pages.bases]
    assert starts[1:] == [parse_lsn(created["start_lsn"]), parse_lsn(advanced["start_lsn"])]
    assert not created["advanced"] and advanced["advanced"]
    server.execute("UPDATE changing SET t = 'y' WHERE i % 11 = 0")
    end = server.insert_lsn()
    await until(lambda: application.pages.last_valid_lsn >= end)
    plan = await trio.to_thread.run_sync(application.pages.planner.plan, tag)
    assert all(entry.end_lsn > starts[2] for entry in plan.entries)
    assert plan.base is not None
    newest = await pages_of(application.pages, tag, application.pages.last_record_lsn)
    application.pages.replace_bases(application.pages.bases[:1])
    oldest = await pages_of(application.pages, tag, application.pages.last_record_lsn)
    assert newest == oldest


@pytest.mark.pg_versions(15, 18)
@pytest.mark.timeout(400)
async def test_bases_are_made_beside_run_and_the_first_may_go(
    pg_version: int, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    with PostgresServer(pg_version) as server:
        tag = fill(server)
        config = RunConfig(server.replication_dsn, store)
        async with open_application(config) as application:
            await beside(application, server, tag)
        listed = succeeded("base", "list", store)
        assert [one["advanced"] for one in listed] == [False, False, True]
        text = walstream("base", "list", store).stdout
        assert "advanced" in text and listed[2]["start_lsn"] in text
        await trio.to_thread.run_sync(verify_backups, listed)
        assert succeeded("base", "verify", store) == {"bases": 3, "problems": []}
        async with open_pages(store) as pages:
            lsn = pages.last_record_lsn
            before = await pages_of(pages, tag, lsn)

        rows = walstream("rows", store, "changing")
        assert rows.returncode == 0 and len(rows.stdout.splitlines()) > 2000, rows.stderr

        # What retention does: only the newest stays. An index made then begins at its WAL.
        for one in listed[:2]:
            shutil.rmtree(one["path"])
            Path(one["path"] + ".toml").unlink()
        async with open_application(config) as application:
            await application.streaming()
            assert await pages_of(application.pages, tag, lsn) == before
            assert application.pages.first_lsn == parse_lsn(listed[2]["start_lsn"])
        assert walstream("reindex", store).returncode == 0
        async with open_pages(store) as pages:
            assert int(pages.index.meta("start_lsn") or 0) == parse_lsn(
                listed[2]["first_needed_lsn"]
            )
            assert await pages_of(pages, tag, lsn) == before
        again = walstream("rows", store, "changing")
        assert again.stdout == rows.stdout, again.stderr
        damage(Path(listed[2]["path"]))
        verified = walstream("base", "verify", store, listed[2]["start_lsn"])
        assert verified.returncode == exit_codes.DIFFERENT
        assert "PG_VERSION: expected" in verified.stdout
        assert "strange: the manifest does not list it" in verified.stdout


def damage(base: Path) -> None:
    (base / "PG_VERSION").write_text("9\n")
    (base / "strange").touch()


@pytest.mark.soak
@pytest.mark.pg_versions(18)
@pytest.mark.timeout(400)
def test_an_advance_that_is_killed_is_gone_on_with(pg_version: int, tmp_path: Path) -> None:
    store = tmp_path / "store"
    with PostgresServer(pg_version) as server:
        fill(server)
        running = Running(server.replication_dsn, store)
        try:
            running.wait_until_indexed(0)
            server.execute("UPDATE changing SET i = i + 1")
            running.wait_until_indexed(server.insert_lsn())
            first = advance_killed(store, lambda work: journal_lines(work) > 1)
            # Nothing of it is seen, and what is committed meanwhile is not of its moment.
            assert len(succeeded("base", "list", store)) == 1
            server.execute("UPDATE changing SET i = i + 1")
            running.wait_until_indexed(server.insert_lsn())
            done = walstream("base", "advance", store)
            assert done.returncode == 0, done.stderr
            assert "going on with the unfinished base at" in done.stderr
            assert f"{first:016X}" in done.stdout
            in_the_way(store, server)
            # Killed anywhere, and asked for another moment: that one is made. One that was quicker
            # than the signal stays.
            killed = []
            for files in (0, *random.sample(range(most_files(store)), 4)):
                server.execute("UPDATE changing SET i = i + 1 WHERE i < 100")
                running.wait_until_indexed(server.insert_lsn())
                killed.append(advance_killed(store, partial(has_files, files)))
            again = succeeded("base", "advance", store, "--at", "latest", "--rate-limit", "1GB")
            same = succeeded("base", "advance", store, "--at", format_lsn(base_lsn(again)))
            assert same["path"] == again["path"]
            # A server that has nothing to do writes a record now and then.
            newest = succeeded("base", "advance", store)
            assert running.end(signal.SIGTERM) == 0
        finally:
            running.process.kill()
            running.process.communicate()
    assert not list((store / "base").glob("*.tmp"))
    bases = succeeded("base", "list", store)
    assert [one["advanced"] for one in bases] == [False] + [True] * (len(bases) - 1)
    made = {base_lsn(one) for one in bases[1:]}
    asked = {first, base_lsn(again), base_lsn(newest)}
    assert asked <= made <= asked | set(killed)
    assert base_lsn(bases[-1]) == base_lsn(newest)
    verify_backups(bases)


def base_lsn(described: dict[str, Any]) -> int:
    return int(Path(described["path"]).name, 16)


def most_files(store: Path) -> int:
    """Returns how many files an advance makes of relations: beyond them it is over in no time."""
    made = succeeded("base", "list", store)[-1]
    names = [path for path in Path(made["path"]).rglob("*") if path.name[:1].isdigit()]
    return len(names) - 50


def has_files(count: int, work: Path) -> bool:
    # os.walk passes over what is removed meanwhile: the one before.
    return sum(len(names) for _, _, names in os.walk(work)) >= count


def journal_lines(work: Path) -> int:
    return (work / "walstream.journal").read_text().count("\n")


def advance_killed(store: Path, when: Callable[[Path], bool]) -> int:
    """Kills an advance when its directory is as wanted; returns to where it was to go.

    It may be complete: it goes on until the signal comes, or was over before it was looked at.
    """
    command = [*WALSTREAM, "base", "advance", str(store), "--at", "latest", "--rate-limit", "16MB"]
    command.append("--json")
    deadline = time.monotonic() + DEADLINE_S
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                out, err = process.communicate()
                assert process.returncode == 0, err
                return base_lsn(json.loads(out))
            for journal in (store / "base").glob("*.advance.tmp/walstream.journal"):
                if when(journal.parent):
                    process.kill()
                    process.communicate()
                    return int(journal.parent.name[:16], 16)
        process.kill()
    raise AssertionError("never as wanted")


def in_the_way(store: Path, server: PostgresServer) -> None:
    """Only one makes a base at a time; another server's is refused."""
    command = [*WALSTREAM, "base", "advance", str(store), "--rate-limit", "1MB"]
    server.execute("UPDATE changing SET i = i + 1 WHERE i < 10")
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("moment: ")
        for arguments in (("advance", store), ("create", store, "-d", server.dsn)):
            refused = walstream("base", *arguments)
            assert refused.returncode == exit_codes.STORE
            assert "a base backup is being made" in refused.stderr
        process.send_signal(signal.SIGINT)
        process.communicate()
    with PostgresServer(server.version, unique=True) as other:
        wrong = walstream("base", "create", store, "-d", other.dsn)
        assert wrong.returncode == exit_codes.WRONG_CLUSTER


@pytest.mark.pg_versions(15, 18)
@pytest.mark.timeout(400)
def test_a_base_of_a_branch_that_a_promotion_left_is_passed_over(
    pg_version: int, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    keep = {"wal_keep_size": "256MB"}  # no slot holds the WAL
    with PostgresServer(pg_version, config=keep) as server, server.standby(keep) as standby:
        fill(server)
        end_lsn = server.insert_lsn()
        follow(server, store, end_lsn)
        succeeded("base", "advance", store)
        replayed = f"SELECT pg_last_wal_replay_lsn() >= '{format_lsn(end_lsn)}'"
        poll(lambda: standby.execute(replayed) == [(True,)])
        standby.stop()
        server.execute("UPDATE changing SET i = i + 1")
        follow(server, store, server.insert_lsn())
        dead = succeeded("base", "advance", store)
        server.stop()
        standby.start()
        standby.promote()
        standby.switch_wal()  # beyond what the dead branch came to
        standby.execute("UPDATE changing SET t = 'promoted' WHERE i % 2 = 0")
        follow(standby, store, standby.insert_lsn())
        listed = succeeded("base", "list", store)
        assert [one["dead_branch"] for one in listed] == [False, False, True]
        assert listed[2]["path"] == dead["path"]
        assert "of a dead branch" in walstream("base", "list", store).stdout
        # Of right after the switch, from the old timeline's last checkpoint, and of now.
        switch = (store / "wal/00000002.history").read_text().split()[1]
        after_switch = format_lsn(parse_lsn(switch) + END_OF_RECOVERY_SIZE)
        first = succeeded("base", "advance", store, "--at", after_switch)
        assert first["timeline"] == 1
        newest = succeeded("base", "advance", store)
        assert newest["timeline"] == 2
        verify_backups([first, newest])
        standby.execute("DELETE FROM changing WHERE i % 5 = 0")
        follow(standby, store, standby.insert_lsn())
        expected = standby.execute(CONTENT)
        rows = walstream("rows", store, "changing")
        assert len(rows.stdout.splitlines()) > 2000, rows.stderr
    for base in (first, newest):
        assert recovered_content(pg_version, store, Path(base["path"])) == expected


def recovered_content(version: int, store: Path, base: Path) -> list[tuple[Any, ...]]:
    """Returns what a server has that was recovered from a base to the end of the store's WAL."""
    with directory_for_server(roomy_directory()) as place:
        shutil.copytree(store / "wal", place / "wal")
        give_to_server(place)
        restore = f"cp {place}/wal/%f %p || cp {place}/wal/%f.partial %p"
        config = {"restore_command": restore}
        with PostgresServer(
            version, config=config, backup=base, signal_file="recovery.signal"
        ) as server:
            poll(lambda: server.execute("SELECT pg_is_in_recovery()") == [(False,)])
            return server.execute(CONTENT)


def follow(server: PostgresServer, store: Path, lsn: int) -> None:
    """Has a ``walstream run`` come to an LSN of a server."""
    running = Running(server.replication_dsn, store, "--no-slot")
    try:
        # A new store begins behind what was there before its base backup.
        running.wait_until(lambda now: bool(now.get("indexed_to")))
        running.wait_until_indexed(max(lsn, server.insert_lsn()))
        assert running.end(signal.SIGTERM) == 0
    finally:
        running.process.kill()
        running.process.communicate()


def poll(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
