"""When it happened, what changed, and the SQL that takes it back, tried on the server itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.rows.pasts import CONFIG, Past, copied
from tests.support.servers import PostgresServer
from walstream.errors import NoRows
from walstream.rows.diff import DELETED, INSERTED, UPDATED, TableDiff, UndoWriter, diff_tables
from walstream.rows.finding import DROPPED, REWRITTEN, TRUNCATED, find_table_events

MAKE = """
    CREATE TABLE acc (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text, f float4,
        j json, a int[], b "char", double_id int GENERATED ALWAYS AS (id * 2) STORED);
    INSERT INTO acc (note, f, j, a, b)
        SELECT 'line' || chr(10) || 'it''s \\ ' || i, i / 3.0, '{"a" : 1}', ARRAY[i, NULL], 'x'
        FROM generate_series(1, 200) i;
    CREATE TABLE bag (a int, b json);
    INSERT INTO bag SELECT i % 3, '{}' FROM generate_series(1, 9) i
"""


class Changed(Past):
    """``moments`` are LSNs by name; ``acc`` and ``bag`` what COPY gave at ``before``."""

    moments: dict[str, int]
    before: dict[str, bytes]


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PostgresServer, Changed]]:
    with PostgresServer(18, config=CONFIG) as server:
        backup = server.base_backup(tmp_path_factory.mktemp("backup") / "base")
        moments = {}
        server.execute(MAKE)
        tables = [("acc", "acc"), ("bag", "bag")]
        before = copied(server, tables)
        moments["before"] = server.insert_lsn()
        server.execute(
            "BEGIN; DELETE FROM acc WHERE id <= 20; UPDATE acc SET note = NULL, f = 0.1 "
            "WHERE id BETWEEN 30 AND 40; INSERT INTO acc (note) VALUES ('new'); "
            "DELETE FROM bag WHERE ctid IN (SELECT ctid FROM bag WHERE a = 1 LIMIT 1); "
            "INSERT INTO bag VALUES (7, '[]'); COMMIT"
        )
        moments["after"] = server.insert_lsn()
        server.execute("UPDATE acc SET j = '[]' WHERE id = 199")
        server.execute("CREATE TABLE gone (a int); INSERT INTO gone VALUES (1)")
        server.execute("DROP TABLE gone")
        server.execute("CREATE TABLE gone (b text); INSERT INTO gone VALUES ('again')")
        server.execute("TRUNCATE gone")
        server.execute("INSERT INTO gone VALUES ('kept')")
        server.execute("VACUUM FULL gone")
        moments["last"] = server.insert_lsn()
        # A record behind that moment, on disk: it can be asked for when it has been indexed.
        server.execute("CREATE TABLE behind (id int)")
        changed = Changed(server, backup, tmp_path_factory.mktemp("store"))
        changed.moments = moments
        changed.before = {one.table: one.texts["text"] for one in before}
        yield server, changed
        changed.service.index.close()


async def difference(past: Changed, table: str, before: str, after: str) -> TableDiff:
    old, new = (past.at(past.moments[name]) for name in (before, after))
    return await diff_tables(await old.table(table), await new.table(table))


async def test_rows_that_changed(past: tuple[PostgresServer, Changed]) -> None:
    found = await difference(past[1], "acc", "before", "after")
    counts = {kind: sum(one.kind == kind for one in found.changes) for kind in (INSERTED, DELETED)}
    assert counts == {INSERTED: 1, DELETED: 20}
    updates = [one for one in found.changes if one.kind == UPDATED]
    assert [one.key for one in updates] == [(b"%d" % number,) for number in range(30, 41)]
    names = [column.name for column in found.columns]
    assert {names[at] for at in found.changed_columns(updates[0])} == {"note", "f"}
    nothing = await difference(past[1], "acc", "after", "after")
    assert nothing.changes == []
    with pytest.raises(NoRows, match="the columns of public"):
        old = await past[1].at(past[1].moments["last"]).table("bag")
        new = await past[1].at(past[1].moments["last"]).table("acc")
        await diff_tables(old, new)


async def test_undo_gives_the_rows_back(past: tuple[PostgresServer, Changed]) -> None:
    """On the live server: what was changed since stays, everything else is as it was."""
    server, changed = past
    for table, order in (("acc", "id"), ("bag", "a, b::text")):
        found = await difference(changed, table, "before", "after")
        statements = list(UndoWriter(found).statements())
        assert not any("\n" in statement for statement in statements)
        if table == "acc":
            server.execute("UPDATE acc SET note = 'later' WHERE id = 31")
        with server.connect(autocommit=False) as session:
            for statement in statements:
                session.execute(statement.encode())
        names = ", ".join(column.name for column in found.columns)
        now = copied(server, [(table, f"(SELECT {names} FROM {table} ORDER BY {order})")])
        expected = sorted(changed.before[table].splitlines())
        got = sorted(now[0].texts["text"].splitlines())
        if table == "bag":
            assert got == expected
            continue
        differing = {line.split(b"\t")[0] for line in set(got) ^ set(expected)}
        # Changed again since: the one by us, and the one right after the transaction.
        assert differing == {b"31", b"199"}
        assert len(got) == len(expected)


async def test_when_a_table_was_dropped(past: tuple[PostgresServer, Changed]) -> None:
    _server, changed = past
    last = changed.moments["last"]
    events = await find_table_events(changed.service, changed.source(), "public.gone", None, last)
    assert [event.kind for event in events] == [DROPPED, TRUNCATED, REWRITTEN]
    dropped, truncated, _rewritten = events
    table = await changed.at(dropped.before_lsn).table("gone")
    assert [column.name for column in table.columns] == ["a"]
    table = await changed.at(truncated.before_lsn).table("gone")
    assert [column.name for column in table.columns] == ["b"]
    assert dropped.xid < truncated.xid
    assert await find_table_events(changed.service, changed.source(), "acc", None, last) == []
