"""Page images in ``walstream dump``: compressed ones, and saved ones, as pg_waldump has them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.dump.dumping import SEGMENT, is_zero, lsn_in, ours, theirs
from tests.support.servers import PostgresServer
from tests.support.workload import WORKLOAD_CONFIG, run_sql_files
from walstream.cli.exit_codes import (
    STORE,
)

pytestmark = pytest.mark.pg_versions(15, 18)


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
    assert again.returncode == STORE
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
