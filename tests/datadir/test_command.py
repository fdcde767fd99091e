"""``walstream materialize`` as a user types it: a store of a real server, tablespaces elsewhere."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clusters import directory_for_server, roomy_directory
from tests.support.running import Running, walstream
from tests.support.servers import PostgresServer, Setting
from walstream.cli import exit_codes
from walstream.state.control import ControlFile


@pytest.fixture
def place() -> Iterator[Path]:
    with directory_for_server(roomy_directory()) as place:
        yield place


@pytest.mark.pg_versions(18)
def test_a_moment_of_a_store_with_tablespaces(pg_version: int, place: Path) -> None:
    store = place / "store"
    config: dict[str, Setting] = {"archive_mode": True, "archive_command": "false"}
    with (
        directory_for_server(roomy_directory()) as early,
        directory_for_server(roomy_directory()) as late,
        PostgresServer(pg_version, config=config) as server,
    ):
        server.execute(f"CREATE TABLESPACE early LOCATION '{early}'")
        server.execute("CREATE TABLE a TABLESPACE early AS SELECT generate_series(1, 1000) i")
        running = Running(server.replication_dsn, store)
        try:
            running.wait_until_indexed(0)
            server.execute(f"CREATE TABLESPACE late LOCATION '{late}'")
            server.execute("CREATE TABLE b TABLESPACE late AS SELECT generate_series(1, 1000) i")
            server.execute("DELETE FROM a WHERE i > 500")
            (xid,) = server.execute("DELETE FROM b WHERE i > 900 RETURNING xmax")[0]
            server.execute("DROP TABLE a, b")
            server.execute("DROP TABLESPACE late")
            running.wait_until_indexed(server.insert_lsn())
            assert running.end(signal.SIGTERM) == 0
        finally:
            running.process.kill()
            running.process.communicate()
        before = {path.name for path in early.rglob("*")}
        target = place / "data"
        mapping = ("-T", f"{early}={place / 'mapped'}")
        done = walstream("materialize", store, "--at", f"before xid:{xid}", "-D", target, *mapping)
        assert done.returncode == 0, done.stderr
        assert "moment: 0/" in done.stderr and "last commit 20" in done.stderr
        assert f"is in {place / 'mapped'}" in done.stdout
        assert f"is in {target}.tablespaces/" in done.stdout
        # Nothing went to where the original is, and root gave everything to the servers' user.
        assert {path.name for path in early.rglob("*")} == before
        assert {path.owner() for path in target.rglob("*")} == {place.owner()}
        ours = ControlFile.parse((target / "global/pg_control").read_bytes())
        theirs = ControlFile.parse((server.data_directory / "global/pg_control").read_bytes())
        assert ours.system_id != theirs.system_id
        with PostgresServer(pg_version, backup=target) as branch:
            assert branch.execute("SELECT count(*) FROM a") == [(500,)]
            assert branch.execute("SELECT count(*) FROM b") == [(1000,)]
            assert branch.execute("SHOW archive_mode") == [("off",)]

        ask_for_what_is_not_there(store)
        again = walstream("materialize", store, "--at", "latest", "-D", target)
        assert again.returncode == exit_codes.STORE
        assert "exists and is not empty" in again.stderr
        gone = walstream("materialize", store, "--at", "0/1", "-D", place / "other")
        assert gone.returncode == exit_codes.PAGE
        assert "before the store begins: the earliest moment is" in gone.stderr
        wrong = walstream("materialize", store, "--at", "2026-11-25 10:00", "-D", place / "other")
        assert wrong.returncode == exit_codes.USAGE and "needs a zone" in wrong.stderr
        unknown = walstream(
            "materialize", store, "--at", "latest", "-D", place / "other", "-T", "/nowhere=/tmp/x"
        )
        assert unknown.returncode == exit_codes.STORE
        assert f"there are: {early}" in unknown.stderr
        assert not (place / "other").exists()
        shutil.rmtree(place / "mapped")


def ask_for_what_is_not_there(store: Path) -> None:
    """Every command that reads a store: one line that says what is wrong, and the right code."""
    page, usage, no_rows = exit_codes.PAGE, exit_codes.USAGE, exit_codes.NO_ROWS
    for arguments, code, said in (
        ("page {} 1663/5/999999 0", page, "does not exist"),
        ("page {} pg_class 99999", page, "beyond the end"),
        ("page {} no_such_table 0", no_rows, "there is no no_such_table"),
        ("page {} pg_class 0 --at FF/0", page, "has not been reached"),
        ("page {} pg_class 0 --at 0/1", page, "is before the store begins"),
        ("history {} 1663/5/999999 0", page, "there never was a relation"),
        ("history {} pg_class 99999", page, "never had a block"),
        ("history {} pg_class 0 --to xid:4000000000", page, "xid:4000000000"),
        ("history {} no_such_table 0", no_rows, "there is no no_such_table"),
        ("rows {} no_such_table", no_rows, "there is no no_such_table"),
        ("rows {} nowhere.public.t", no_rows, "nowhere"),
        ("rows {} pg_class --columns nothing", no_rows, "no column 'nothing'"),
        ("rows {} pg_class --where nothing=1", no_rows, "no column 'nothing'"),
        ("rows {} pg_class --where relname==", usage, "filter"),
        ("rows {} pg_class --at xid:4000000000", page, "xid:4000000000"),
        ("rows {} pg_class --at name:nothing", page, "no restore point"),
        ("rows {} pg_class --at 1999-01-01T00:00Z", page, "before the store begins"),
        ("tables {} --db nowhere", no_rows, "nowhere"),
        ("find {} --dropped nothing", no_rows, "no nothing was dropped"),
        ("diff {} no_such_table 0/1 latest", page, "before the store begins"),
        ("diff {} no_such_table latest latest", no_rows, "there is no no_such_table"),
        ("undo {} --table no_such_table --from latest", no_rows, "there is no no_such_table"),
        ("undo {} --table pg_class --xid 4000000000", page, "xid:4000000000"),
        ("materialize {} --at FF/0 -D /nowhere/at/all", page, "has not been reached"),
    ):
        done = walstream(*arguments.format(store).split(" "))
        assert done.returncode == code, (arguments, done.stderr)
        assert said in done.stderr, (arguments, done.stderr)
        assert len(done.stderr.splitlines()) == 1, (arguments, done.stderr)
