"""``walstream import`` of what a real site has: every kind of base backup and archive."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.importing.site import (
    PACKERS,
    SEGMENT,
    Site,
    as_barman,
    as_pgbackrest,
    compared,
    made,
    repacked,
)
from tests.support.binaries import wheel_client
from tests.support.clusters import directory_for_server, roomy_directory
from tests.support.running import Running, walstream
from tests.support.servers import PostgresServer
from walstream.cli import exit_codes

pytestmark = pytest.mark.timeout(600)
VERSIONS = pytest.mark.pg_versions(15, 18)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """On the file system that the site is on, so that links can be made."""
    with directory_for_server(roomy_directory()) as place:
        yield place


@pytest.fixture(scope="module")
def site(pg_version: int) -> Iterator[Site]:
    with made(pg_version) as site:
        yield site


def imported(store: Path, *arguments: object, code: int = 0) -> dict[str, Any]:
    done = walstream("import", store, *arguments, "--json")
    assert done.returncode == code, done.stdout[-2000:] + done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def check(store: Path, site: Site) -> None:
    """The store's newest moment is the server's, by every reader; its WAL is sound."""
    comparison = compared(store, site.server)
    assert comparison.differences == []
    assert comparison.pages > 300
    rows = walstream("rows", store, "t", "--columns", "i")
    assert rows.returncode == 0, rows.stderr
    assert len(rows.stdout.splitlines()) > 5000
    verified = walstream("verify", store)
    assert verified.returncode == 0, verified.stdout
    assert not list(store.glob("*.tmp"))
    proof = subprocess.run(
        [str(wheel_client("pg_verifybackup")), "-n", str(next((store / "base").glob("*[0-9A-F]")))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert proof.returncode == 0, proof.stderr


@VERSIONS
def test_a_directory_and_a_plain_archive(site: Site, tmp_path: Path) -> None:
    store = tmp_path / "store"
    wal = site.server.wal_directory
    told = imported(store, "--base", site.plain, "--wal", site.archive, "--wal", wal, "--dry-run")
    assert told["complete"] and told["bases"][0]["manifest"]
    assert not store.exists()
    report = imported(store, "--base", site.plain, "--wal", site.archive, "--wal", wal)
    assert report["complete"]
    assert report["segments"]["wanted"] == told["segments"]["wanted"]
    check(store, site)
    # Archived WAL is linked, never what the server may write to again.
    links = [path.stat().st_nlink for path in (store / "wal").iterdir()]
    assert max(links) == 2
    shared = {path.stat().st_ino for path in wal.iterdir()}
    assert not shared & {path.stat().st_ino for path in (store / "wal").iterdir()}
    again = imported(store, "--base", site.plain, "--wal", site.archive, "--wal", wal)
    assert again["complete"] and again["segments"]["taken"] == 0
    assert again["bases"][0]["there"]


@VERSIONS
@pytest.mark.parametrize("packing", ["", ".gz", ".lz4", ".zst"])
def test_tar_archives(site: Site, tmp_path: Path, packing: str) -> None:
    tars = tmp_path / "tars"
    shutil.copytree(site.tars, tars)
    for tar in tars.glob("*.tar"):
        if packing:
            tar.with_name(tar.name + packing).write_bytes(PACKERS[packing](tar.read_bytes()))
            tar.unlink()
    store = tmp_path / "store"
    base = tars / f"base.tar{packing}" if packing == ".gz" else tars
    wal = ("--wal", site.archive, "--wal", site.server.wal_directory)
    report = imported(store, "--base", base, *wal)
    assert report["complete"] and report["bases"][0]["manifest"]
    check(store, site)


@VERSIONS
def test_a_stopped_server(site: Site, tmp_path: Path) -> None:
    store = tmp_path / "store"
    report = imported(store, "--base", site.server.data_directory)
    assert report["complete"] and report["bases"][0]["stopped_server"]
    check(store, site)


@VERSIONS
def test_streaming_goes_on_behind_an_import(tmp_path: Path, pg_version: int) -> None:
    """A server that was shut down, imported and started again; its slot is made by then."""
    store = tmp_path / "store"
    with PostgresServer(pg_version, segment_size=SEGMENT) as server:
        server.execute("CREATE TABLE t AS SELECT generate_series(1, 20000) i")
        server.stop()
        assert imported(store, "--base", server.data_directory)["complete"]
        server.start()
        running = Running(server.replication_dsn, store)
        try:
            server.execute("INSERT INTO t VALUES (-1)")
            running.wait_until_indexed(server.insert_lsn())
            assert running.end(signal.SIGTERM) == 0
        finally:
            running.process.kill()
            running.process.wait()
        found = walstream("rows", store, "t", "--where", "i=-1", "--format", "csv")
        assert found.stdout.splitlines() == ["-1"], found.stderr
        assert len(list((store / "base").glob("*.toml"))) == 1
        # What was streamed since is more than what the data directory has: nothing to do.
        server.stop()
        again = imported(store, "--base", server.data_directory)
        assert again["complete"]
        assert len(again["bases"]) == 1 and not again["bases"][0]["there"]
        assert compared(store, server).differences == []


@VERSIONS
@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
def test_pgbackrest(site: Site, tmp_path: Path, packing: str) -> None:
    archive = as_pgbackrest(site, tmp_path / "archive" / "main", packing)
    store = tmp_path / "store"
    wal = ("--wal", archive.parent, "--wal", site.server.wal_directory)
    report = imported(store, "--base", site.plain, *wal)
    assert report["complete"]
    assert (packing == "") == bool(list((store / "wal").glob("*[0-9A-F]")))
    check(store, site)


@VERSIONS
@pytest.mark.parametrize("packing", ["", ".gz", ".bz2", ".xz", ".zst"])
def test_barman(site: Site, tmp_path: Path, packing: str) -> None:
    server = as_barman(site, tmp_path / "barman" / "main", packing)
    store = tmp_path / "store"
    report = imported(store, "--base", server, "--wal", site.server.wal_directory)
    assert report["complete"]
    assert [base["manifest"] for base in report["bases"]] == [False]
    check(store, site)
    # One that its list names and that is gone is told of.
    lost = next((server / "wals").glob(f"*/{site.segments[-1].name}"))
    lost.unlink()
    told = imported(tmp_path / "other", "--base", server, "--dry-run")
    assert told["not_there"] == [lost.name]


@VERSIONS
@pytest.mark.parametrize("packing", [".lz4", ".zst", ".br", ".lzma"])
def test_wal_g(site: Site, tmp_path: Path, packing: str) -> None:
    archive = repacked(site, tmp_path / "storage" / "wal_005", packing)
    store = tmp_path / "store"
    wal = ("--wal", archive, "--wal", site.server.wal_directory)
    assert imported(store, "--base", site.plain, *wal)["complete"]
    check(store, site)


@VERSIONS
def test_more_comes_later(site: Site, tmp_path: Path) -> None:
    """WAL in two parts, the first with a hole; a second, older base backup last."""
    store = tmp_path / "store"
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    for number, path in enumerate(site.segments):
        shutil.copy(path, second if number == len(site.segments) - 3 else first)
    (lost,) = second.iterdir()
    wal = ("--wal", site.server.wal_directory)
    # What the server still has, without the segment that is to be missing.
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    for path in site.server.wal_directory.iterdir():
        if path.is_file() and path.name != lost.name:
            shutil.copy(path, hidden)
    code = exit_codes.SEGMENT_MISSING
    report = imported(store, "--base", site.tars, "--wal", first, "--wal", hidden, code=code)
    (hole,) = report["holes"]
    assert lost.name in hole["message"]
    assert report["indexed_lsn"] is not None
    report = imported(store, "--wal", second, *wal)
    assert report["complete"] and report["segments"]["taken"] == 1
    check(store, site)
    assert imported(store, "--base", site.plain)["complete"]
    check(store, site)


@VERSIONS
def test_standard_tools_read_it(site: Site, tmp_path: Path, pg_version: int) -> None:
    store = tmp_path / "store"
    wal = ("--wal", site.archive, "--wal", site.server.wal_directory)
    imported(store, "--base", site.plain, *wal)
    name = site.segments[2].name
    got = walstream("restore-wal", store, name, tmp_path / "segment")
    assert got.returncode == 0
    assert (tmp_path / "segment").read_bytes() == site.segments[2].read_bytes()
    target = tmp_path / "data"
    made_at = walstream("materialize", store, "--at", "latest", "-D", target)
    assert made_at.returncode == 0, made_at.stderr
    with PostgresServer(pg_version, backup=target) as branch:
        assert branch.execute("SELECT count(*) FROM made4") == [(500,)]
