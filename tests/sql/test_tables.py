"""WAL as tables: Arrow, DuckDB with push-down on LSNs, and the ``sql`` command."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest
from click.testing import CliRunner

import walstream
from tests.support.archives import mixed_wal, write_segments
from tests.support.walgen import SEGMENT, WalWriter
from walstream.cli.sql import command
from walstream.sql import tables
from walstream.wal.record import decode_wal_record


@pytest.fixture
def wal(tmp_path: Path) -> WalWriter:
    written = mixed_wal()
    write_segments(tmp_path, written.close())
    return written


def test_tables_hold_every_record(wal: WalWriter, tmp_path: Path) -> None:
    scan = walstream.scan(tmp_path)
    decoded = [decode_wal_record(record, 18) for record in wal.records]
    records = scan.to_arrow().to_pydict()
    assert records["start_lsn"] == [record.start_lsn for record in decoded]
    assert records["end_lsn"] == [record.end_lsn for record in decoded]
    assert records["xid"] == [record.xid for record in decoded]
    assert records["block_count"] == [len(record.blocks) for record in decoded]
    assert set(zip(records["rmgr"], records["operation"], strict=True)) == {
        ("Heap", "INSERT"),
        ("Transaction", "COMMIT"),
    }
    blocks = scan.to_arrow("blocks").to_pydict()
    pairs = [(record, block) for record in decoded for block in record.blocks]
    assert blocks["start_lsn"] == [record.start_lsn for record, _ in pairs]
    assert blocks["rel"] == [block.tag.rel_number for _, block in pairs]
    assert blocks["block"] == [block.tag.block for _, block in pairs]
    assert blocks["apply_image"] == [block.image is not None for _, block in pairs]
    assert set(blocks["fork"]) == {"main"}
    assert set(blocks["compression"]) == {"none"}
    commits = scan.to_arrow("commits").to_pydict()
    ends = [record for record in decoded if record.rmgr_id == 1]
    start = datetime(2000, 1, 1, tzinfo=UTC)
    assert commits["time"] == [
        start + timedelta(microseconds=int.from_bytes(record.main_data, "little"))
        for record in ends
    ]
    assert set(commits["kind"]) == {"commit"}


@pytest.mark.parametrize("name", tables.TABLES)
def test_range(wal: WalWriter, tmp_path: Path, name: str) -> None:
    low, high = wal.records[500].start_lsn, wal.records[-500].start_lsn
    whole = walstream.scan(tmp_path).to_arrow(name)
    start = ds.field("start_lsn")
    expected = whole.filter((start >= low) & (start < high)).to_pydict()
    assert walstream.scan(tmp_path, low, high).to_arrow(name).to_pydict() == expected
    dataset = walstream.scan(tmp_path).to_dataset(name)
    assert dataset.to_table(filter=(start >= low) & (start < high)).to_pydict() == expected
    assert walstream.scan(tmp_path, high, low).to_arrow(name).num_rows == 0


@pytest.mark.parametrize(
    ("text", "bounds"),
    [
        ("((start_lsn >= 5) and (start_lsn < 70))", (5, 71)),
        ("(start_lsn == 9)", (9, 10)),
        ("((end_lsn <= 50) and (xid > 3))", (0, 51)),
        ("((start_lsn >= 5) or (xid == 4))", (0, None)),
        ("invert((start_lsn >= 5))", (0, None)),
        ("(end_lsn > 50)", (0, None)),
        ("is_in(start_lsn, [5, 6])", (0, None)),
    ],
)
def test_bounds_of_a_filter(text: str, bounds: tuple[int, int | None]) -> None:
    assert tables.lsn_bounds(text) == bounds


@pytest.mark.parametrize("name", tables.TABLES)
def test_polars_has_what_arrow_has(wal: WalWriter, tmp_path: Path, name: str) -> None:
    scan = walstream.scan(tmp_path)
    frame = scan.to_polars(name)
    assert frame.columns == scan.to_arrow(name).column_names
    assert frame.to_dict(as_series=False) == scan.to_arrow(name).to_pydict()
    assert frame.height > 10


def test_sql_reads_only_the_segments_it_needs(wal: WalWriter, tmp_path: Path) -> None:
    # Without the other segments a query over one of them still works.
    for path in sorted(tmp_path.iterdir())[2:]:
        path.write_bytes(b"\xff" * SEGMENT)
    connection = walstream.scan(tmp_path).to_duckdb()
    count = connection.execute(
        "SELECT count(*), min(lsn_text(start_lsn)) FROM records WHERE start_lsn < lsn('0/180000')"
    ).fetchone()
    mine = [record for record in wal.records if record.start_lsn < 0x180000]
    assert count == (len(mine), "0/100028")


def run(*arguments: str, given: str | None = None) -> tuple[int, str]:
    result = CliRunner().invoke(command, list(arguments), input=given)
    return result.exit_code, result.output


def test_command(wal: WalWriter, tmp_path: Path) -> None:
    path = str(tmp_path)
    query = "SELECT rmgr, count(*) AS n FROM records GROUP BY 1 ORDER BY 1"
    code, text = run(path, query, "--format", "json")
    assert code == 0
    rows: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
    assert [row["rmgr"] for row in rows] == ["Heap", "Transaction"]
    assert sum(row["n"] for row in rows) == len(wal.records)
    assert "Heap" in run(path, query)[1]
    code, text = run(path, "--format", "tsv", given=query + ";\nSELECT 1 + 1\n")
    assert (code, text.splitlines()[-1]) == (0, "2")
    assert run(path, "SELECT nothing FROM nowhere")[0] == 1
    assert run(path, given="SELECT nothing;\n")[0] == 1


def test_tables_fit_the_terminal(
    wal: WalWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    result = CliRunner().invoke(command, [str(tmp_path), "SELECT * FROM blocks LIMIT 2"])
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "0/100028" in result.stdout
    assert result.stderr.startswith("too wide, left out: ")
