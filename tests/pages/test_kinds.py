"""Pages of every access method, against the server's own pageinspect and pg_visibility."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.servers import PostgresServer
from walstream.pages.kinds import UNKNOWN, page_view
from walstream.pages.text import page_json, page_lines

SETUP = """
CREATE EXTENSION pageinspect; CREATE EXTENSION pg_visibility;
CREATE TABLE t (id int, v int, words int[], p point, s text);
INSERT INTO t SELECT i, i % 50, ARRAY[i % 7, i % 1000], point(i, i % 90), 'text ' || i
  FROM generate_series(1, 20000) i;
CREATE INDEX t_btree ON t (id); CREATE INDEX t_dups ON t (v);
CREATE INDEX t_hash ON t USING hash (v); CREATE INDEX t_brin ON t USING brin (id);
CREATE INDEX t_gin ON t USING gin (words); CREATE INDEX t_gist ON t USING gist (p);
CREATE INDEX t_spgist ON t USING spgist (s);
CREATE TABLE l (words int[]); CREATE INDEX l_gin ON l USING gin (words);
INSERT INTO l SELECT ARRAY[i] FROM generate_series(1, 50) i;
CREATE SEQUENCE s; SELECT nextval('s'), nextval('s');
DELETE FROM t WHERE id % 3 = 0 AND id < 6000; UPDATE t SET v = v + 1 WHERE id = 19999;
"""


@pytest.fixture(scope="module", params=[15, 18])
def session(request: pytest.FixtureRequest) -> Iterator[psycopg.Connection[Any]]:
    with PostgresServer(request.param) as server, server.connect() as connection:
        connection.autocommit = True
        connection.execute(SETUP.encode())
        connection.execute("VACUUM t")
        yield connection


def pages(session: psycopg.Connection[Any], name: str, fork: str = "main") -> list[bytes]:
    size = session.execute("SELECT pg_relation_size(%s, %s) / 8192", (name, fork)).fetchone()
    assert size is not None
    rows = session.execute(
        "SELECT get_raw_page(%s, %s, i::int) FROM generate_series(0, %s - 1) i",
        (name, fork, size[0]),
    ).fetchall()
    return [bytes(row[0]) for row in rows]


def theirs(session: psycopg.Connection[Any], function: str, page: bytes) -> list[dict[str, Any]]:
    cursor = session.execute(f"SELECT * FROM {function}(%s)".encode(), (page,))
    assert cursor.description is not None
    names = [column.name for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def same(ours: dict[str, Any], other: dict[str, Any], *keys: str) -> None:
    for key in keys:
        assert ours[key] == other[key], (key, ours, other)


def test_btree(session: psycopg.Connection[Any]) -> None:
    kinds = set()
    for name in ("t_btree", "t_dups"):
        for number, page in enumerate(pages(session, name)):
            view = page_view(page, 0, number)
            kinds.add(view.kind)
            if number == 0:
                meta = session.execute(f"SELECT * FROM bt_metap('{name}')".encode()).fetchone()
                assert meta is not None
                assert tuple(view.fields.values()) == meta
                continue
            cursor = session.execute("SELECT * FROM bt_page_stats(%s, %s)", (name, number))
            assert cursor.description is not None
            stats = dict(
                zip([c.name for c in cursor.description], cursor.fetchone() or (), strict=True)
            )
            same(
                view.fields, stats, "live_items", "dead_items", "avg_item_size", "free_size",
                "btpo_prev", "btpo_next", "btpo_level", "btpo_flags",
            )  # fmt: skip
            rows = theirs(session, "bt_page_items", page)
            assert len(rows) == len(view.items)
            for item, row in zip(view.items, rows, strict=True):
                assert (item["offset"], item["tid"], item["length"]) == (
                    row["itemoffset"], row["ctid"], row["itemlen"],
                )  # fmt: skip
                assert item.get("tids") == row["tids"]
                same(item, row, "nulls", "vars")
                assert item["dead"] == bool(row["dead"])
    assert kinds == {"B-tree metapage", "B-tree leaf page", "B-tree root page"}


def test_hash(session: psycopg.Connection[Any]) -> None:
    kinds = set()
    for number, page in enumerate(pages(session, "t_hash")):
        view = page_view(page, 0, number)
        kinds.add(view.kind)
        if number == 0:
            (meta,) = theirs(session, "hash_metapage_info", page)
            assert [n for n in meta.pop("spares") if n] == view.fields["spares"]
            assert [n for n in meta.pop("mapp") if n] == view.fields["mapp"]
            same(view.fields, meta, *meta)
            continue
        ((kind,),) = session.execute("SELECT hash_page_type(%s)", (page,)).fetchall()
        assert view.kind in (f"hash {kind} page", "new page (never written)")
        if kind not in ("bucket", "overflow"):
            continue
        (stats,) = theirs(session, "hash_page_stats", page)
        same(view.fields, stats, "hasho_prevblkno", "hasho_nextblkno", "hasho_bucket", "hasho_flag")
        rows = theirs(session, "hash_page_items", page)
        assert [(i["offset"], i["tid"], i["hash"]) for i in view.items] == [
            (row["itemoffset"], row["ctid"], row["data"]) for row in rows
        ]
    assert {"hash metapage", "hash bucket page", "hash bitmap page"} <= kinds


def test_brin(session: psycopg.Connection[Any]) -> None:
    meta, revmap, *regular = pages(session, "t_brin")
    (row,) = theirs(session, "brin_metapage_info", meta)
    view = page_view(meta, 0, 0)
    assert int(row.pop("magic"), 16) == view.fields["magic"]
    same(view.fields, row, *row)
    tids = [row["pages"] for row in theirs(session, "brin_revmap_data", revmap)]
    assert [item["tid"] for item in page_view(revmap, 0, 1).items] == [
        text for text in tids if text != "(0,0)"
    ]
    for page in regular:
        view = page_view(page, 0, 2)
        found = session.execute(
            "SELECT DISTINCT itemoffset, blknum, placeholder "
            "FROM brin_page_items(%s, 't_brin') ORDER BY 1",
            (page,),
        ).fetchall()
        assert [(i["offset"], i["blknum"], i["placeholder"]) for i in view.items] == found


def test_gin(session: psycopg.Connection[Any]) -> None:
    kinds = set()
    for name in ("t_gin", "l_gin"):
        for number, page in enumerate(pages(session, name)):
            view = page_view(page, 0, number)
            kinds.add(view.kind)
            if number == 0:
                (meta,) = theirs(session, "gin_metapage_info", page)
                same(view.fields, meta, *meta)
                continue
            (opaque,) = theirs(session, "gin_page_opaque_info", page)
            same(view.fields, opaque, "rightlink", "maxoff", "flags")
            if view.kind == "GIN posting tree leaf page":
                rows = theirs(session, "gin_leafpage_items", page)
                assert [
                    {key: item[key] for key in ("first_tid", "nbytes", "tids")}
                    for item in view.items
                ] == rows
    assert {
        "GIN metapage", "GIN entry tree leaf page", "GIN posting tree leaf page",
        "GIN pending list page",
    } <= kinds  # fmt: skip


def test_gist(session: psycopg.Connection[Any]) -> None:
    for number, page in enumerate(pages(session, "t_gist")):
        view = page_view(page, 0, number)
        (opaque,) = theirs(session, "gist_page_opaque_info", page)
        same(view.fields, opaque, "nsn", "rightlink", "flags")
        rows = theirs(session, "gist_page_items_bytea", page)
        assert [(i["offset"], i["tid"], i["length"]) for i in view.items] == [
            (row["itemoffset"], row["ctid"], row["itemlen"]) for row in rows
        ]


def test_spgist(session: psycopg.Connection[Any]) -> None:
    kinds = [page_view(page, 0, n).kind for n, page in enumerate(pages(session, "t_spgist"))]
    assert kinds[0] == "SP-GiST metapage"
    assert set(kinds[1:]) <= {
        "SP-GiST inner page", "SP-GiST leaf page", "new page (never written)",
    }  # fmt: skip


def test_heap(session: psycopg.Connection[Any]) -> None:
    for number, page in enumerate(pages(session, "t")[-3:]):
        view = page_view(page, 0, number)
        for item, row in zip(view.items, theirs(session, "heap_page_items", page), strict=True):
            assert (item["offset"], item["length"]) == (row["lp"], row["lp_len"])
            if row["t_xmin"] is None:
                continue
            assert (item["xmin"], item["xmax"], item["ctid"]) == (
                int(row["t_xmin"]), int(row["t_xmax"]), row["t_ctid"],
            )  # fmt: skip
            flags = session.execute(
                "SELECT raw_flags FROM heap_tuple_infomask_flags(%s, %s)",
                (row["t_infomask"], row["t_infomask2"]),
            ).fetchone()
            assert flags is not None
            plain = {flag.removeprefix("HEAP_") for flag in flags[0]}
            assert set(item["flags"]) - {"XMIN_FROZEN"} <= plain | {"XMAX_LOCK_ONLY"}


def test_maps_and_sequences(session: psycopg.Connection[Any]) -> None:
    (vm,) = pages(session, "t", "vm")
    counts = session.execute("SELECT * FROM pg_visibility_map_summary('t')").fetchone()
    fields = page_view(vm, 2, 0).fields
    assert (fields["all_visible"], fields["all_frozen"]) == counts
    for number, page in enumerate(pages(session, "t", "fsm")):
        ((text,),) = session.execute("SELECT fsm_page_contents(%s)", (page,)).fetchall()
        view = page_view(page, 1, number)
        lines = [f"{item['node']}: {item['category']}" for item in view.items]
        assert text.splitlines() == [*lines, f"fp_next_slot: {view.fields['fp_next_slot']}"]
    (page,) = pages(session, "s")
    state = session.execute("SELECT last_value, log_cnt, is_called FROM s").fetchone()
    assert tuple(page_view(page, 0, 0).fields.values()) == state


@given(st.binary(min_size=200, max_size=200), st.binary(min_size=24, max_size=24))
def test_damaged_pages_are_shown(head: bytes, tail: bytes) -> None:
    page = head + bytes(8192 - len(head) - len(tail)) + tail
    for fork in range(4):
        assert page_json(page, fork)["kind"]
        assert list(page_lines(page, fork))


def test_what_is_not_clear_is_unknown() -> None:
    page = bytearray(8192)
    page[12:20] = bytes.fromhex("1800f01ff01f0420")
    assert page_view(bytes(page)).kind == "B-tree internal page"
    page[8188:8192] = b"\xff\xff\xff\xff"
    assert page_view(bytes(page)) == UNKNOWN
