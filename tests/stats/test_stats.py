"""``walstream stats``: every sum, in every form, whole or between two LSNs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.support.archives import mixed_wal, write_segments
from tests.support.walgen import SEGMENT, WalWriter, record_body
from walstream.cli.stats import command
from walstream.scanning.ending import EndKind
from walstream.scanning.opening import open_wal
from walstream.stats.breakdown import FIRST, as_json, collect
from walstream.stats.record_stats import count_records
from walstream.stats.report import curve
from walstream.wal.model import POSTGRES_EPOCH_S
from walstream.wal.record import decode_wal_record


def run(*arguments: str) -> str:
    result = CliRunner().invoke(command, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("part", [False, True], ids=("all", "part"))
def test_sums(tmp_path: Path, threads: int, part: bool) -> None:
    wal = mixed_wal()
    write_segments(tmp_path, wal.close())
    records = wal.records
    start, end = 0, None
    if part:
        start, end = records[1000].start_lsn, records[-1000].start_lsn
        records = records[1000:-1000]
    source = open_wal(tmp_path)
    totals, version, ending = count_records(source, threads, start, end)
    assert ending is not None
    assert ending.kind is (EndKind.LIMIT if part else EndKind.CLEAN)
    first = totals.first_lsn
    assert (first, version, totals.end_lsn) == (records[0].start_lsn, 18, records[-1].end_lsn)
    sums = collect(source, start, end)
    assert sums.first_lsn == first
    for mine in (totals, sums.totals):
        assert sum(mine.counts) == len(records)
        assert sum(mine.record_bytes) + sum(mine.fpi_bytes) == sum(
            len(record.data) for record in records
        )
    decoded = [decode_wal_record(record, 18) for record in records]
    commits = [record for record in decoded if record.rmgr_id == 1]
    assert totals.counts[16] == sums.totals.counts[16] == len(commits)
    report = as_json(sums, 100)
    blocks = [block for record in decoded for block in record.blocks]
    assert sum(row["block_references"] for row in report["relations"]) == len(blocks)
    assert len(report["relations"]) == 3
    images = [len(block.image.data) for block in blocks if block.image]
    assert report["image_causes"] == [
        {"cause": FIRST, "images": len(images), "image_bytes": sum(images)}
    ]
    assert report["fpi_bytes"] == sum(images)
    assert [fork["fork"] for fork in report["forks"]] == ["main"]
    assert report["transactions"]["count"] == len({record.xid for record in decoded})
    largest = report["transactions"]["largest"][0]
    mine_bytes = [record.total_length for record in decoded if record.xid == largest["xid"]]
    assert (largest["records"], largest["bytes"]) == (len(mine_bytes), sum(mine_bytes))
    assert sum(row["commits"] for row in report["times"]) == len(commits)
    seconds = {int.from_bytes(record.main_data, "little") // 1_000_000 for record in commits}
    assert [row["second"] - POSTGRES_EPOCH_S for row in report["times"]] == sorted(seconds)
    assert sum(row["bytes"] for row in report["times"]) == commits[-1].end_lsn - first


def test_command(tmp_path: Path) -> None:
    wal = mixed_wal(2)
    write_segments(tmp_path, wal.close())
    path = str(tmp_path)
    table = run(path)
    assert table.startswith("WAL statistics between 0/100028 and ")
    assert run(path, "-j", "1") == table
    assert "Heap/INSERT" in run(path, "--by", "record")
    every = run(path, "--by", "all", "-n", "2")
    for words in ("Relations", "Forks", "Page images by cause", "Largest of", "WAL by time"):
        assert words in every
    assert every.startswith(table)
    report = json.loads(run(path, "--format", "json"))
    assert report["records"] == len(wal.records)
    target = tmp_path / "report.html"
    run(path, "--format", "html", "-o", str(target))
    page = target.read_text()
    assert page.startswith("<!doctype html>")
    assert "<svg" in page
    assert "<script" not in page
    assert "http" not in page
    middle = f"0/{2 * SEGMENT:X}"
    before = json.loads(run(path, "--format", "json", "--end", middle))["records"]
    after = json.loads(run(path, "--format", "json", "--start", middle))["records"]
    assert before + after == len(wal.records)


def test_padding_is_no_traffic_and_idle_time_has_no_slope(tmp_path: Path) -> None:
    wal = WalWriter()
    for second in (10, 11, 100):
        wal.add_of_length(1000)
        body = record_body(18, (), (second * 1_000_000).to_bytes(8, "little"))
        wal.add(1, 0, 700, body)
        if second == 11:
            wal.switch()
    write_segments(tmp_path, wal.close())
    sums = collect(open_wal(tmp_path))
    times = as_json(sums, 10)["times"]
    assert [row["second"] - POSTGRES_EPOCH_S for row in times] == [10, 11, 100]
    assert max(row["bytes"] for row in times) < 1300
    plot = curve("", [(row["second"], row["bytes"]) for row in times])
    # Three columns, each as wide as one of 91 seconds.
    assert plot.count("h9.67V200z") == 3
