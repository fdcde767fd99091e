"""Types that only an extension can print, and names that are not UTF-8."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.rows.pasts import CONFIG, Past, copied
from tests.support.servers import PostgresServer
from walstream.errors import NoRows
from walstream.rows.diff import UndoWriter, diff_tables
from walstream.rows.export import ExportRequest, export_rows
from walstream.text import decode

MAKE = """
    CREATE EXTENSION hstore; CREATE EXTENSION citext;
    CREATE DOMAIN labels AS hstore;
    CREATE TYPE pair AS (a int, b hstore);
    CREATE TABLE own (id int PRIMARY KEY, c citext, cs citext[]);
    INSERT INTO own SELECT i, 'Text ' || i, ARRAY['A', 'b']::citext[] FROM generate_series(1, 5) i;
    CREATE TABLE ext (id int PRIMARY KEY, note text, h hstore);
    INSERT INTO ext SELECT i, 'note ' || i, hstore('k', i::text) FROM generate_series(1, 5) i;
    CREATE TABLE parts (id int, hs hstore[], d labels, p pair, ds labels[]);
    INSERT INTO parts SELECT 1, ARRAY[h], h, (1, h)::pair, ARRAY[h]::labels[] FROM ext LIMIT 1;
    CREATE TABLE empty_ext (id int, h hstore)
"""
LATIN1 = "tables_in_latin1"
LATIN1_MAKE = b"""
    CREATE TYPE "gr\xfcn" AS ENUM ('hell\xfc', 'dunkel');
    CREATE TABLE "Stra\xdfe" (id int PRIMARY KEY, "caf\xe9" text, e "gr\xfcn", r regclass);
    INSERT INTO "Stra\xdfe" SELECT i, 'na\xefve ' || i, 'hell\xfc', '"Stra\xdfe"'::regclass
        FROM generate_series(1, 9) i
"""


class Foreign(NamedTuple):
    """``moments``: LSNs by name. ``own`` and ``latin1``: what COPY gave of a table."""

    past: Past
    moments: dict[str, int]
    own: bytes
    latin1: bytes


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Foreign]:
    with PostgresServer(18, config=CONFIG) as server:
        backup = server.base_backup(tmp_path_factory.mktemp("backup") / "base")
        server.execute(MAKE)
        server.execute(f"CREATE DATABASE {LATIN1} ENCODING LATIN1 LOCALE 'C' TEMPLATE template0")
        with server.connect(dbname=LATIN1) as session:
            session.execute(b"SET client_encoding = 'SQL_ASCII'")
            session.execute(LATIN1_MAKE)
            with session.cursor().copy(b'COPY "Stra\xdfe" TO STDOUT') as copy:
                latin1 = b"".join(map(bytes, copy))
        (own,) = copied(server, [("own", "own")])
        moments = {"made": server.insert_lsn()}
        server.execute("UPDATE ext SET note = 'changed' WHERE id < 4")
        moments["changed"] = server.insert_lsn()
        server.execute("DELETE FROM ext WHERE id = 5")
        moments["deleted"] = server.insert_lsn()
        server.execute("CREATE TABLE behind (id int)")  # a record behind that moment, on disk
        past = Past(server, backup, tmp_path_factory.mktemp("store"))
        yield Foreign(past, moments, own.texts["text"], latin1)
        past.service.index.close()


async def exported(foreign: Foreign, table: str, form: str) -> tuple[bytes, list[str]]:
    out = io.BytesIO()
    cluster = foreign.past.at(foreign.moments["made"])
    database, _, name = table.rpartition("/")
    result = await export_rows(cluster, ExportRequest(name, database or None, format=form), out)
    return out.getvalue(), result.notes


async def test_an_extension_type_made_of_a_builtin_one_is_its_text(foreign: Foreign) -> None:
    assert await exported(foreign, "public.own", "copy") == (foreign.own, [])
    statements, _ = await exported(foreign, "public.own", "insert")
    assert statements.count(b"'Text ") == 5


@pytest.mark.parametrize(
    ("table", "columns"), [("ext", ["h"]), ("parts", ["hs", "d", "p", "ds"]), ("empty_ext", ["h"])]
)
async def test_what_only_an_extension_can_print_is_marked(
    foreign: Foreign, table: str, columns: list[str]
) -> None:
    """Alone, and within an array, a domain or a composite."""
    _, notes = await exported(foreign, f"public.{table}", "copy")
    assert [note.split()[1] for note in notes] == columns
    assert all("only its extension can print" in note for note in notes)


@pytest.mark.parametrize("table", ["ext", "parts", "empty_ext"])
async def test_no_sql_is_made_of_it(foreign: Foreign, table: str) -> None:
    """It would be taken, and be another value."""
    with pytest.raises(NoRows, match="no SQL can be made of column h"):
        await exported(foreign, f"public.{table}", "insert")


async def test_undo_takes_back_what_it_can_say(foreign: Foreign) -> None:
    made, changed, deleted = [
        await foreign.past.at(foreign.moments[name]).table("public.ext")
        for name in ("made", "changed", "deleted")
    ]
    statements = list(UndoWriter(await diff_tables(made, changed)).statements())
    assert len(statements) == 3
    assert all(one.startswith("UPDATE public.ext SET note = 'note ") for one in statements)
    with pytest.raises(NoRows, match="no SQL can be made of column h"):
        list(UndoWriter(await diff_tables(changed, deleted)).statements())


async def test_names_and_labels_of_another_encoding(foreign: Foreign) -> None:
    name = decode(b'"Stra\xdfe"')
    got, notes = await exported(foreign, f"{LATIN1}/{name}", "copy")
    assert (got, notes) == (foreign.latin1, [])
    statements, _ = await exported(foreign, f"{LATIN1}/{name}", "insert")
    line = b'INSERT INTO public."Stra\xdfe" (id, "caf\xe9", e, r) VALUES '
    assert statements.splitlines()[0] == line + b"(1, 'na\xefve 1', 'hell\xfc', '\"Stra\xdfe\"');"
    lines, _ = await exported(foreign, f"{LATIN1}/{name}", "json")
    assert list(json.loads(lines.splitlines()[0])) == ["id", "caf\\xe9", "e", "r"]
