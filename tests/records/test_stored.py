"""``read_wal``: the records of real WAL as pg_waldump prints them, from all that holds WAL."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tarfile
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.support.archives import write_segments
from tests.support.binaries import find_binaries
from tests.support.servers import PostgresServer
from tests.support.walgen import SEGMENT as GENERATED
from tests.support.walgen import WalWriter, record_body
from tests.support.workload import WORKLOAD_CONFIG, run_sql_files
from walstream import (
    RecordError,
    SegmentMissing,
    StorageError,
    WalError,
    WalRecord,
    format_lsn,
    parse_lsn,
    read_wal,
)

SEGMENT = 1 << 20

pytestmark = pytest.mark.pg_versions(15, 18)


@pytest.fixture(scope="module")
def wal(pg_version: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp(f"wal{pg_version}")
    with PostgresServer(pg_version, config=WORKLOAD_CONFIG, segment_size=SEGMENT) as server:
        run_sql_files(server, "other", "heap")
        server.stop()
        for file in server.wal_directory.iterdir():
            if file.is_file() and any(file.read_bytes()[:8]):
                shutil.copy(file, path)
    return path


def names(wal: Path) -> list[str]:
    return sorted(path.name for path in wal.iterdir())


def pg_waldump(version: int, *arguments: object) -> list[str]:
    program = find_binaries(version).client("pg_waldump")
    assert program is not None
    command = [str(program), *map(str, arguments)]
    found = subprocess.run(command, capture_output=True, check=False, text=True)
    return [line for line in found.stdout.splitlines() if line.startswith("rmgr:")]


def line_of(record: WalRecord) -> str:
    """The record as pg_waldump prints it, up to the description."""
    high, low = record.prev_lsn >> 32, record.prev_lsn & 0xFFFFFFFF
    start = f"{record.start_lsn >> 32:X}/{record.start_lsn & 0xFFFFFFFF:08X}"
    return (
        f"rmgr: {record.rmgr} tx: {record.xid} lsn: {start}, prev {high:X}/{low:08X}, "
        f"desc: {record.operation} {record.description}"
    ).rstrip()


def same_lines(records: list[WalRecord], lines: list[str]) -> None:
    """Compares what both print; pg_waldump pads, and goes on with the blocks."""
    assert len(records) == len(lines)
    for record, line in zip(records, lines, strict=True):
        spaced = re.sub(r" +", " ", line)
        found = re.fullmatch(
            r"(rmgr: \S+) len \(rec/tot\): *\d+/ *(\d+), (tx: *\d+), (lsn: .*)", spaced
        )
        assert found is not None, line
        manager, total, transaction, rest = found.groups()
        expected = f"{manager} {transaction} {rest}"
        assert re.sub(r" +", " ", expected).startswith(re.sub(r" +", " ", line_of(record)))
        assert record.total_length == int(total)


def everything(wal: Path, version: int) -> list[str]:
    first = int(names(wal)[0][16:], 16) * SEGMENT
    return pg_waldump(version, "-p", wal, "-s", format_lsn(first))


def test_the_records_of_a_directory(wal: Path, pg_version: int) -> None:
    records = list(read_wal(wal))
    same_lines(records, everything(wal, pg_version))
    assert {record.version for record in records} == {pg_version}
    for before, record in pairwise(records):
        assert record.prev_lsn == before.start_lsn
        assert record.start_lsn >= before.end_lsn


def test_a_part_of_it(wal: Path, pg_version: int) -> None:
    for arguments, chosen in (
        (["-r", "Heap", "-r", "Transaction"], list(read_wal(wal, rmgr=["heap", "Transaction"]))),
        (["-r", "Btree"], list(read_wal(wal, rmgr="Btree", threads=2))),
        (["-R", "1663/5/1259"], list(read_wal(wal, relation="base/5/1259"))),
        (["-R", "1663/5/1259", "-B", "0"], list(read_wal(wal, relation="1663/5/1259", block=0))),
        (["-x", "740"], list(read_wal(str(wal), xid=740))),
    ):
        first = int(names(wal)[0][16:], 16) * SEGMENT
        same_lines(chosen, pg_waldump(pg_version, "-p", wal, "-s", format_lsn(first), *arguments))
    records = list(read_wal(wal))
    start, end = records[100].start_lsn, records[200].start_lsn
    part = list(read_wal(wal, format_lsn(start), end))
    assert [record.start_lsn for record in part] == [r.start_lsn for r in records[100:200]]


def test_one_segment_a_store_an_archive_a_stream(
    wal: Path, pg_version: int, tmp_path: Path
) -> None:
    one = list(read_wal(wal / names(wal)[1]))
    same_lines(one, pg_waldump(pg_version, wal / names(wal)[1]))
    whole = [(record.start_lsn, record.data) for record in read_wal(wal)]

    store = tmp_path / "store"
    shutil.copytree(wal, store / "wal")
    (store / "walstream.toml").touch()
    cluster = tmp_path / "data"
    shutil.copytree(wal, cluster / "pg_wal")
    archive = tmp_path / "wal.tar"
    with tarfile.open(archive, "w") as tar:
        for name in names(wal):
            tar.add(wal / name, name)
    stream = io.BytesIO(b"".join((wal / name).read_bytes() for name in names(wal)))
    for source in (store, cluster, archive, stream):
        assert [(r.start_lsn, r.data) for r in read_wal(source)] == whole


def test_times_and_subtransactions(wal: Path) -> None:
    commits = [record for record in read_wal(wal, rmgr="Transaction") if record.xact_end]
    times = [record.time for record in commits if record.time is not None]
    assert len(times) == len(commits)
    assert max(times) == times[-1]
    assert timedelta(0) <= datetime.now(UTC) - times[-1] < timedelta(hours=1)
    assert any(r.xact_end.subxids for r in commits if r.xact_end)
    assert all(record.time is None for record in read_wal(wal, rmgr="Heap"))


def test_good_records_come_before_the_error(wal: Path, tmp_path: Path) -> None:
    whole = list(read_wal(wal))
    damaged = tmp_path / "damaged"
    shutil.copytree(wal, damaged)
    name = names(wal)[1]
    data = bytearray((wal / name).read_bytes())
    at = SEGMENT // 2 + 4000
    data[at] ^= 0xFF
    (damaged / name).write_bytes(data)
    found = []
    with pytest.raises(WalError) as caught:
        for record in read_wal(damaged):
            found.append(record)  # noqa: PERF402
    bad = int(name[16:], 16) * SEGMENT + at
    assert [r.start_lsn for r in found] == [r.start_lsn for r in whole if r.end_lsn <= bad]
    assert caught.value.lsn == found[-1].end_lsn

    (damaged / name).unlink()
    with pytest.raises(SegmentMissing):
        list(read_wal(damaged))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"start": "abc"}, "invalid LSN"),
        ({"rmgr": "Heap3"}, "does not exist"),
        ({"rmgr": "custom7"}, "does not exist"),
        ({"relation": "base"}, "invalid relation"),
        ({"block": 0}, "expected a relation"),
        ({"rmgr": "Heap", "block": 7}, "expected a relation"),
    ],
)
def test_wrong_arguments_are_told_at_once(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_wal("/nowhere", **arguments)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="could not"):
        list(read_wal(tmp_path / "none"))


def test_custom_managers_and_unknown_bodies(tmp_path: Path) -> None:
    writer = WalWriter(18)
    writer.add(133, 0x10, 7, record_body(18, (), b"abc"))
    writer.add(1, 0x00, 7, record_body(18, (), b"\0"))
    writer.add(1, 0x00, 7, record_body(18, (), b"\xff" * 8))
    write_segments(tmp_path, writer.close(GENERATED))
    custom, short, late = read_wal(tmp_path)
    assert (custom.rmgr, custom.fields, custom.main_data) == ("custom133", {}, b"abc")
    assert (
        repr(custom) == f"<WalRecord {format_lsn(custom.start_lsn)} custom133/UNKNOWN (10) xid 7>"
    )
    for ask in (lambda: short.description, lambda: short.fields):
        with pytest.raises(RecordError, match=r"too short.* in record at ") as caught:
            ask()
        assert caught.value.lsn == short.start_lsn
    assert late.time == datetime(2000, 1, 1, tzinfo=UTC) - timedelta(microseconds=1)
    assert parse_lsn(format_lsn(custom.start_lsn)) == custom.start_lsn
