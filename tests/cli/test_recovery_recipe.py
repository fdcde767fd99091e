"""The recovery of docs/how-to/recover.md, word by word: from a store, tablespaces, by its group."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.binaries import available_versions, identity_arguments, server_user
from tests.support.clusters import directory_for_server, roomy_directory
from tests.support.receiving import wait_until
from tests.support.server_commands import walstream_for_servers
from tests.support.servers import PostgresServer
from walstream.app.wal_directory import flushed_of

MB = 1 << 20
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "recover.md"
VERSIONS = [version for version in available_versions() if version in (15, 18)]


@pytest.fixture(scope="module")
def walstream() -> Iterator[str]:
    with walstream_for_servers() as command:
        yield command


def recipe() -> str:
    """Returns the commands of the section about a recovery."""
    section = PAGE.read_text().split("## PostgreSQL's own recovery")[1].split("\n## ")[0]
    found = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    assert len(found) == 1
    return str(found[0])


def keep(server: PostgresServer, store: Path, end: int) -> None:
    """Runs ``walstream run`` until WAL up to ``end`` is on disk."""
    command = [sys.executable, "-m", "walstream", "run", server.dsn, "--store", str(store)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, umask=0o077) as running:

        def flushed() -> bool:
            assert running.poll() is None, running.communicate()[1]
            return (at := flushed_of(store)) is not None and at.lsn >= end

        wait_until(flushed, lambda: f"the store does not reach {end:X}")
        running.send_signal(signal.SIGINT)
        assert running.wait() == 0, running.communicate()[1]


def modes(path: Path) -> set[int]:
    return {each.stat().st_mode & 0o777 for each in path.rglob("*") if each.is_file()}


def advance(server: PostgresServer, store: Path) -> Path:
    """Makes a base from pages, with prepared transactions around it, and WAL after it."""
    with server.connect() as session:
        session.execute("BEGIN")
        session.execute("INSERT INTO t VALUES (-1, 'prepared before the checkpoint')")
        session.execute("PREPARE TRANSACTION 'before'")
        server.execute("CHECKPOINT")
        session.execute("BEGIN")
        session.execute("INSERT INTO t VALUES (-2, 'prepared after it')")
        session.execute("PREPARE TRANSACTION 'after'")
    server.execute("UPDATE t SET x = 'z' WHERE i % 3 = 0")
    keep(server, store, server.flush_lsn())
    command = [sys.executable, "-m", "walstream", "base", "advance", str(store)]
    subprocess.run(command, check=True, capture_output=True)
    server.execute("DELETE FROM t WHERE i % 7 = 0")
    server.execute("COMMIT PREPARED 'before'")
    keep(server, store, server.flush_lsn())
    found = [path for path in (store / "base").glob("*.toml") if "wal_from" in path.read_text()]
    assert len(found) == 1
    return found[0].with_suffix("")


@pytest.mark.parametrize("advanced", [False, True])
@pytest.mark.parametrize("version", VERSIONS)
def test_the_commands_of_the_page_recover_tablespaces_too(
    version: int, walstream: str, advanced: bool
) -> None:
    content = "SELECT count(*), min(i), max(i) FROM t"
    with directory_for_server(roomy_directory()) as place:
        elsewhere = place / "elsewhere"
        subprocess.run(["mkdir", str(elsewhere)], check=True, **identity_arguments())
        store, recovered = place / "store", place / "recovered"
        with PostgresServer(
            version, segment_size=MB, initdb=["--allow-group-access"],
            config={"max_wal_size": "64MB"},
        ) as server:  # fmt: skip
            server.execute(f"CREATE TABLESPACE fast LOCATION '{elsewhere}'")
            server.execute("CREATE TABLE t (i int, x text) TABLESPACE fast")
            server.execute("INSERT INTO t SELECT i, 'x' FROM generate_series(1, 1000) i")
            keep(server, store, server.flush_lsn())
            server.execute("INSERT INTO t SELECT i, 'y' FROM generate_series(1001, 9000) i")
            keep(server, store, server.flush_lsn())
            (base,) = (path for path in (store / "base").iterdir() if path.is_dir())
            if advanced:
                base = advance(server, store)
            expected = server.execute(content)
            server.crash()
        elsewhere.rename(place / "gone")  # nothing of the old server may be needed
        assert store.stat().st_mode & 0o777 == 0o750
        assert {path.stat().st_mode & 0o777 for path in (store / "base").rglob("*/")} == {0o750}
        assert modes(store / "wal") == modes(store / "base") == {0o640}
        user = server_user()
        if user is not None:
            subprocess.run(["chgrp", "-R", str(user.pw_gid), str(store)], check=True)
        commands = recipe().replace("base/0000000002000028", f"base/{base.name}")
        commands = commands.replace("/srv/wal/db1", str(store))
        commands = commands.replace("/var/lib/postgresql/recovered", str(recovered))
        commands = commands.replace("'walstream ", f"'{walstream} ")
        assert "/srv" not in commands
        done = subprocess.run(
            ["sh", "-eu", "-c", commands], cwd="/", capture_output=True, text=True, check=False,
            umask=0o022, **identity_arguments(),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        with PostgresServer(version, segment_size=MB, backup=recovered) as again:
            wait_until(
                lambda: again.execute("SELECT pg_is_in_recovery()") == [(False,)], again.log_text
            )
            assert again.execute(content) == expected
            prepared = again.execute("SELECT gid FROM pg_prepared_xacts")
            assert prepared == ([("after",)] if advanced else [])
            (path,) = again.execute("SELECT pg_relation_filepath('t')")[0]
            assert path.startswith("pg_tblspc/")
            (link,) = (again.data_directory / "pg_tblspc").iterdir()
            assert link.readlink() == Path(f"{recovered}-{link.name}")
