"""The demo's workload: a small bank that inserts, updates, deletes and vacuums.

Runs in a thread over an ordinary connection; it is the demo's user, not part of walstream.
"""

from __future__ import annotations

from collections.abc import Callable

import psycopg

TABLES = ("account", "transfer")

SETUP = (
    """CREATE TABLE account (
           id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
           owner text NOT NULL,
           balance numeric(12, 2) NOT NULL
       ) WITH (fillfactor = 90)""",
    "CREATE INDEX account_owner ON account (owner)",
    """CREATE TABLE transfer (
           id bigint PRIMARY KEY,
           source bigint NOT NULL,
           target bigint NOT NULL,
           amount numeric(12, 2) NOT NULL,
           at timestamptz NOT NULL DEFAULT now()
       )""",
    "CREATE INDEX transfer_source ON transfer (source)",
)

INSERT_ACCOUNTS = """
    INSERT INTO account (owner, balance)
    SELECT (ARRAY['ada', 'alan', 'barbara', 'edsger', 'grace', 'tony'])[1 + i % 6] || ' ' || i, 100
    FROM generate_series(1, 5000) i"""
INSERT_TRANSFERS = """
    INSERT INTO transfer (id, source, target, amount)
    SELECT %(round)s * 4000 + i, 1 + (i * 7) %% 5000, 1 + (i * 13) %% 5000, i %% 90
    FROM generate_series(1, 4000) i"""
UPDATE_ACCOUNTS = """
    UPDATE account SET balance = balance - 1 WHERE id %% 40 = %(round)s"""
RENAME_ACCOUNTS = """
    UPDATE account SET owner = 'renamed ' || id WHERE id %% 97 = %(round)s"""
DELETE_TRANSFERS = """
    DELETE FROM transfer WHERE id %% 3 = 0 AND id > %(round)s * 4000"""

ROUNDS = 6

# The account that the demo follows through the versions of its page.
FOLLOWED = (
    "UPDATE account SET balance = balance + 900 WHERE id = 3",
    "DELETE FROM account WHERE id = 3",
)


def run_workload(conninfo: str, at_step: Callable[[str, int], None]) -> None:
    """Runs the workload; calls ``at_step(name, lsn)`` after each step with the server's LSN."""
    with psycopg.connect(conninfo, autocommit=True) as connection:

        def step(name: str, *statements: str, **parameters: int) -> None:
            for statement in statements:
                connection.execute(statement.encode(), parameters or None)
            row = connection.execute(
                "SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint"
            ).fetchone()
            assert row is not None
            at_step(name, row[0])

        step("create", *SETUP)
        step("insert", INSERT_ACCOUNTS)
        step("checkpoint", "CHECKPOINT")
        for number in range(ROUNDS):
            step("insert", INSERT_TRANSFERS, round=number)
            step("update", UPDATE_ACCOUNTS, RENAME_ACCOUNTS, round=number)
            step("delete", DELETE_TRANSFERS, round=number)
            if number == ROUNDS // 2:
                step("credit", FOLLOWED[0])
                step("vacuum", "VACUUM (INDEX_CLEANUP ON) transfer", "VACUUM account")
        step("close account", FOLLOWED[1])
        step("vacuum", "VACUUM (FREEZE, INDEX_CLEANUP ON) transfer", "VACUUM account")


def relation_paths(conninfo: str) -> dict[str, str]:
    """Returns name -> path below the data directory of the workload's tables and indexes."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        rows = connection.execute(
            """SELECT relname, pg_relation_filepath(oid) FROM pg_class
               WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i')
               ORDER BY relkind DESC, relname"""
        ).fetchall()
    return {str(name): str(path) for name, path in rows}
