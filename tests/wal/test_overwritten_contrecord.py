"""A real server that crashed within a record, lost its second half and wrote over it.

The situation of PostgreSQL's recovery test 026_overwrite_contrecord: a record begins in one segment
and goes on in the next, the server crashes and the next segment is gone. When it comes up the
server sets XLP_FIRST_IS_OVERWRITE_CONTRECORD in the page where the record would go on, and writes
OVERWRITE_CONTRECORD, which names the record that it gave up.
"""

from __future__ import annotations

import filecmp
import re
import shutil
import struct
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from tests.support.receiving import receive_until
from tests.support.servers import PostgresServer
from tests.support.waldump import decoded, entry_of, first_segment, wal_pieces, waldump_entries
from tests.wal.reading import scan_batches
from walstream.cli import exit_codes
from walstream.cli.verify import command as verify_command
from walstream.rmgr.rmgrlist import rmgr_name
from walstream.segments.names import segment_file_name, segment_number
from walstream.wal import scan
from walstream.wal.model import RawRecord, format_lsn
from walstream.wal.record import decode_wal_record

MB = 1 << 20
SLOT = "contrecord"
FIRST_IS_OVERWRITE_CONTRECORD = 0x0008
OVERWRITE_CONTRECORD = 0xD0
MESSAGE = "SELECT pg_logical_emit_message(true, 'contrecord', repeat('x', %s))"


class Crash(NamedTuple):
    """What was in WAL when the server crashed, before the second half was removed."""

    before: list[RawRecord]  # up to the record that is cut
    aborted: RawRecord
    boundary: int  # the start of the segment that was removed


def write_over_the_boundary(server: PostgresServer) -> int:
    """Writes a record that begins in one segment and ends in the next; the LSN between them."""
    start = server.insert_lsn()
    room = MB - start % MB
    if room > 200_000:
        server.execute(MESSAGE, [room - 100_000])
    elif room < 20_000:
        server.execute(MESSAGE, [MB - 100_000])
    boundary = (server.insert_lsn() // MB + 1) * MB
    server.execute(MESSAGE, [300_000])
    assert boundary < server.flush_lsn() < boundary + MB
    return boundary


def crash_within_a_record(server: PostgresServer, wal: Path) -> Crash:
    """Crashes and restarts the server; ``wal`` receives what was before the boundary."""
    server.execute("SELECT pg_create_physical_replication_slot(%s, true)", [SLOT])
    server.execute("CREATE TABLE t AS SELECT i FROM generate_series(1, 1000) i")
    boundary = write_over_the_boundary(server)
    end = server.flush_lsn()
    receive_until(wal, server.dsn, boundary, "-S", SLOT)
    server.crash()
    records = list(decoded(server.wal_directory, MB, end))
    (aborted,) = (raw for raw in records if raw.start_lsn < boundary < raw.end_lsn)
    for path in server.wal_directory.iterdir():
        # Also those that the server had made for later.
        if re.fullmatch("[0-9A-F]{24}", path.name):
            number = segment_number(path.name, MB)
            assert number is not None
            if number * MB >= boundary:
                path.unlink()
    server.start()
    return Crash([raw for raw in records if raw.start_lsn < aborted.start_lsn], aborted, boundary)


def scanned(directory: Path, end_lsn: int) -> list[tuple[int, int, int, int, int]]:
    """What WalScanner gives: start, end, prev, resource manager and info of each record."""
    data = b"".join(piece for _, piece in wal_pieces(directory, MB, end_lsn, MB))
    first = segment_number(first_segment(directory), MB)
    assert first is not None
    cuts = range(MB, len(data), MB)
    start = first * MB
    errors, batches = scan_batches(scan, data, start, MB, cuts, find_record=True)
    assert errors == []
    return [
        row
        for columns, _ in batches
        for row in zip(
            columns.start_lsn,
            columns.end_lsn,
            columns.prev_lsn,
            columns.rmgr,
            columns.info,
            strict=True,
        )
        if row[1] <= end_lsn
    ]


@pytest.mark.pg_versions(15, 18)
def test_a_record_that_a_crash_cut_and_the_server_wrote_over(
    pg_version: int, tmp_path: Path
) -> None:
    received = tmp_path / "received"
    received.mkdir()
    with PostgresServer(pg_version, segment_size=MB, config={"wal_keep_size": "1GB"}) as server:
        crash = crash_within_a_record(server, received)
        server.execute("INSERT INTO t SELECT i FROM generate_series(1, 1000) i")
        server.execute(MESSAGE, [MB])
        server.switch_wal()
        server.execute("INSERT INTO t VALUES (0)")
        end = server.flush_lsn()
        # The receiver has the first half of the aborted record, and goes on behind it.
        receive_until(received, server.dsn, end, "-S", SLOT)
        server.stop()
        directory = server.wal_directory
        aborted, boundary = crash.aborted, crash.boundary

        with (directory / segment_file_name(1, boundary // MB, MB)).open("rb") as file:
            _, flags = struct.unpack("<HH", file.read(4))
        assert flags & FIRST_IS_OVERWRITE_CONTRECORD

        raws = list(decoded(directory, MB, end, piece=100_003))
        records = [decode_wal_record(raw, pg_version) for raw in raws]
        count = len(crash.before)
        assert raws[:count] == crash.before
        assert aborted.start_lsn not in {raw.start_lsn for raw in raws}
        overwrite = records[count]
        assert boundary < overwrite.start_lsn < boundary + 100
        assert overwrite.prev_lsn == crash.before[-1].start_lsn
        assert (rmgr_name(overwrite.rmgr_id), overwrite.info & 0xF0) == (
            "XLOG",
            OVERWRITE_CONTRECORD,
        )
        assert struct.unpack_from("<Q", overwrite.main_data) == (aborted.start_lsn,)
        assert raws[-1].end_lsn == end

        program = server.client("pg_waldump")
        assert program is not None
        theirs = list(waldump_entries(program, directory, MB, end))
        for record, their in zip_longest(records, theirs):
            assert record is not None, their
            assert their is not None, f"pg_waldump ends before {record}"
            assert entry_of(record) == their[0], their[1]
        assert f"lsn {format_lsn(aborted.start_lsn)};" in theirs[count][1]

        assert scanned(directory, end) == [
            (raw.start_lsn, raw.end_lsn, record.prev_lsn, record.rmgr_id, record.info)
            for raw, record in zip(raws, records, strict=True)
        ]

        copy = tmp_path / "copy"
        shutil.copytree(directory, copy)
        for threads in (1, 4):
            result = CliRunner().invoke(verify_command, [str(copy), "-j", str(threads)])
            assert result.exit_code == 0, result.output
            assert "sound" in result.output

        # Without the flag it is half a record, and other WAL where the rest should be.
        with (copy / segment_file_name(1, boundary // MB, MB)).open("r+b") as file:
            file.seek(2)
            file.write(struct.pack("<H", flags & ~FIRST_IS_OVERWRITE_CONTRECORD))
        for threads in (1, 4):
            result = CliRunner().invoke(verify_command, [str(copy), "-j", str(threads)])
            assert result.exit_code == exit_codes.WAL_DAMAGED, result.output
            assert "no_contrecord" in result.output

        complete = {path.name for path in received.iterdir() if len(path.name) == 24}
        assert segment_file_name(1, boundary // MB, MB) in complete
        for name in complete:
            assert filecmp.cmp(received / name, directory / name, shallow=False), name
