"""``walstream dump`` against pg_waldump: options, inputs, endings, formats."""

from __future__ import annotations

import gzip
import json
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import lz4.frame
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from tests.binaries import find_binaries
from tests.servers import PostgresServer
from tests.workload import WORKLOAD_CONFIG, run_sql_files
from walstream.cli.exit_codes import (
    CONNECTION,
    FAILED,
    SEGMENT_MISSING,
    STORAGE,
    USAGE,
    WAL_DAMAGED,
    WAL_TRUNCATED,
    WRONG_CLUSTER,
)

SEGMENT = 1 << 20
COMMAND = [sys.executable, "-c", "from walstream.cli import main; main()", "dump"]
pytestmark = pytest.mark.pg_versions(15, 18)


def ours(
    *arguments: object, stdin: bytes | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, check=False, cwd=cwd)


def theirs(version: int, *arguments: object) -> subprocess.CompletedProcess[bytes]:
    program = find_binaries(version).client("pg_waldump")
    assert program is not None
    command = [str(program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=False)


def is_zero(path: Path) -> bool:
    return not any(path.read_bytes()[:8])


@pytest.fixture(scope="module")
def wal(pg_version: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The segments of a small workload: complete ones, and a last one that is not full."""
    path = tmp_path_factory.mktemp(f"wal{pg_version}")
    with PostgresServer(pg_version, config=WORKLOAD_CONFIG, segment_size=SEGMENT) as server:
        run_sql_files(server, "other", "heap")
        server.stop()
        for file in server.wal_directory.iterdir():
            if file.is_file() and not is_zero(file):
                shutil.copy(file, path)
    return path


def segments(wal: Path) -> list[str]:
    return sorted(path.name for path in wal.iterdir())


def lsn_in(wal: Path, number: int, offset: int = 0) -> str:
    """An LSN within the segment of that number, counted from the first."""
    name = segments(wal)[number]
    return f"{int(name[8:16], 16):X}/{int(name[16:], 16) * SEGMENT + offset:X}"


def damaged_copy(wal: Path, target: Path) -> list[str]:
    for name in segments(wal):
        shutil.copy(wal / name, target)
    return segments(wal)


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


def test_saved_images_are_those_of_pg_waldump(wal: Path, pg_version: int, tmp_path: Path) -> None:
    saved = tmp_path / "ours"
    assert ours("-p", wal, "-q", "--save-fullpage", saved).returncode == 0
    count = len(list(saved.iterdir()))
    assert count > 20
    if pg_version >= 16:
        theirs(pg_version, "-p", wal, "-s", lsn_in(wal, 0), "-q", f"--save-fullpage={tmp_path}/t")
        assert {p.name: p.read_bytes() for p in (tmp_path / "t").iterdir()} == {
            p.name: p.read_bytes() for p in saved.iterdir()
        }
    again = ours("-p", wal, "-q", "--save-fullpage", saved)
    assert again.returncode == STORAGE
    assert b"exists but is not empty" in again.stderr


COMPRESSIONS = [
    pytest.param(15, "lz4", id="pg15-lz4"),
    pytest.param(15, "zstd", id="pg15-zstd"),
    pytest.param(16, "pglz", id="pg16-pglz"),
    pytest.param(17, "pglz", id="pg17-pglz"),
    pytest.param(18, "pglz", id="pg18-pglz"),
]


@pytest.mark.parametrize(("pg_version", "compression"), COMPRESSIONS)
def test_compressed_images(pg_version: int, compression: str, tmp_path: Path) -> None:
    config = {**WORKLOAD_CONFIG, "wal_compression": compression}
    with PostgresServer(pg_version, config=config, segment_size=SEGMENT) as server:
        run_sql_files(server, "heap")
        server.stop()
        path = tmp_path / "wal"
        path.mkdir()
        for file in server.wal_directory.iterdir():
            if file.is_file() and not is_zero(file):
                shutil.copy(file, path)
    start = ["-p", path, "-s", lsn_in(path, 0)]
    for options in (["-b"], ["-w"], ["-w", "-b", "-r", "Heap"], ["--stats=record", "-w"]):
        expected = theirs(pg_version, *start, *options).stdout
        assert ours("-p", path, *options).stdout == expected
        assert compression.encode() in expected or "-b" not in options
    saved = tmp_path / "ours"
    assert ours("-p", path, "-q", "--save-fullpage", saved).returncode == 0
    images = {page.name: page.read_bytes() for page in saved.iterdir()}
    assert len(images) > 50
    if pg_version >= 16:
        theirs(pg_version, *start, "-q", f"--save-fullpage={tmp_path}/theirs")
        assert images == {page.name: page.read_bytes() for page in (tmp_path / "theirs").iterdir()}
    for page in images.values():
        # Page size and layout version, which stand in the restored part of every page.
        assert len(page) == 8192
        assert page[18:20] == b"\x04\x20" or not any(page)


def test_compressed_and_partial_segments(wal: Path, tmp_path: Path) -> None:
    expected = ours(wal).stdout
    for number, name in enumerate(segments(wal)):
        data = (wal / name).read_bytes()
        match number % 5:
            case 0:
                (tmp_path / f"{name}.gz").write_bytes(gzip.compress(data, 1))
            case 1:
                (tmp_path / f"{name}.lz4").write_bytes(lz4.frame.compress(data))
            case 2:
                (tmp_path / f"{name}.zst").write_bytes(zstandard.compress(data))
            case 3:
                (tmp_path / f"{name}.partial").write_bytes(data)
            case 4:
                (tmp_path / name).write_bytes(data)
    result = ours("-p", tmp_path)
    assert result.stdout == expected
    assert result.returncode == 0
    # A compressed segment by its name.
    name = segments(wal)[0]
    assert ours(tmp_path / f"{name}.gz").stdout == ours(wal / name).stdout


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "tar.zst", "tar.lz4"])
def test_tar_archives(wal: Path, tmp_path: Path, kind: str) -> None:
    plain = tmp_path / "pg_wal.tar"
    with tarfile.open(plain, "w") as archive:
        # Not in order, and below a directory.
        for name in reversed(segments(wal)):
            archive.add(wal / name, f"pg_wal/{name}")
    archive_path = tmp_path / f"pg_wal.{kind}"
    data = plain.read_bytes()
    match kind:
        case "tar.gz":
            archive_path.write_bytes(gzip.compress(data, 1))
        case "tar.zst":
            archive_path.write_bytes(zstandard.compress(data))
        case "tar.lz4":
            archive_path.write_bytes(lz4.frame.compress(data))
    result = ours(archive_path, "-n", "2000")
    assert result.stdout == ours(wal, "-n", "2000").stdout
    assert result.returncode == 0


def test_standard_input(wal: Path) -> None:
    data = b"".join((wal / name).read_bytes() for name in segments(wal))
    result = ours("-", stdin=data)
    assert result.stdout == ours(wal).stdout
    assert result.returncode == 0
    # From the middle of a segment on, at a page.
    assert ours("-", "-n", "9", stdin=data[8192 * 5 :]).stdout.count(b"rmgr: ") == 9
    assert ours("-", stdin=b"no WAL").returncode == WAL_DAMAGED


def test_endings(wal: Path, tmp_path: Path) -> None:
    clean = ours(wal)
    assert clean.returncode == 0
    assert b"end of WAL at " in clean.stderr

    # Cut within a record: what comes before it is printed.
    names = damaged_copy(wal, tmp_path)
    for name in names[2:]:
        (tmp_path / name).unlink()
    record = clean.stdout.splitlines()[-1]
    assert record
    whole = (tmp_path / names[1]).read_bytes()
    lines = ours("-p", wal, names[1]).stdout.decode().splitlines()
    middle = lines[len(lines) // 2]
    lsn = int(middle.split("lsn: ")[1].split(",")[0].split("/")[1], 16)
    (tmp_path / names[1]).write_bytes(whole[: lsn % SEGMENT + 20])
    result = ours("-p", tmp_path)
    assert result.returncode == WAL_TRUNCATED, result.stderr
    assert b"within the record at" in result.stderr
    assert middle.encode() not in result.stdout
    assert lines[len(lines) // 2 - 1].encode() in result.stdout

    # A flipped bit in that record.
    flipped = bytearray(whole)
    flipped[lsn % SEGMENT + 22] ^= 1
    (tmp_path / names[1]).write_bytes(flipped)
    result = ours("-p", tmp_path)
    assert result.returncode == WAL_DAMAGED
    assert b"checksum" in result.stderr

    # Zeros where a page was, with WAL behind them, and without.
    (tmp_path / names[1]).write_bytes(whole[:65536] + bytes(8192) + whole[73728:])
    assert ours("-p", tmp_path).returncode == WAL_DAMAGED
    (tmp_path / names[1]).write_bytes(whole[:65536] + bytes(SEGMENT - 65536))
    assert ours("-p", tmp_path).returncode in (0, WAL_TRUNCATED)
    # An old segment under a new name.
    (tmp_path / names[1]).write_bytes((wal / names[0]).read_bytes())
    assert ours("-p", tmp_path).returncode in (0, WAL_TRUNCATED)

    # A hole.
    (tmp_path / names[1]).unlink()
    shutil.copy(wal / names[2], tmp_path)
    result = ours("-p", tmp_path)
    assert result.returncode == SEGMENT_MISSING
    assert names[1].encode() in result.stderr
    assert b"Traceback" not in result.stderr


def test_another_clusters_segment(wal: Path, tmp_path: Path) -> None:
    names = damaged_copy(wal, tmp_path)
    data = bytearray((tmp_path / names[1]).read_bytes())
    data[24:32] = (7).to_bytes(8, "little")
    (tmp_path / names[1]).write_bytes(data)
    result = ours("-p", tmp_path)
    assert result.returncode == WRONG_CLUSTER
    assert result.stdout


def test_nothing_to_read(tmp_path: Path) -> None:
    assert ours("-p", tmp_path).returncode == STORAGE
    assert ours("-p", tmp_path / "missing").returncode == STORAGE
    assert ours(cwd=tmp_path).returncode == STORAGE
    (tmp_path / "000000010000000000000001").write_bytes(bytes(1 << 20))
    result = ours("-p", tmp_path)
    assert result.returncode == FAILED
    assert b"could not find a valid record after" in result.stderr


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


@pytest.fixture
def live(pg_version: int) -> Iterator[PostgresServer]:
    with PostgresServer(pg_version, config={"wal_level": "logical"}) as server:
        yield server


def read_until(process: subprocess.Popen[bytes], words: bytes) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if words in line:
            return
    raise AssertionError(f"the dump ended before {words!r}")


def test_follow_a_servers_directory(live: PostgresServer) -> None:
    # A shell without job control starts its background processes with interrupts ignored.
    command = ["env", "--ignore-signal=INT", *COMMAND, "-p", str(live.wal_directory), "-f"]
    command += ["-r", "LogicalMessage"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            for number in range(3):
                live.execute(f"SELECT pg_logical_emit_message(false, 'note {number}', 'x')")
                live.execute("CHECKPOINT")
                read_until(process, f'prefix "note {number}"'.encode())
            live.switch_wal()
            live.execute("SELECT pg_logical_emit_message(false, 'after', 'x')")
            live.execute("CHECKPOINT")
            read_until(process, b'prefix "after"')
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
        finally:
            process.kill()


def test_follow_waits_out_a_record_that_is_half_written(wal: Path, tmp_path: Path) -> None:
    name = segments(wal)[0]
    lines = ours(wal / name).stdout.splitlines(keepends=True)
    middle = lines[len(lines) // 2].decode()
    at = int(middle.split("lsn: ")[1].split(",")[0].split("/")[1], 16) % SEGMENT
    data = (wal / name).read_bytes()
    target = tmp_path / name
    target.write_bytes(data[: at + 22] + bytes(SEGMENT - at - 22))
    command = [*COMMAND, "-p", str(tmp_path), "-f", "-n", str(len(lines))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            read_until(process, lines[len(lines) // 2 - 1].rstrip())
            with target.open("r+b") as file:
                file.seek(at)
                file.write(data[at:])
            read_until(process, lines[-1].rstrip())
            assert process.wait(20) == 0
        finally:
            process.kill()


def test_a_live_server(live: PostgresServer) -> None:
    start = live.execute("SELECT pg_current_wal_lsn()")[0][0]
    live.execute("SELECT pg_logical_emit_message(false, 'note', 'past')")
    command = [*COMMAND, live.dsn, "-s", start, "-r", "LogicalMessage", "-n", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            read_until(process, b"payload (4 bytes): 70 61 73 74")
            live.execute("SELECT pg_logical_emit_message(false, 'note', 'now')")
            live.execute("CHECKPOINT")
            read_until(process, b"payload (3 bytes): 6E 6F 77")
            assert process.wait(20) == 0
        finally:
            process.kill()
    end = live.execute("SELECT pg_current_wal_lsn()")[0][0]
    directory = ours("-p", live.wal_directory, "-s", start, "-e", end)
    assert ours(live.dsn, "-s", start, "-e", end).stdout == directory.stdout
    refused = ours("host=127.0.0.1 port=1 user=nobody")
    assert refused.returncode == CONNECTION
    assert b"Traceback" not in refused.stderr


def test_timelines(live: PostgresServer, pg_version: int, tmp_path: Path) -> None:
    with live.standby() as standby:
        standby.promote()
        standby.execute("CREATE TABLE after_promotion ()")
        standby.stop()
        live.stop()
        for directory in (live.wal_directory, standby.wal_directory):
            for file in directory.iterdir():
                if file.is_file() and not is_zero(file):
                    shutil.copy(file, tmp_path)
    result = ours("-p", tmp_path)
    assert result.returncode == 0, result.stderr
    assert b"END_OF_RECOVERY tli 2; prev tli 1" in result.stdout
    old = ours("-p", tmp_path, "-t", "1")
    assert old.returncode == 0, old.stderr
    assert b"END_OF_RECOVERY" not in old.stdout
    assert old.stdout not in (b"", result.stdout)
    newest = min(name for name in segments(tmp_path) if name.startswith("000000020"))
    expected = theirs(pg_version, tmp_path / newest).stdout
    assert ours(tmp_path / newest).stdout == expected
    assert b"END_OF_RECOVERY" in expected


def test_example_dump_records(wal: Path) -> None:
    name = segments(wal)[0]
    example = Path(__file__).parents[2] / "examples/dump_records.py"
    assert len(example.read_text().splitlines()) < 40
    command = [sys.executable, str(example), str(wal / name), "Heap"]
    result = subprocess.run(command, capture_output=True, check=True)
    lines = ours(wal / name, "-r", "Heap").stdout.decode().splitlines()
    assert [line.split(" ", 2)[2].rstrip() for line in result.stdout.decode().splitlines()] == [
        line.split("desc: ", 1)[1].split(" ", 1)[1].split(", blkref")[0].rstrip() for line in lines
    ]
