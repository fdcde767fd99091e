"""A stock PostgreSQL on a past moment: equal to PostgreSQL's own recovery, writable, crash safe."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest

from tests.datadir.story import (
    CONFIG,
    Story,
    before_the_backup,
    finish,
    recovered,
    scatter,
)
from tests.mount.opened import Opened, opened
from tests.support.binaries import find_binaries, wheel_client
from tests.support.clusters import directory_for_server, roomy_directory
from tests.support.receiving import wait_until
from tests.support.running import DEADLINE_S, WALSTREAM, Running, walstream
from tests.support.servers import PostgresServer
from tests.support.waldump import decoded
from tests.support.workload import make_multixacts, use_databases
from walstream.store.drills import last_drill
from walstream.wal.model import format_lsn

pytestmark = [pytest.mark.pg_versions(15, 18), pytest.mark.timeout(600)]


class Kept(NamedTuple):
    """A store whose cluster is shut down. ``at``: start and end of the last record to count."""

    store: Path
    story: Story
    at: tuple[int, int]
    bindir: Path

    @property
    def options(self) -> tuple[object, ...]:
        return ("--at", format_lsn(self.at[1]), "--bindir", self.bindir)


@pytest.fixture(scope="module")
def kept(pg_version: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    directory = tmp_path_factory.mktemp("kept")
    store = directory / "store"
    with PostgresServer(pg_version, config=CONFIG) as server:
        before_the_backup(server)
        running = Running(server.dsn, store)
        running.wait_until(lambda now: bool(now.get("base_backups")))
        scatter(server)
        make_multixacts(server)
        use_databases(server)
        finish(server)
        end_lsn = server.flush_lsn()
        server.execute("DROP TABLE cut_later")
        server.execute("SELECT pg_switch_wal()")
        running.wait_until_indexed(server.flush_lsn())
        assert running.end(signal.SIGTERM) == 0
        server.stop()
        records = [
            (raw.start_lsn, raw.end_lsn)
            for raw in decoded(server.wal_directory, server.segment_size, end_lsn)
        ]
        backup = next(path for path in (store / "base").iterdir() if path.is_dir())
        story = Story(server, backup, records, None)  # type: ignore[arg-type]
        yield Kept(store, story, records[-1], find_binaries(pg_version).server)


def dump(dsn: str) -> str:
    """What a standby can tell of a cluster, without the tokens that differ in each dump."""
    command = [str(wheel_client("pg_dumpall")), "--no-unlogged-table-data", "-d", dsn]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return re.sub(r"^\\(?:un)?restrict .*$", "", text, flags=re.MULTILINE)


def fingerprint(directory: Path) -> dict[str, str]:
    """Every file below a directory with what it holds."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def test_it_equals_a_recovery_and_nothing_of_the_store_is_written(kept: Kept) -> None:
    parts = [kept.store / name for name in ("base", "wal", "index")]
    before = [fingerprint(part) for part in parts]
    prepared = "SELECT gid, transaction, owner, database FROM pg_prepared_xacts ORDER BY 1"
    with recovered(kept.story, kept.at[0]) as theirs:
        theirs.start()
        with opened(kept.store, *kept.options) as ours:
            assert ours.execute("SELECT pg_is_in_recovery()") == [(True,)]
            assert dump(ours.dsn) == dump(theirs.dsn)
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                ours.execute("CREATE TABLE t (i int)")
        with opened(kept.store, *kept.options, "--writable") as ours:
            assert dump(ours.dsn) == dump(theirs.dsn)
            assert ours.execute(prepared) == theirs.execute(prepared)
            assert ours.execute("SELECT count(*) FROM fleeting") == [(0,)]
            write_much(ours)
    assert [fingerprint(part) for part in parts] == before
    assert not (kept.store / "branches").exists()


def write_much(ours: Opened) -> None:
    execute = ours.execute
    execute("COMMIT PREPARED 'at the end'")
    execute("CREATE TABLE made AS SELECT i, repeat('m', 500) t FROM generate_series(1, 20000) i")
    execute("CREATE INDEX ON made (i)")
    execute("UPDATE accounts SET balance = balance + 7 WHERE id % 5 = 0")
    execute("VACUUM FULL accounts")
    execute("TRUNCATE cut_later")
    execute("INSERT INTO cut_later SELECT i, 'new' FROM generate_series(1, 10) i")
    execute("CREATE DATABASE copied TEMPLATE early_database")
    execute("CREATE TABLE there (i int)", dbname="copied")
    execute("CHECKPOINT")
    execute("DROP DATABASE copied")
    execute("CREATE EXTENSION IF NOT EXISTS amcheck")
    assert execute(
        "SELECT count(bt_index_check(c.oid, true)) > 100 FROM pg_index i "
        "JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam "
        "WHERE a.amname = 'btree' AND c.relpersistence = 'p' AND i.indisready"
    ) == [(True,)]
    assert execute("SELECT count(*), sum(length(t)) FROM made") == [(20000, 10000000)]


def test_a_branch_stays_and_lives_through_crashes(kept: Kept) -> None:
    options = (*kept.options, "--name", "try")
    again = ("--name", "try", "--bindir", kept.bindir)
    count = "SELECT count(*) FROM accounts"
    with opened(kept.store, *options) as ours:
        rows = ours.execute(count)
        # The rows below are locked by what is prepared.
        ours.execute("DELETE FROM accounts WHERE id BETWEEN 1001 AND 2000")
        ours.execute("CREATE TABLE made AS SELECT generate_series(1, 1000) i")
        busy = walstream("open", kept.store, *again)
        assert busy.returncode == 5
        assert "in use by another" in busy.stderr
        left = ours.execute(count)
    with opened(kept.store, *again) as ours:
        assert ours.execute(count) == left
        ours.execute("INSERT INTO made SELECT generate_series(1, 5000)")
        # The server dies, and with it what had it open.
        server = ours.postmaster()
        subprocess.run(["kill", "-9", str(server)], check=True)
        assert ours.process.wait(DEADLINE_S) == 17
    with opened(kept.store, *again) as ours:
        assert ours.execute("SELECT count(*) FROM made") == [(6000,)]
        ours.execute("INSERT INTO made SELECT generate_series(1, 4000)")
        # The daemon dies: the next opening ends its server, and takes the mount away.
        server = ours.postmaster()
        place = Path(ours.execute("SHOW data_directory")[0][0]).parent.parent
        assert ours.end(signal.SIGKILL) == -9
    with opened(kept.store, *again) as ours:
        assert not Path(f"/proc/{server}").exists()
        assert not place.exists()
        assert ours.execute("SELECT count(*) FROM made") == [(10000,)]
        assert ours.execute(count) == left
    changed = walstream("branch", "diff", kept.store, "try").stdout
    assert "changed" in changed
    assert "new" in changed
    assert walstream("branch", "reset", kept.store, "try").returncode == 0
    assert walstream("branch", "diff", kept.store, "try").stdout == ""
    with opened(kept.store, *again) as ours:
        assert ours.execute(count) == rows
    assert walstream("branch", "drop", kept.store, "try").returncode == 0
    assert walstream("branch", "list", kept.store).stdout == ""


def test_what_is_hydrated_needs_neither_mount_nor_store(kept: Kept) -> None:
    with directory_for_server(roomy_directory()) as place:
        store = place / "store"
        shutil.copytree(kept.store, store, ignore=shutil.ignore_patterns("branches", "drills"))
        store.chmod(0o755)  # the server's user must get at it without us
        again = ("--name", "try", "--bindir", kept.bindir)
        with opened(store, *kept.options, "--name", "try", "--hydrate") as ours:
            ours.execute("CREATE TABLE made AS SELECT generate_series(1, 5000) i")
            description = store / "branches/try/branch.toml"
            wait_until(lambda: "hydrated = true" in description.read_text())
            ours.execute("DELETE FROM accounts WHERE id BETWEEN 1001 AND 2000")
            ours.execute("DROP TABLE cut_later")
            before = dump(ours.dsn)
        done = walstream("branch", "create", store, "copy", "--from", "try")
        assert done.returncode == 0, done.stderr
        changed = [json.loads(line) for line in diffed(store, "try")]
        kinds = Counter(file["kind"] for file in changed)
        assert kinds["gone"] >= 1 and kinds["changed"] >= 1 and kinds["new"] >= 1
        # Most of what was made is as it was made.
        assert sum(len(file["blocks"]) for file in changed if file["kind"] == "changed") < 500
        (store / "wal").rename(store / "elsewhere")
        with opened(store, *again) as ours:
            assert ours.execute("SHOW data_directory") == [
                (str(store / "branches/try/upper/data"),)
            ]
            assert dump(ours.dsn) == before
            write_much_less(ours)
        with opened(store, "--name", "copy", "--bindir", kept.bindir) as ours:
            assert dump(ours.dsn) == before


def test_the_newest_moment_is_opened_again_at_the_same_place(kept: Kept) -> None:
    with opened(kept.store, "--bindir", kept.bindir, "--follow", "1s") as ours:
        started = "SELECT pg_postmaster_start_time()"
        first = ours.execute(started)

        def another() -> bool:
            try:
                return ours.execute(started) != first
            except psycopg.OperationalError:
                return False

        wait_until(another)


def diffed(store: Path, name: str) -> list[str]:
    said = walstream("branch", "diff", store, name, "--json")
    assert said.returncode == 0, said.stderr
    return said.stdout.splitlines()


def write_much_less(ours: Opened) -> None:
    ours.execute("INSERT INTO made SELECT generate_series(1, 5000)")
    ours.execute("CHECKPOINT")
    assert ours.execute("SELECT count(*) FROM made") == [(10000,)]


def test_psql_gets_its_arguments_and_gives_its_exit_code(kept: Kept) -> None:
    if shutil.which("psql") is None:
        pytest.fail("there is no psql")
    command = ("psql", kept.store, *kept.options, "--")
    said = walstream(*command, "-At", "-c", "SELECT count(*) > 0 FROM accounts")
    assert said.stdout == "t\n", said.stderr
    failed = walstream(*command, "-v", "ON_ERROR_STOP=1", "-f", "/nowhere.sql")
    assert failed.returncode == 1
    late = walstream("psql", kept.store, "--bindir", kept.bindir, "--", "-c", "TABLE cut_later")
    assert 'relation "cut_later" does not exist' in late.stderr


def test_a_mount_is_a_data_directory_and_read_only(kept: Kept, tmp_path: Path) -> None:
    at = tmp_path / "then"
    at.mkdir()
    made = tmp_path / "made"
    done = walstream("materialize", kept.store, "--at", format_lsn(kept.at[1]), "-D", made)
    assert done.returncode == 0, done.stderr
    process = subprocess.Popen(
        [*WALSTREAM, "mount", str(kept.store), str(at), "--at", format_lsn(kept.at[1])],
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline().endswith("mounted\n")
        names = {
            str(path.relative_to(made))
            for path in made.rglob("*")
            if path.is_file() and "pg_wal" not in path.parts
        }
        for name in sorted(names - {"global/pg_control"}):
            assert (at / "data" / name).read_bytes() == (made / name).read_bytes(), name
        with pytest.raises(OSError, match="Read-only"):
            (at / "data/global/pg_control").write_bytes(b"")
        process.send_signal(signal.SIGINT)
    assert process.returncode == 0
    assert not list(at.iterdir())


def test_a_drill_passes_and_what_is_broken_fails_it(kept: Kept, tmp_path: Path) -> None:
    (tmp_path / "check.sql").write_text("SELECT 1 / count(*) FROM accounts;\n")
    bindir = ("--bindir", kept.bindir)
    said = walstream("drill", kept.store, *kept.options, "--sql", tmp_path / "check.sql", "--json")
    assert said.returncode == 0, said.stdout
    report = json.loads(said.stdout)
    assert report["lsn"] == format_lsn(kept.at[1])
    checks = {check["name"]: check["passed"] for check in report["checks"]}
    checksums = True if kept.story.server.version >= 18 else None  # the default of initdb
    assert checks == {"first query": True, "amcheck": True, "sql": True, "checksums": checksums}
    assert report["pages_read"] > 1000

    (tmp_path / "check.sql").write_text("SELECT 1 / 0;\n")
    quick = ("--no-amcheck", "--no-checksums", *bindir)
    said = walstream("drill", kept.store, "--sql", tmp_path / "check.sql", *quick)
    assert said.returncode == 19
    assert "division by zero" in said.stdout

    broken = tmp_path / "broken"
    shutil.copytree(kept.store, broken)
    for segment in (broken / "wal").iterdir():
        segment.unlink()
    said = walstream("drill", broken, *quick)
    assert said.returncode == 19
    assert "open         FAILED" in said.stdout
    last = last_drill(broken)
    assert last is not None
    assert not last.passed
    good = last_drill(kept.store, passed=True)
    assert good is not None
    assert good.first_query_s is not None


def test_what_is_missing_is_said_in_one_line(kept: Kept, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    said = walstream("open", kept.store, "--bindir", tmp_path / "bin")
    assert said.returncode == 17
    assert f"expected the programs of PostgreSQL {kept.story.server.version}" in said.stderr
    said = walstream("open", kept.store, "--at", "0/1", "--bindir", kept.bindir)
    assert said.returncode == 8
    assert "earliest" in said.stderr
    said = walstream("open", kept.store, "--name", "no/name")
    assert said.returncode == 2
    said = walstream("branch", "drop", kept.store, "nobody")
    assert said.returncode == 5
