"""A small workload that makes a server write nearly every kind of WAL record there is.

What one session can do is in ``workloads/*.sql``; what needs several sessions, databases,
tablespaces or restarts is here. :func:`run_workload` runs all of it in a few seconds, on a server
that was started with :data:`WORKLOAD_CONFIG`, and leaves it running and idle.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg

from tests.support.servers import PostgresServer, Setting

WORKLOADS = Path(__file__).parent / "workloads"

WORKLOAD_CONFIG: Mapping[str, Setting] = {
    "max_wal_size": "8GB",
    "track_commit_timestamp": True,
    "wal_keep_size": "8GB",
    "wal_level": "logical",
}

# XIDs and multixacts a page of pg_xact, pg_commit_ts and pg_multixact is left behind after.
_XIDS = 34_000
_MULTIXACTS = 2_100

_TOKEN = re.compile(
    r"(?P<comment>--[^\n]*)|(?P<end>;[ \t]*(?=\n|\Z))"
    r"|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$|'(?:[^']|'')*'|.",
    re.DOTALL,
)


def statements(script: str) -> Iterator[str]:
    """The statements of a script, each ending at a semicolon at the end of a line."""
    words: list[str] = []
    for token in _TOKEN.finditer(script):
        if token["end"]:
            yield "".join(words).strip()
            words = []
        elif not token["comment"]:
            words.append(token[0])
    if "".join(words).strip():
        raise ValueError(f"a script ends inside a statement: {''.join(words).strip()[-80:]}")


def run_script(session: psycopg.Connection[Any], script: str) -> None:
    """Run the statements of a script one by one, so that VACUUM may be among them."""
    for statement in statements(script):
        session.execute(statement.encode())


def run_sql_files(server: PostgresServer, *names: str) -> None:
    """Run files of ``workloads`` (all of them unless named), each in a session of its own."""
    for path in sorted(WORKLOADS.glob("*.sql")):
        if not names or path.stem in names:
            with server.connect() as session:
                run_script(session, path.read_text())


def run_workload(server: PostgresServer) -> None:
    """Make the server write every kind of record that it can be brought to write."""
    run_sql_files(server)
    lock_rows_together(server)
    delete_a_speculative_row(server)
    make_multixacts(server)
    use_tablespaces(server)
    use_databases(server)
    back_up(server)
    burn_xids(server)
    change_parameters(server)


def lock_rows_together(server: PostgresServer) -> None:
    """Rows locked by several transactions, along chains of updates; and frozen multixacts."""
    server.execute(
        "CREATE TABLE locked (id int PRIMARY KEY, v int);"
        "INSERT INTO locked SELECT i, 0 FROM generate_series(1, 100) i"
    )
    with server.connect() as one, server.connect() as two:
        # A key-share lock on a row that another transaction is updating goes on to the new row.
        one.execute("BEGIN")
        one.execute("UPDATE locked SET v = 1 WHERE id <= 10")
        two.execute("BEGIN")
        two.execute("SELECT 1 FROM locked WHERE id <= 10 FOR KEY SHARE")
        one.execute("COMMIT")
        two.execute("COMMIT")
        # And the other way round: the row that is updated is locked already.
        one.execute("BEGIN")
        one.execute("SELECT 1 FROM locked WHERE id BETWEEN 11 AND 30 FOR KEY SHARE")
        two.execute("UPDATE locked SET v = 2 WHERE id BETWEEN 11 AND 20")
        two.execute("BEGIN")
        two.execute("SELECT 1 FROM locked WHERE id BETWEEN 21 AND 30 FOR SHARE")
        one.execute("SAVEPOINT s")
        one.execute("SELECT 1 FROM locked WHERE id BETWEEN 31 AND 40 FOR SHARE")
        two.execute("SELECT 1 FROM locked WHERE id BETWEEN 31 AND 40 FOR SHARE")
        # A vacuum that must keep the members that still run.
        server.execute("VACUUM (FREEZE, DISABLE_PAGE_SKIPPING) locked")
        one.execute("ROLLBACK")
        two.execute("COMMIT")
        # Rows that are visible to all lose only their all-frozen bit by a lock.
        server.execute("VACUUM (FREEZE, DISABLE_PAGE_SKIPPING) locked")
        one.execute("SELECT 1 FROM locked WHERE id > 90 FOR UPDATE")
        # An old snapshot: vacuum may remove nothing, and freezes nothing younger.
        one.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        one.execute("SELECT count(*) FROM locked")
        two.execute("UPDATE locked SET v = v + 1")
        two.execute("DELETE FROM locked WHERE id > 50")
        server.execute("VACUUM (FREEZE, DISABLE_PAGE_SKIPPING) locked")
        one.execute("COMMIT")
    server.execute("VACUUM locked")


def delete_a_speculative_row(server: PostgresServer) -> None:
    """An insert ... on conflict that finds its conflict only after its row was on the page."""
    server.execute(
        """
        CREATE TABLE speculative (key text);
        CREATE FUNCTION speculative_key(key text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$
        BEGIN
          -- First asked before the row goes to the heap, then again for the entry in the index.
          IF current_setting('speculative.calls', true) = 'none' THEN
            PERFORM set_config('speculative.calls', 'one', false);
          ELSIF current_setting('speculative.calls', true) = 'one' THEN
            PERFORM pg_advisory_lock(1);
            PERFORM pg_advisory_unlock(1);
          END IF;
          RETURN key;
        END $$;
        CREATE UNIQUE INDEX ON speculative (speculative_key(key));
        """
    )
    with server.connect() as gate, server.connect() as late:
        gate.execute("SELECT pg_advisory_lock(1)")
        late.execute("SET speculative.calls = 'none'")
        late.pgconn.send_query(b"INSERT INTO speculative VALUES ('k') ON CONFLICT DO NOTHING")
        while late.pgconn.flush():
            pass
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        while gate.execute(waiting).fetchone() != (1,):
            pass
        gate.execute("INSERT INTO speculative VALUES ('k')")
        gate.execute("SELECT pg_advisory_unlock(1)")
        while (result := late.pgconn.get_result()) is not None:
            if result.status != psycopg.pq.ExecStatus.COMMAND_OK:
                raise RuntimeError(result.error_message.decode())
    if server.execute("SELECT count(*) FROM speculative") != [(1,)]:
        raise RuntimeError("two speculative insertions of one key")


def make_multixacts(server: PostgresServer) -> None:
    """More multixacts than a page of pg_multixact holds, each of other members."""
    server.execute(
        "CREATE TABLE shared (id int PRIMARY KEY);"
        f"INSERT INTO shared SELECT generate_series(1, {_MULTIXACTS})"
    )
    with server.connect() as one, server.connect() as two:
        one.execute("BEGIN")
        one.execute("SELECT 1 FROM shared FOR KEY SHARE")
        two.execute(
            f"""
            DO $$
            BEGIN
              FOR i IN 1 .. {_MULTIXACTS} LOOP
                BEGIN
                  PERFORM 1 FROM shared WHERE id = i FOR KEY SHARE;
                EXCEPTION WHEN division_by_zero THEN NULL;
                END;
              END LOOP;
            END $$
            """
        )
        one.execute("COMMIT")


def use_tablespaces(server: PostgresServer) -> None:
    """A tablespace inside the data directory, a table that moves there and back, and its end."""
    with server.connect() as session:
        session.execute("SET allow_in_place_tablespaces = on")
        session.execute("CREATE TABLESPACE elsewhere LOCATION ''")
        session.execute("CREATE TABLE moved (id int PRIMARY KEY, t text) TABLESPACE elsewhere")
        session.execute("INSERT INTO moved SELECT i, 'moved' FROM generate_series(1, 300) i")
        session.execute("ALTER TABLE moved SET TABLESPACE pg_default")
        session.execute("ALTER INDEX moved_pkey SET TABLESPACE elsewhere")
        session.execute("UPDATE moved SET id = -id WHERE id < 50")
        session.execute("ALTER INDEX moved_pkey SET TABLESPACE pg_default")
        session.execute("DROP TABLESPACE elsewhere")


def use_databases(server: PostgresServer) -> None:
    """Databases made both ways, used, and dropped."""
    strategies = ("",) if server.version < 15 else (" STRATEGY wal_log", " STRATEGY file_copy")
    for number, strategy in enumerate(strategies):
        name = f"database_{number}"
        server.execute(f"CREATE DATABASE {name}{strategy}")
        server.execute(
            "CREATE TABLE t AS SELECT i FROM generate_series(1, 100) i;"
            "CREATE INDEX ON t (i);"
            "DELETE FROM t WHERE i < 50",
            dbname=name,
        )
        server.execute("VACUUM FULL pg_proc", dbname=name)
    server.execute("DROP DATABASE database_0")


def back_up(server: PostgresServer) -> None:
    """The begin and end of a base backup, without the copy."""
    prefix = "pg_backup_" if server.version >= 15 else "pg_"
    start, stop = ("start", "stop") if server.version >= 15 else ("start_backup", "stop_backup")
    with server.connect() as session:
        if server.version >= 15:
            session.execute(f"SELECT {prefix}{start}('walstream', true)".encode())
            session.execute("UPDATE heap_identity SET name = 'while a backup runs'")
            session.execute(f"SELECT {prefix}{stop}(false)".encode())
        else:
            session.execute(f"SELECT {prefix}{start}('walstream', true, false)".encode())
            session.execute("UPDATE heap_identity SET name = 'while a backup runs'")
            session.execute(f"SELECT {prefix}{stop}(false, false)".encode())


def burn_xids(server: PostgresServer) -> None:
    """Enough transactions for new pages of pg_xact, then vacuum until old ones go."""
    server.execute(
        """
        CREATE PROCEDURE burn(amount int) LANGUAGE plpgsql AS $$
        BEGIN
          FOR i IN 1 .. amount LOOP
            PERFORM pg_current_xact_id();
            COMMIT;
          END LOOP;
        END $$
        """
    )
    server.execute(f"CALL burn({_XIDS})")
    server.execute("ALTER DATABASE template0 ALLOW_CONNECTIONS true")
    names = [name for (name,) in server.execute("SELECT datname FROM pg_database")]
    for name in names:
        server.execute("VACUUM (FREEZE)", dbname=name)
    server.execute("ALTER DATABASE template0 ALLOW_CONNECTIONS false")


def change_parameters(server: PostgresServer) -> None:
    """Restarts with other parameters, the end of a crash recovery, full page writes off and on."""
    for value in (False, True):
        server.configure(full_page_writes=value)
        while server.execute("SHOW full_page_writes") != [("on" if value else "off",)]:
            pass
        server.execute("CHECKPOINT")
    before = server.config["max_connections"]
    server.configure(max_connections=25, wal_level="replica")
    server.restart()
    server.execute("CREATE TABLE restarted AS SELECT i FROM generate_series(1, 500) i")
    server.execute("CHECKPOINT")
    server.execute("UPDATE restarted SET i = -i WHERE i % 50 = 0")
    server.crash()
    server.configure(max_connections=before)
    server.start()
    server.execute("INSERT INTO restarted SELECT generate_series(501, 600)")
