"""Rows from pages equal COPY of the server they come from, at the same moment, byte for byte."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rows.pasts import CONFIG, Copied, Past, copied, run_file
from tests.support.pages import changed_pages
from tests.support.servers import PostgresServer
from walstream.errors import NameNotFound, NoRows
from walstream.pages.service import Block
from walstream.rows.cluster import ClusterAt
from walstream.rows.export import ExportRequest, ExportResult, export_rows
from walstream.rows.listing import describe_tables
from walstream.wal.model import BufferTag, RelFileLocator

TYPES = Path(__file__).with_name("types.sql")
CATALOGS = (
    "pg_class",
    "pg_attribute",
    "pg_type",
    "pg_proc",
    "pg_index",
    "pg_database",
    "pg_statistic",
    "pg_largeobject",
    "pg_amop",
)


def quoted(*names: str) -> str:
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


def copy_everything(server: PostgresServer) -> list[Copied]:
    tables = server.execute(
        "SELECT nspname::text, relname::text, relkind = 'p' FROM pg_class c JOIN pg_namespace n "
        "ON n.oid = relnamespace WHERE relkind IN ('r', 'p') AND nspname IN ('public', 'Sch x') "
        "ORDER BY 1, 2"
    )
    wanted = []
    for schema, table, partitioned in tables:
        name = quoted(schema, table)
        wanted.append((name, f"(SELECT * FROM {name})" if partitioned else name))
    wanted += [(f"pg_catalog.{name}", f"pg_catalog.{name}") for name in CATALOGS]
    return copied(server, wanted, ("text", "csv"))


class Story:
    """Work on table ``acc`` whose every step is copied out."""

    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        self.steps: list[tuple[str, Copied]] = []

    def step(self, what: str, *statements: str) -> None:
        for statement in statements:
            self.server.execute(statement)
        self.steps += [(what, one) for one in copied(self.server, [("acc", "acc")])]

    def run(self) -> None:
        step = self.step
        step(
            "made",
            "CREATE TABLE acc (id int PRIMARY KEY, note text, amount numeric)",
            "INSERT INTO acc SELECT i, 'note ' || i, i FROM generate_series(1, 300) i",
        )
        with self.server.connect(autocommit=False) as one, self.server.connect() as two:
            one.execute("UPDATE acc SET amount = -1 WHERE id < 20")
            one.execute("DELETE FROM acc WHERE id BETWEEN 50 AND 60")
            one.execute("INSERT INTO acc VALUES (1000, 'open', 0)")
            step("in progress")
            one.rollback()
            step("aborted")
            one.execute("INSERT INTO acc VALUES (1001, 'kept', 0)")
            one.execute("SAVEPOINT a")
            one.execute("DELETE FROM acc WHERE id = 5")
            one.execute("ROLLBACK TO a")
            one.execute("SAVEPOINT b")
            one.execute("UPDATE acc SET note = 'sub' WHERE id = 6")
            one.execute("RELEASE b")
            step("subtransactions in progress")
            one.commit()
            step("subtransactions")
            one.execute("SELECT * FROM acc WHERE id < 30 FOR KEY SHARE")
            two.execute("UPDATE acc SET amount = 7 WHERE id IN (8, 9)")
            two.execute("SELECT * FROM acc WHERE id IN (10, 11) FOR KEY SHARE")
            step("multixacts of lockers and an updater")
            one.execute("SELECT * FROM acc WHERE id = 12 FOR UPDATE")
            one.execute("SAVEPOINT c")
            one.execute("UPDATE acc SET amount = 12 WHERE id = 12")
            step("locked, then updated in a subtransaction")
            one.rollback()
            step("locks given up")
        step("on conflict", "INSERT INTO acc VALUES (1, 'x', 1) ON CONFLICT (id) DO NOTHING")
        step(
            "on conflict update",
            "INSERT INTO acc VALUES (1, 'x', 1) ON CONFLICT (id) DO UPDATE SET note = 'conflict'",
        )
        self._two_phase()
        step(
            "toast",
            "INSERT INTO acc SELECT 2000 + n, (SELECT string_agg(md5((n * m)::text), '') FROM "
            "generate_series(1, 400) m), n FROM generate_series(1, 5) n",
        )
        step("toast kept", "UPDATE acc SET amount = 0 WHERE id = 2001")
        step("toast changed", "UPDATE acc SET note = repeat(note, 2) WHERE id = 2002")
        step("deleted", "DELETE FROM acc WHERE id BETWEEN 70 AND 120 OR id = 2003")
        step("vacuumed", "VACUUM acc")
        step("used again", "INSERT INTO acc SELECT i, 'again', i FROM generate_series(70, 90) i")
        step(
            "columns",
            "ALTER TABLE acc ADD c text DEFAULT 'def', ADD d int[] DEFAULT '{1,2}'",
            "INSERT INTO acc (id) VALUES (3000)",
        )
        step("another default", "ALTER TABLE acc ALTER c SET DEFAULT 'new', DROP note")
        step("vacuum full", "VACUUM FULL acc")
        step("rewritten", "ALTER TABLE acc ALTER amount TYPE float8")
        step("clustered", "CLUSTER acc USING acc_pkey")
        step("frozen", "VACUUM FREEZE acc")
        step("truncated", "TRUNCATE acc", "INSERT INTO acc (id) VALUES (1)")
        step("catalogs rewritten", "VACUUM FULL pg_class", "VACUUM FULL pg_attribute")
        with self.server.connect(autocommit=False) as one:
            one.execute("ALTER TABLE acc DROP c")
            one.execute("INSERT INTO acc (id) VALUES (2)")
            # Not visible to others: what COPY would wait for is copied before.
            lsn = self.server.insert_lsn()
            before = self.steps[-1][1]
            self.steps.append(("change of columns in progress", before._replace(lsn=lsn)))
            one.rollback()
        self.server.execute("DROP TABLE acc")

    def _two_phase(self) -> None:
        with self.server.connect() as one:
            one.execute("BEGIN")
            one.execute("UPDATE acc SET note = 'prepared' WHERE id = 20")
            one.execute("SAVEPOINT a")
            one.execute("DELETE FROM acc WHERE id = 21")
            one.execute("PREPARE TRANSACTION 'two'")
        self.step("prepared")
        self.step("commit prepared", "COMMIT PREPARED 'two'")
        with self.server.connect() as one:
            one.execute("BEGIN")
            one.execute("DELETE FROM acc WHERE id < 100")
            one.execute("PREPARE TRANSACTION 'three'")
        self.step("rollback prepared", "ROLLBACK PREPARED 'three'")


class Told(Past):
    types: list[Copied]
    steps: list[tuple[str, Copied]]
    last_lsn: int


@pytest.fixture(scope="module")
def past(pg_version: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    with PostgresServer(pg_version, config=CONFIG) as server:
        backup = server.base_backup(tmp_path_factory.mktemp("backup") / "base")
        run_file(server, TYPES)
        types = copy_everything(server)
        story = Story(server)
        story.run()
        server.execute("CREATE UNLOGGED TABLE volatile (id int)")
        server.execute("CREATE VIEW looked AS SELECT 1 AS one")
        last_lsn = server.insert_lsn()
        server.stop()
        told = Told(server, backup, tmp_path_factory.mktemp("store"))
        told.types, told.steps, told.last_lsn = types, story.steps, last_lsn
        yield told
        told.service.index.close()


async def exported(
    cluster: ClusterAt, table: str, form: str = "copy", **options: str
) -> tuple[bytes, ExportResult]:
    out = io.BytesIO()
    done = await export_rows(cluster, ExportRequest(table, format=form, **options), out)  # type: ignore[arg-type]
    return out.getvalue(), done


def first_difference(got: bytes, expected: bytes) -> str:
    lines = list(zip(got.split(b"\n"), expected.split(b"\n"), strict=False))
    for number, (ours, theirs) in enumerate(lines):
        if ours != theirs:
            return f"line {number}: expected {theirs[:300]!r}, got {ours[:300]!r}"
    return f"expected {len(expected)} bytes, got {len(got)}"


async def test_every_type_as_copy_prints_it(past: Told) -> None:
    wrong = []
    for one in past.types:
        for form, expected in one.texts.items():
            name = {"text": "copy"}.get(form, form)
            got, done = await exported(past.at(one.lsn), f"postgres.{one.table}", name)
            if got != expected or done.damaged:
                wrong.append((one.table, form, first_difference(got, expected), done.damaged))
    assert wrong == []
    assert len(past.types) >= 41


async def test_rows_at_every_step_of_a_story(past: Told) -> None:
    wrong = []
    for what, one in past.steps:
        got, done = await exported(past.at(one.lsn), "postgres.public.acc")
        if got != one.texts["text"] or done.damaged:
            wrong.append((what, first_difference(got, one.texts["text"]), done.damaged))
    assert wrong == []


async def test_a_key_reads_a_handful_of_pages(past: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    whole = past.service.get_page

    async def counted(tag: BufferTag, at_lsn: int | None = None, *, wait_s: float = 0.0) -> bytes:
        asked.append(tag)
        return await whole(tag, at_lsn)

    def counted_too(locator: RelFileLocator, fork: int, block: Block) -> Block:
        asked.append((locator, fork, block.number))
        return block

    monkeypatch.setattr(past.service, "get_page", counted)
    monkeypatch.setattr(past.service, "get_pages", changed_pages(past.service, counted_too))
    wanted = ("made", "multixacts of lockers and an updater", "deleted", "used again", "clustered")
    for what, one in past.steps:
        if what not in wanted:
            continue
        lines = one.texts["text"].splitlines(keepends=True)
        await exported(past.at(one.lsn), "acc", where="id = 1")  # loads the catalogs
        for number in (1, 9, 42, 75, 110, 300, 2002, 9999):
            asked.clear()
            got, done = await exported(past.at(one.lsn), "acc", where=f"id = {number}")
            expected = [line for line in lines if line.split(b"\t")[0] == b"%d" % number]
            assert (got, done.notes) == (b"".join(expected), []), (what, number)
            assert len(asked) < 12
        got, _done = await exported(past.at(one.lsn), "acc", where="id = 9.5")
        assert got == b""


async def test_what_cannot_be_read_is_refused_by_name(past: Told) -> None:
    cluster = past.at(past.last_lsn)
    with pytest.raises(NameNotFound, match="there is no acc at that moment in postgres"):
        await cluster.find("acc")
    with pytest.raises(NameNotFound, match=r"did you mean .*public\.t_toast"):
        await cluster.find("t_tost")
    with pytest.raises(NameNotFound, match="there is no database 'nowhere': there are postgres"):
        await cluster.find("nowhere.public.acc")
    with pytest.raises(NoRows, match=r"public\.volatile is unlogged: WAL does not tell its rows"):
        await cluster.table("volatile")
    with pytest.raises(NoRows, match=r"public\.looked is a view: it has no rows of its own"):
        await cluster.table("looked")
    with pytest.raises(NameNotFound, match="t_num has no column 'zz': it has id, a, b, "):
        await cluster.table("t_num", columns=["zz"])


async def test_tables_are_listed_as_of_the_moment(past: Told) -> None:
    _what, one = past.steps[0]
    found = {table.full_name: table for table in await describe_tables(past.at(one.lsn), None)}
    acc = found["postgres.public.acc"]
    assert (acc.kind, acc.size > 8192) == ("table", True)
    assert acc.columns == [
        ("id", "integer", True),
        ("note", "text", False),
        ("amount", "numeric", False),
    ]
    assert 'postgres."Sch x"."Tab y"' in found
    later = await describe_tables(past.at(past.last_lsn), "postgres")
    assert "postgres.public.acc" not in {table.full_name for table in later}


async def test_inserts_put_the_same_rows_back(past: Told) -> None:
    """Into a server of its own: the statements are SQL, and the rows come out as they were."""
    names = ("t_num", "t_text", "t_arr", "t_json", "t_date", "t_range", "t_cols")
    by_name = {one.table: one for one in past.types}
    with PostgresServer(past.version) as server:
        run_file(server, TYPES)
        for name in names:
            one = by_name[quoted("public", name)]
            statements, done = await exported(past.at(one.lsn), f"public.{name}", "insert")
            assert done.damaged == []
            with server.connect() as session:
                session.execute(f"TRUNCATE {name}".encode())
                session.execute(statements)
            (again,) = copied(server, [(name, name)])
            assert again.texts["text"] == one.texts["text"], name


@pytest.mark.pg_versions(18)
async def test_damaged_pages_lose_their_rows_only(
    past: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    _what, one = past.steps[0]
    cluster = past.at(one.lsn)
    table = await cluster.table("acc")
    locator = table.catalog.locator(table.relation)
    assert locator is not None

    def damage(here: RelFileLocator, fork: int, block: Block) -> Block:
        if (here, fork, block.number) != (locator, 0, 1):
            return block
        page = block.rebuilt()
        return block._replace(page=page[:20] + b"\xff" * 40 + page[60:])

    monkeypatch.setattr(past.service, "get_pages", changed_pages(past.service, damage))
    got, done = await exported(cluster, "acc")
    assert [(lost.block, lost.offset) for lost in done.damaged] == [(1, None)]
    kept = set(got.split(b"\n"))
    assert kept < set(one.texts["text"].split(b"\n"))
    assert len(kept) > 100
