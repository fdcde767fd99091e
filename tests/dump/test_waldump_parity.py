"""``walstream dump`` against pg_waldump: options, ranges, formats."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.dump.dumping import lsn_in, ours, segments, theirs
from walstream.cli.exit_codes import (
    USAGE,
)

pytestmark = pytest.mark.pg_versions(15, 18)


OPTIONS: list[list[str]] = [
    [],
    ["-b"],
    ["-n", "20"],
    ["-r", "Heap", "-r", "btree", "-b"],
    ["-r", "transaction"],
    ["-w", "-n", "30", "-b"],
    ["-F", "vm"],
    ["-R", "1663/5/1259"],
    ["-R", "1663/5/1259", "-B", "0"],
    ["-x", "740"],
    ["-q"],
    ["-z"],
    ["--stats"],
    ["--stats=record"],
    ["--stats=record", "-r", "Heap2"],
]


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_options_mean_what_they_mean_to_pg_waldump(
    wal: Path, pg_version: int, options: list[str]
) -> None:
    expected = theirs(pg_version, "-p", wal, "-s", lsn_in(wal, 0), *options)
    result = ours("-p", wal, "-s", lsn_in(wal, 0), *options)
    assert result.stdout == expected.stdout
    assert result.returncode == 0, result.stderr


def test_ranges(wal: Path, pg_version: int) -> None:
    names = segments(wal)
    start, end = lsn_in(wal, 1, 0x1234), lsn_in(wal, 1, 0x9011)
    for arguments in (
        [wal / names[0]],
        [wal / names[0], names[2]],
        ["-p", wal, names[1], "-z"],
        ["-p", wal, "-s", start, "-e", end],
        ["-p", wal, names[1], "-s", start, "-n", "5"],
    ):
        expected = theirs(pg_version, *arguments)
        result = ours(*arguments)
        assert result.stdout == expected.stdout, arguments
        assert result.returncode == expected.returncode == 0


def test_list_of_resource_managers(pg_version: int) -> None:
    assert ours("-r", "list").stdout == theirs(pg_version, "-r", "list").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["-r", "nothing"],
        ["-r", "custom5"],
        ["-R", "1/2"],
        ["-B", "3"],
        ["-s", "abc"],
        ["-F", "side"],
        ["-t", "0"],
        ["--stats=block"],
        ["a", "b", "c"],
        ["--format", "parquet"],
    ],
    ids=" ".join,
)
def test_wrong_options(arguments: list[str]) -> None:
    result = ours(*arguments)
    assert result.returncode == USAGE
    assert b"Traceback" not in result.stderr


def test_json_arrow_and_parquet_have_the_same_records(wal: Path, tmp_path: Path) -> None:
    text = ours(wal, "-n", "3000").stdout.decode().splitlines()
    objects = [
        json.loads(line) for line in ours(wal, "-n", "3000", "--format", "json").stdout.splitlines()
    ]
    assert len(objects) == len(text) == 3000
    for line, record in zip(text, objects, strict=True):
        assert f"desc: {record['operation']} {record['description']}" in line
        assert f"rmgr: {record['rmgr']} " in line
    raw = ours(wal, "-n", "3000", "--format", "arrow", "--describe").stdout
    table = pa.ipc.open_stream(raw).read_all()
    assert table.column("description").to_pylist() == [o["description"] for o in objects]
    assert table.column("operation").to_pylist() == [o["operation"] for o in objects]
    assert table.column("total_length").to_pylist() == [o["total_length"] for o in objects]
    blocks = [[(b["id"], b["block"]) for b in row] for row in table.column("blocks").to_pylist()]
    assert blocks == [[(b["id"], b["block"]) for b in o["blocks"]] for o in objects]
    target = tmp_path / "wal.parquet"
    assert ours(wal, "-r", "Heap", "--format", "parquet", "-o", target).returncode == 0
    stored = pq.read_table(target)
    heap = ours(wal, "-r", "Heap").stdout.splitlines()
    assert stored.num_rows == len(heap)
    assert set(stored.column("rmgr").to_pylist()) == {"Heap"}
