"""What ``walstream dump`` reads: plain, partial, packed and damaged WAL; how it says it ended."""

from __future__ import annotations

import gzip
import shutil
import tarfile
from pathlib import Path

import lz4.frame
import pytest
import zstandard

from tests.dump.dumping import SEGMENT, damaged_copy, ours, segments
from walstream.cli.exit_codes import (
    READ,
    SEGMENT_MISSING,
    WAL_DAMAGED,
    WAL_TRUNCATED,
    WRONG_CLUSTER,
)

pytestmark = pytest.mark.pg_versions(15, 18)


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
    assert ours("-p", tmp_path).returncode == SEGMENT_MISSING
    assert ours("-p", tmp_path / "missing").returncode == READ
    assert ours(cwd=tmp_path).returncode == SEGMENT_MISSING
    (tmp_path / "000000010000000000000001").write_bytes(bytes(1 << 20))
    result = ours("-p", tmp_path)
    assert result.returncode == SEGMENT_MISSING
    assert b"could not find a valid record after" in result.stderr
