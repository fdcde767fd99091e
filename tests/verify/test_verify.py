"""``walstream verify``: the chain over runs, damage in the middle and at the end, gaps."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.support.archives import mixed_wal, write_segments
from tests.support.walgen import SEGMENT, WalWriter
from walstream.cli.verify import command
from walstream.scanning.opening import open_wal
from walstream.segments.names import segment_file_name
from walstream.verify.check import verify
from walstream.verify.report import Report, Verdict

threads = pytest.mark.parametrize("count", [1, 3], ids=("one thread", "three threads"))


def check(directory: Path, count: int) -> Report:
    done: list[int] = []
    report = verify(open_wal(directory), threads=count, progress=done.append)
    assert sum(done) == report.segments
    return report


def kinds(report: Report) -> list[str]:
    return [problem.kind for problem in report.problems]


@threads
def test_sound(tmp_path: Path, count: int) -> None:
    wal = mixed_wal()
    write_segments(tmp_path, wal.close())
    report = check(tmp_path, count)
    assert (report.verdict, report.problems) == (Verdict.SOUND, [])
    assert report.records == len(wal.records)
    assert (report.start_lsn, report.end_lsn) == (wal.records[0].start_lsn, wal.lsn)
    assert (report.version, report.segments, report.timeline) == (18, 4, 1)
    assert report.ending.startswith("zeros follow the last record")


@threads
@pytest.mark.parametrize("at", [40, 3000, SEGMENT - 20], ids=("start", "middle", "end"))
def test_damage_in_the_middle(tmp_path: Path, count: int, at: int) -> None:
    wal = mixed_wal()
    data = bytearray(wal.close())
    data[2 * SEGMENT + at] ^= 0x10
    write_segments(tmp_path, bytes(data))
    report = check(tmp_path, count)
    assert report.verdict == Verdict.DAMAGED
    assert len(report.problems) >= 1
    assert report.end_lsn == wal.lsn
    broken = 3 * SEGMENT + at
    assert any(
        problem.lost_start_lsn <= broken < (problem.lost_end_lsn or 0)
        for problem in report.problems
    )
    # No more than what shares pages with the damage is lost.
    lost = sum((problem.lost_end_lsn or 0) - problem.lost_start_lsn for problem in report.problems)
    assert lost < 4 * 8192
    assert len(wal.records) - report.records < 4 * 8192 // 60


@threads
def test_missing_segment(tmp_path: Path, count: int) -> None:
    wal = mixed_wal()
    write_segments(tmp_path, wal.close())
    (tmp_path / segment_file_name(1, 3, SEGMENT)).unlink()
    report = check(tmp_path, count)
    assert report.verdict == Verdict.MISSING
    assert "missing" in kinds(report)
    (gap,) = report.problems
    assert gap.lsn == 3 * SEGMENT
    # The records that go on into the gap and out of it are lost with it.
    before = max(record.start_lsn for record in wal.records if record.start_lsn < 3 * SEGMENT)
    after = min(record.start_lsn for record in wal.records if record.start_lsn >= 4 * SEGMENT)
    assert (gap.lost_start_lsn, gap.lost_end_lsn) == (before, after)


@threads
def test_truncated_tail(tmp_path: Path, count: int) -> None:
    wal = mixed_wal()
    cut = wal.records[-5].start_lsn + 30 - SEGMENT
    write_segments(tmp_path, bytes(wal.data)[:cut])
    report = check(tmp_path, count)
    assert report.verdict == Verdict.TRUNCATED
    assert kinds(report) == ["truncated"]
    assert report.end_lsn == wal.records[-6].end_lsn


@threads
def test_recycled_segments_after_the_end_are_no_damage(tmp_path: Path, count: int) -> None:
    wal = mixed_wal(2)
    data = wal.close()
    write_segments(tmp_path, data)
    # The server keeps old segments under the names that come next.
    for number in (3, 4):
        name = segment_file_name(1, number, SEGMENT)
        (tmp_path / name).write_bytes(data[:SEGMENT])
    report = check(tmp_path, count)
    assert (report.verdict, report.problems) == (Verdict.SOUND, [])
    assert report.records == len(wal.records)


@threads
def test_another_clusters_segment(tmp_path: Path, count: int) -> None:
    write_segments(tmp_path, mixed_wal().close())
    other = WalWriter(start_lsn=3 * SEGMENT, system_identifier=77)
    while other.lsn < 4 * SEGMENT:
        other.add_of_length(5000)
    name = segment_file_name(1, 3, SEGMENT)
    (tmp_path / name).write_bytes(bytes(other.data)[:SEGMENT])
    report = check(tmp_path, count)
    assert report.verdict == Verdict.WRONG_CLUSTER
    assert "other_system" in kinds(report)


@threads
def test_segment_of_another_history(tmp_path: Path, count: int) -> None:
    """The same cluster and LSNs, other records: only the chain between segments shows it."""
    write_segments(tmp_path, mixed_wal().close())
    other = WalWriter(start_lsn=3 * SEGMENT, prev=2 * SEGMENT)
    while other.lsn < 4 * SEGMENT:
        other.add_of_length(2000)
    name = segment_file_name(1, 3, SEGMENT)
    (tmp_path / name).write_bytes(bytes(other.data)[:SEGMENT])
    report = check(tmp_path, count)
    assert report.verdict == Verdict.DAMAGED


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(command, list(arguments))
    return result.exit_code, result.stdout


def test_command(tmp_path: Path) -> None:
    (tmp_path / "wal").mkdir()
    wal = mixed_wal()
    write_segments(tmp_path / "wal", wal.close())
    code, text = run(str(tmp_path / "wal"))
    assert code == 0
    assert f"4 segments, {len(wal.records)} records of PostgreSQL 18" in text
    assert "sound" in text
    with tarfile.open(tmp_path / "wal.tar", "w") as tar:
        tar.add(tmp_path / "wal", "wal")
    code, text = run("--json", str(tmp_path / "wal.tar"))
    assert (code, json.loads(text)["records"]) == (0, len(wal.records))
    (tmp_path / "wal" / segment_file_name(1, 2, SEGMENT)).unlink()
    code, text = run("--json", "-j", "2", str(tmp_path / "wal"))
    report = json.loads(text)
    assert (code, report["verdict"]) == (12, "missing")
    assert report["problems"][-1]["lsn"] == "0/200000"
    assert run("-q", str(tmp_path / "wal")) == (12, "")
