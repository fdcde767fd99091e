"""What an import refuses: one line that says what is wrong, and nothing half-visible behind."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.importing.site import PACKERS, SEGMENT, Site, made
from tests.support.binaries import identity_arguments
from tests.support.clusters import directory_for_server, give_to_server, roomy_directory
from tests.support.running import WALSTREAM, walstream
from tests.support.server_commands import python_for_servers
from walstream.cli import exit_codes
from walstream.store.store import Store

pytestmark = [pytest.mark.timeout(600), pytest.mark.pg_versions(18)]

# What walstream imports of others for an import.
MODULES = ("trio", "outcome", "crc32c", "lz4.frame", "zstandard", "click", "rocksdict")


@pytest.fixture(scope="module")
def site(pg_version: int) -> Iterator[Site]:
    with made(pg_version) as site:
        yield site


@pytest.fixture
def place() -> Iterator[Path]:
    with directory_for_server(roomy_directory()) as place:
        yield place


def refused(code: int, said: str, store: Path, *arguments: object) -> None:
    done = walstream("import", store, *arguments)
    assert done.returncode == code, done.stdout + done.stderr
    assert done.stderr.startswith("walstream: error: ")
    assert done.stderr.count("\n") == 1, done.stderr
    assert said in done.stderr, done.stderr
    assert not list(store.glob("base/*[0-9A-F]"))


def copy_of(plain: Path, place: Path) -> Path:
    copy = place / "base-copy"
    shutil.copytree(plain, copy, symlinks=True)
    return copy


def a_relation(base: Path) -> Path:
    """The largest file of a table."""
    return max((base / "base").glob("*/[0-9]*"), key=lambda path: path.stat().st_size)


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x40
    path.write_bytes(data)


def test_base_backups_that_are_not_what_they_say(site: Site, place: Path) -> None:
    store, base = place / "store", copy_of(site.plain, place)
    relation = a_relation(base)
    manifest = (base / "backup_manifest").read_bytes()

    flip(base / "backup_manifest", 300)
    refused(
        exit_codes.STORE, "backup manifest: its own checksum does not match", store, "--base", base
    )
    (base / "backup_manifest").write_bytes(manifest)
    assert not store.exists(), "nothing was begun"

    content = relation.read_bytes()
    flip(relation, 20_000)
    name = relation.relative_to(base).as_posix()
    refused(exit_codes.STORE, f"{name} is not what the backup manifest says", store, "--base", base)
    relation.unlink()
    refused(exit_codes.STORE, f"the backup manifest lists {name}", store, "--base", base)
    relation.write_bytes(content)

    label = (base / "backup_label").read_bytes()
    (base / "backup_label").write_bytes(label + b"INCREMENTAL FROM LSN: 0/1000028\n")
    refused(exit_codes.STORE, "make it whole with pg_combinebackup", store, "--base", base)
    (base / "backup_label").unlink()
    refused(exit_codes.STORE, "was not shut down", store, "--base", base)
    (base / "postmaster.pid").touch()
    refused(exit_codes.STORE, "a server runs there", store, "--base", base)
    refused(exit_codes.USAGE, "is no base backup", store, "--base", site.archive)
    refused(exit_codes.USAGE, "is not there", store, "--base", place / "nowhere")
    refused(exit_codes.USAGE, "give a base backup", place / "new", "--wal", site.archive)
    assert walstream("import", store).returncode == exit_codes.USAGE
    done = walstream("import", store, "--base", site.plain)
    assert done.returncode in (0, exit_codes.SEGMENT_MISSING), done.stderr
    Store.open(store).close()


def test_a_stopped_server_with_a_damaged_page(site: Site, place: Path) -> None:
    data = place / "data"
    shutil.copytree(site.server.data_directory, data, symlinks=True)
    relation = a_relation(data)
    flip(relation, 3 * 8192 + 100)
    refused(exit_codes.STORE, "block 3 is damaged: checksum", place / "store", "--base", data)
    shutil.rmtree(data / "pg_tblspc")
    (data / "pg_tblspc").mkdir()
    (data / "pg_tblspc" / "16999").symlink_to("/nowhere/at/all")
    refused(exit_codes.STORE, "the files of tablespace 16999", place / "store", "--base", data)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda data: data[: len(data) // 2], "could not read"),
        (lambda data: data[:1000] + b"\xff" * 2000 + data[3000:], "could not read"),
        (lambda _: b"no archive at all" * 100, "could not read"),
    ],
    ids=("cut", "damaged", "no tar"),
)
@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
def test_tar_archives(
    site: Site, place: Path, damage: Callable[[bytes], bytes], said: str, packing: str
) -> None:
    tars = place / "tars"
    tars.mkdir()
    for path in site.tars.iterdir():
        shutil.copy(path, tars)
    content = (tars / "base.tar").read_bytes()
    (tars / "base.tar").unlink()
    packed = PACKERS[packing](content) if packing else content
    (tars / f"base.tar{packing}").write_bytes(damage(packed))
    done = walstream("import", place / "store", "--base", tars)
    assert done.returncode in (exit_codes.READ, exit_codes.STORE), done.stderr
    assert done.stderr.count("\n") == 1
    assert "base.tar" in done.stderr
    assert said in done.stderr or "in it" in done.stderr
    assert not list((place / "store").glob("base/*[0-9A-F]"))


def test_wal_with_a_hole_damage_and_strangers(site: Site, place: Path) -> None:
    archive = place / "archive"
    shutil.copytree(site.archive, archive)
    names = [path.name for path in site.segments]
    hole, damaged, wrong, short = names[-3], names[-5], names[-7], names[-9]
    (archive / hole).unlink()
    flip(archive / damaged, 9000)
    (archive / wrong).rename(archive / f"{wrong}.gz")
    (archive / short).write_bytes((archive / short).read_bytes()[: SEGMENT // 2])
    (archive / f"{names[0]}.zst").write_bytes(b"Salted__" + bytes(100))
    store = place / "store"
    done = walstream("import", store, "--base", site.plain, "--wal", archive, "--json", "--copy")
    assert done.returncode == exit_codes.SEGMENT_MISSING, done.stderr
    report = json.loads(done.stdout)
    said = "\n".join(report["refused"])
    assert f"{damaged}: it is damaged: " in said
    assert f"{wrong}.gz: its name says .gz" in said
    assert f"{short}: " in said
    assert {path.name for path in (store / "wal").glob("*[0-9A-F]")}.isdisjoint(
        {hole, damaged, wrong, short}
    )
    missing = "\n".join(each["message"] for each in report["holes"])
    for name in (hole, damaged, wrong, short):
        assert name in missing, report["holes"]
    # What was refused comes from another place.
    done = walstream("import", store, "--wal", site.archive, "--wal", site.server.data_directory)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.rstrip().endswith("complete")


def test_another_cluster(site: Site, place: Path, pg_version: int) -> None:
    from tests.support.servers import PostgresServer

    with PostgresServer(pg_version, segment_size=SEGMENT, unique=True) as other:
        other.stop()
        store = place / "store"
        stranger = other.data_directory
        refused(
            exit_codes.WRONG_CLUSTER, "system identifier", store, "--base", stranger, "--base",
            site.plain,
        )  # fmt: skip
        wal = place / "wal"
        shutil.copytree(other.wal_directory, wal)
        shutil.rmtree(wal / "archive_status")
        refused(exit_codes.WRONG_CLUSTER, str(wal), store, "--base", site.plain, "--wal", wal)
        done = walstream("import", place / "ours", "--base", site.plain, "--wal", site.archive)
        assert done.returncode in (0, exit_codes.SEGMENT_MISSING), done.stderr
        done = walstream("import", place / "ours", "--base", stranger)
        assert done.returncode == exit_codes.WRONG_CLUSTER
        assert done.stderr.count("\n") == 1


def test_no_permission_and_no_room(site: Site, place: Path) -> None:
    base = copy_of(site.plain, place)
    give_to_server(place)
    relation = a_relation(base)
    relation.chmod(0)
    with python_for_servers(*MODULES) as python:
        done = subprocess.run(
            [*python, "-m", "walstream", "import", str(place / "store"), "--base", str(base)],
            capture_output=True, text=True, check=False, **identity_arguments(),
        )  # fmt: skip
    assert done.returncode == exit_codes.READ, done.stderr
    assert "Permission denied" in done.stderr and done.stderr.count("\n") == 1
    relation.chmod(0o600)

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    full = place / "full"
    done = subprocess.run(
        [*WALSTREAM, "import", str(full), "--base", str(base), "-j", "1"],
        capture_output=True, text=True, preexec_fn=small, check=False,
    )  # fmt: skip
    assert done.returncode == exit_codes.STORAGE, done.stderr
    assert done.stderr.count("\n") == 1 and "File too large" in done.stderr
    assert not list(full.glob("base/*[0-9A-F]"))
    done = walstream("import", full, "--base", base)
    assert done.returncode in (0, exit_codes.SEGMENT_MISSING), done.stderr
