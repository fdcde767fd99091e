"""Every record of a real server's WAL, compared with what PostgreSQL's own tools say about it."""

from collections.abc import Callable
from itertools import zip_longest

import pytest

from tests.support.servers import PostgresServer, Setting
from tests.support.waldump import (
    decoded,
    entry_of,
    wal_pieces,
    waldump_entries,
    walinspect_entries,
)
from tests.support.workload import WORKLOAD_CONFIG, run_sql_files, run_workload
from walstream.wal.image import restore_image
from walstream.wal.model import format_lsn
from walstream.wal.record import decode_wal_record

StartServer = Callable[..., PostgresServer]

MB = 1 << 20


@pytest.mark.parametrize(
    ("pg_version", "segment_size", "settings"),
    [
        pytest.param(15, 16 * MB, {"wal_compression": "lz4"}, id="pg15-16MB-lz4"),
        pytest.param(15, 64 * MB, {"wal_compression": "zstd"}, id="pg15-64MB-zstd"),
        pytest.param(16, 1 * MB, {"wal_compression": "pglz"}, id="pg16-1MB-pglz"),
        pytest.param(18, 1 * MB, {}, id="pg18-1MB"),
        pytest.param(18, 64 * MB, {"wal_log_hints": True}, id="pg18-64MB-hints"),
    ],
)
def test_records_are_what_pg_waldump_prints(
    start_server: StartServer, pg_version: int, segment_size: int, settings: dict[str, Setting]
) -> None:
    server = start_server(
        pg_version, segment_size=segment_size, config={**WORKLOAD_CONFIG, **settings}
    )
    run_workload(server)
    assert compare_with_waldump(server, segment_size) > 50_000


@pytest.mark.pg_versions(15, 16, 18)
def test_records_with_images_to_check_are_what_pg_waldump_prints(
    start_server: StartServer, pg_version: int
) -> None:
    settings = {"wal_consistency_checking": "all", "wal_compression": "pglz"}
    server = start_server(pg_version, segment_size=MB, config={**WORKLOAD_CONFIG, **settings})
    run_sql_files(server, "heap", "other")
    assert compare_with_waldump(server, MB) > 10_000


def compare_with_waldump(server: PostgresServer, segment_size: int) -> int:
    """Compare all WAL of a server, which is stopped for that; the number of records."""
    program = server.client("pg_waldump")
    assert program is not None
    end_lsn = server.insert_lsn()
    server.stop()
    directory = server.wal_directory
    ours = (
        entry_of(decode_wal_record(raw, server.version))
        for raw in decoded(directory, segment_size, end_lsn, piece=100_003)
    )
    theirs = waldump_entries(program, directory, segment_size, end_lsn)
    count = 0
    for our, their in zip_longest(ours, theirs):
        assert their is not None, f"pg_waldump ends before {our}"
        assert our == their[0], their[1]
        count += 1
    return count


@pytest.mark.pg_versions(16, 17, 18)
def test_records_are_what_pg_walinspect_returns(start_server: StartServer, pg_version: int) -> None:
    server = start_server(pg_version, config={**WORKLOAD_CONFIG, "wal_compression": "pglz"})
    run_workload(server)
    server.switch_wal()
    end_lsn = server.flush_lsn()
    start_lsn = 0
    ours = {}
    for raw in decoded(server.wal_directory, 16 * MB, end_lsn):
        record = decode_wal_record(raw, pg_version)
        ours[raw.start_lsn] = (entry_of(record), raw.end_lsn)
        start_lsn = start_lsn or raw.start_lsn
    count = 0
    for their, their_end, description in walinspect_entries(server, start_lsn, end_lsn):
        our, our_end = ours[their.start_lsn]
        bare = our._replace(blocks=tuple(block._replace(image=None) for block in our.blocks))
        assert (bare, our_end) == (their, their_end), description
        count += 1
    assert count > 50_000
    assert count == len(ours)


@pytest.mark.pg_versions(16, 17, 18)
def test_images_and_block_data_are_what_pg_walinspect_returns(
    start_server: StartServer, pg_version: int
) -> None:
    settings = {"wal_compression": "pglz", "full_page_writes": True}
    server = start_server(pg_version, config={**WORKLOAD_CONFIG, **settings})
    run_sql_files(server, "heap")
    server.execute("CREATE EXTENSION pg_walinspect")
    server.switch_wal()
    end_lsn = server.flush_lsn()
    blocks = {}
    start_lsn = 0
    for raw in decoded(server.wal_directory, 16 * MB, end_lsn):
        start_lsn = start_lsn or raw.start_lsn
        for block in decode_wal_record(raw, pg_version).blocks:
            blocks[raw.start_lsn, block.id] = block
    images = 0
    with server.connect() as session:
        rows = session.execute(
            "SELECT start_lsn - '0/0', block_id, block_data, block_fpi_data"
            " FROM pg_get_wal_block_info(%s, %s)",
            [format_lsn(start_lsn), format_lsn(end_lsn)],
        )
        for start, block_id, data, image in rows:
            block = blocks[int(start), block_id]
            assert block.data == (data or b"")
            assert (block.image is None) == (image is None)
            if block.image is not None:
                assert restore_image(block.image) == image
                images += 1
    assert images > 500


@pytest.mark.pg_versions(14)
def test_records_of_14_are_a_chain_without_holes(
    start_server: StartServer, pg_version: int
) -> None:
    # Nobody ships pg_waldump of 14: the decoder's own checks (CRC, links, addresses) must do.
    settings = {"wal_compression": True, "wal_consistency_checking": "heap"}
    server = start_server(pg_version, segment_size=MB, config={**WORKLOAD_CONFIG, **settings})
    run_workload(server)
    end_lsn = server.flush_lsn()
    server.stop()
    records = list(decoded(server.wal_directory, MB, end_lsn))
    assert len(records) > 50_000
    assert records[-1].end_lsn == end_lsn
    for raw in records:
        for block in decode_wal_record(raw, pg_version).blocks:
            if block.image is not None:
                assert len(restore_image(block.image)) == 8192


@pytest.mark.pg_versions(18)
def test_any_cut_of_the_wal_gives_the_same_records(
    start_server: StartServer, pg_version: int
) -> None:
    server = start_server(pg_version, segment_size=MB, config=WORKLOAD_CONFIG)
    run_sql_files(server, "other")
    end_lsn = server.flush_lsn()
    server.stop()
    directory = server.wal_directory
    whole = list(decoded(directory, MB, end_lsn, piece=MB))
    assert len(list(wal_pieces(directory, MB, end_lsn, MB))) > 3
    for piece in (8192, 131_072, 8191, 333):
        assert list(decoded(directory, MB, end_lsn, piece=piece)) == whole
