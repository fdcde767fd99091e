"""Our lines against those of pg_waldump of the same major version, on WAL of the workload."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.rmgr.translate import SEGMENT, as_15, expected_of_14, without_prepare
from tests.support.binaries import find_binaries
from tests.support.servers import PostgresServer
from tests.support.workload import WORKLOAD_CONFIG, run_sql_files, run_workload
from tests.wal.reading import scan_lines
from walstream.dump.text_lines import LineWriter
from walstream.rmgr.rmgrlist import rmgr_name
from walstream.rmgr.table import operations
from walstream.segments.names import segment_file_name, segment_number
from walstream.wal.model import format_lsn
from walstream.wal.scan import WalScanner

NAME = re.compile(r"^rmgr: (\S+) .* desc: (\S+)", re.MULTILINE)


def read_wal(directory: Path) -> tuple[int, bytes]:
    """Returns the WAL of a pg_wal directory and the LSN that it begins at."""
    names = sorted(
        path.name
        for path in directory.iterdir()
        if len(path.name) == 24 and segment_number(path.name, SEGMENT) is not None
    )
    first = segment_number(names[0], SEGMENT)
    assert first is not None
    return first * SEGMENT, b"".join((directory / n).read_bytes() for n in names)


def our_lines(wal: bytes, start_lsn: int, details: bool) -> str:
    scanner = WalScanner(None, SEGMENT, start_lsn, find_record=True)
    _, lines, _ = scan_lines(scanner, lambda version: LineWriter(version, details), wal, start_lsn)
    return b"".join(lines).decode()


def their_lines(program: Path, directory: Path, start_lsn: int, details: bool) -> str:
    arguments = [str(program), "-p", str(directory), "-s", format_lsn(start_lsn)]
    if details:
        arguments.append("-b")
    # It ends with an error, as ever: the end of WAL.
    return subprocess.run(arguments, stdout=subprocess.PIPE, check=False).stdout.decode()


def assert_same(ours: list[str], theirs: list[str]) -> None:
    for number, (our, their) in enumerate(zip(ours, theirs, strict=False)):
        assert our == their, f"line {number}"
    assert len(ours) == len(theirs)


def compare(version: int, directory: Path, tmp_path: Path) -> str:
    """Compares short and detailed lines; returns ours."""
    for path in directory.iterdir():
        # A segment made in advance; pg_waldump fails where it meets one first.
        if path.is_file() and not any(path.read_bytes()[:8]):
            path.unlink()
    start_lsn, wal = read_wal(directory)
    program = find_binaries(15 if version == 14 else version).client("pg_waldump")
    assert program is not None
    if version == 14:
        directory = tmp_path
        translated = as_15(wal, start_lsn)
        for at in range(0, len(translated), SEGMENT):
            name = segment_file_name(1, (start_lsn + at) // SEGMENT, SEGMENT)
            (directory / name).write_bytes(translated[at : at + SEGMENT])
    text = ""
    for details in (True, False):
        text = our_lines(wal, start_lsn, details)
        theirs = their_lines(program, directory, start_lsn, details)
        if version == 14:
            assert_same(without_prepare(text), expected_of_14(theirs))
        else:
            assert_same(text.splitlines(), theirs.splitlines())
    return text


# What no workload brings a server to write: NOOP nothing writes, a HOT update stays on its page,
# ASSIGN_LSN needs wal_level minimal, the others a promotion, a crash at the right moment, hints
# that are logged, or two billion transactions.
NOT_SEEN = {
    ("XLOG", "NOOP"),
    ("Heap", "HOT_UPDATE+INIT"),
    ("Gist", "ASSIGN_LSN"),
    ("XLOG", "END_OF_RECOVERY"),
    ("XLOG", "OVERWRITE_CONTRECORD"),
    ("XLOG", "FPI_FOR_HINT"),
    ("CLOG", "TRUNCATE"),
}


def test_every_line_is_that_of_pg_waldump(pg_version: int, tmp_path: Path) -> None:
    with PostgresServer(pg_version, config=WORKLOAD_CONFIG) as server:
        run_workload(server)
        server.stop()
        text = compare(pg_version, server.wal_directory, tmp_path)
    seen = Counter(NAME.findall(text))
    known = {
        (rmgr_name(rmgr_id), op.name)
        for (rmgr_id, _), op in operations(pg_version).items()
        if op.name is not None
    }
    missing = sorted(known - set(seen) - NOT_SEEN)
    print(f"PostgreSQL {pg_version}: {len(known & set(seen))} of {len(known)} operations seen")
    assert missing == []


@pytest.mark.pg_versions(14, 15, 18)
def test_compressed_images_and_images_for_verification(pg_version: int, tmp_path: Path) -> None:
    config = {
        **WORKLOAD_CONFIG,
        "wal_compression": {14: "on", 15: "zstd", 18: "pglz"}[pg_version],
        "wal_consistency_checking": "heap,btree,gin",
    }
    with PostgresServer(pg_version, config=config) as server:
        run_sql_files(server, "other")
        server.stop()
        text = compare(pg_version, server.wal_directory, tmp_path)
    assert " FPW for WAL verification" in text
