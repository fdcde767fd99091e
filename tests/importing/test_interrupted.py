"""An import that is killed again and again, and one of a cluster that was promoted."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.importing.site import SEGMENT, Site, compared, made, work
from tests.support.clusters import directory_for_server, roomy_directory
from tests.support.running import WALSTREAM, walstream
from tests.support.servers import PostgresServer
from walstream.store.backup_files import BackupFiles
from walstream.store.base_backup import list_base_backups

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def place() -> Iterator[Path]:
    with directory_for_server(roomy_directory()) as place:
        yield place


def files_in(store: Path) -> int:
    # Directories come and go meanwhile: os.walk passes them over.
    return sum(len(names) for _, _, names in os.walk(store))


def check_what_is_there(store: Path, site: Site) -> None:
    """Whatever has its name is whole."""
    for path in (store / "wal").glob("*[0-9A-F]"):
        assert path.read_bytes() == (site.archive / path.name).read_bytes()
    for backup in list_base_backups(store / "base"):
        files = BackupFiles(backup.path, needs_manifest=True)
        for name, _ in files.sizes():
            files.prove(name)


@pytest.mark.pg_versions(18)
@pytest.mark.parametrize("kind", ["directory", "tar"])
def test_killed_and_started_again(pg_version: int, place: Path, kind: str) -> None:
    with made(pg_version) as site:
        store = place / "store"
        base = site.plain if kind == "directory" else site.tars
        arguments = ["--base", base, "--wal", site.archive, "--wal", site.server.wal_directory]
        command = [*WALSTREAM, "import", str(store), *map(str, arguments), "--copy"]
        kills = 0
        # Further each time, and past the end at last.
        for goal in range(1, 3000, 90):
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            begun = files_in(store)
            while process.poll() is None and files_in(store) < max(goal, begun):
                pass
            process.kill()
            process.communicate()
            if process.returncode == 0:
                break
            kills += 1
            if (store / "walstream.toml").exists():
                check_what_is_there(store, site)
        assert kills > 5
        done = walstream("import", store, *arguments, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        assert json.loads(done.stdout)["complete"]
        check_what_is_there(store, site)
        assert compared(store, site.server).differences == []
        assert walstream("verify", store).returncode == 0
        assert not [path for path in store.rglob("*.tmp") if path.name != "LOCK"]


@pytest.mark.pg_versions(15, 18)
def test_a_promoted_cluster(pg_version: int, place: Path) -> None:
    """An archive with the end of the timeline that was left, and what its old primary wrote on."""
    with made(pg_version) as site:
        site.server.start()
        # The standby lies on the same machine.
        site.server.execute("ALTER TABLE spaced SET TABLESPACE pg_default")
        site.server.execute("DROP TABLESPACE space")
        both = {"archive_command": f"test -f {site.archive}/%f || cp %p {site.archive}/%f"}
        with site.server.standby(config={**both, "archive_mode": True}) as standby:
            # The promotion is to lie within a segment.
            site.server.execute("CREATE TABLE followed (i int)")
            while standby.execute("SELECT to_regclass('followed') IS NULL") == [(True,)]:
                pass
            standby.promote()
            # A branch that nobody follows.
            work(site.server, 7)
            site.server.stop()
            standby.execute("CREATE TABLE promoted AS SELECT generate_series(1, 3000) i")
            standby.switch_wal()
            standby.execute("INSERT INTO promoted SELECT 1")
            standby.stop()
            archive = place / "archive"
            shutil.copytree(site.archive, archive)
            assert list(archive.glob("*.history")) and list(archive.glob("*.partial"))
            store = place / "store"
            wal = ("--wal", archive, "--wal", standby.wal_directory)
            done = walstream("import", store, "--base", site.plain, *wal, "--json")
            assert done.returncode == 0, done.stdout + done.stderr
            report = json.loads(done.stdout)
            assert report["timeline"] == 2 and report["complete"]
            assert report["left_out"]
            assert all(name.startswith("00000001") for name in report["left_out"])
            differing = compared(store, standby).differences
            assert differing == []
            # The end of the timeline that was left, as a receiver would have it.
            left = [path.name for path in (store / "wal").glob("00000001*.partial")]
            assert len(left) == 1
            assert (store / "wal" / left[0]).stat().st_size == SEGMENT
            for name in ("00000002.history", left[0].split(".")[0]):
                got = walstream("restore-wal", store, name, place / "got")
                assert got.returncode == 0, got.stderr
            first = walstream("import", place / "first", "--base", site.plain, *wal, "-t", "1")
            assert first.returncode in (0, 12), first.stderr
            assert "timeline 1" in first.stdout


@pytest.mark.pg_versions(15, 18)
def test_a_backup_of_a_standby_without_a_manifest(pg_version: int, place: Path) -> None:
    """Its end is the least recovery point of its control file; that of a primary is in WAL."""
    with PostgresServer(
        pg_version, segment_size=SEGMENT, config={"wal_keep_size": "256MB"}
    ) as server:
        server.execute("CREATE TABLE t AS SELECT generate_series(1, 20000) i")
        with server.standby() as standby:
            server.execute("CHECKPOINT")
            server.switch_wal()
            of_standby = standby.base_backup(place / "standby", "--no-manifest")
        of_primary = server.base_backup(place / "primary", "--no-manifest")
        server.execute("UPDATE t SET i = i + 1")
        server.stop()
        for base in (of_standby, of_primary):
            store = place / f"store-{base.name}"
            wal = ("--wal", server.wal_directory)
            done = walstream("import", store, "--base", base, *wal, "--json")
            assert done.returncode == 0, done.stdout + done.stderr
            (described,) = json.loads(done.stdout)["bases"]
            assert not described["manifest"] and described["stop_lsn"] > described["start_lsn"]
            assert compared(store, server).differences == []
