"""``walstream repair``: what it proves, what it writes, what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.binaries import find_binaries
from tests.support.clusters import directory_for_server, give_to_server, roomy_directory
from tests.support.running import WALSTREAM, walstream
from tests.support.servers import PostgresServer
from tests.support.stopped import Stopped, note_paths, stopped_cluster
from walstream.cli import exit_codes
from walstream.redo.rules.checksum import with_checksum
from walstream.wal.model import BLCKSZ

pytestmark = [pytest.mark.timeout(600), pytest.mark.pg_versions(15, 18)]


def work(server: PostgresServer) -> None:
    server.execute("CREATE TABLE t AS SELECT i, md5(i::text) v FROM generate_series(1, 9000) i")
    server.execute("CREATE INDEX t_i ON t (i)")
    server.execute("CREATE UNLOGGED TABLE unlogged AS SELECT 1 AS i")
    server.execute("VACUUM t")
    server.execute("CHECKPOINT")
    server.execute("UPDATE t SET v = 'new' WHERE i % 50 = 0")
    note_paths(server, "t", "t_i", "unlogged")


@pytest.fixture(scope="module")
def stopped(pg_version: int) -> Iterator[Stopped]:
    with stopped_cluster(pg_version, work) as stopped:
        yield stopped


@pytest.fixture
def data(stopped: Stopped) -> Iterator[Path]:
    """A copy of the stopped cluster."""
    with directory_for_server(roomy_directory()) as place:
        copy = place / "data"
        shutil.copytree(stopped.data, copy, symlinks=True)
        give_to_server(copy)
        yield copy


def relation(data: Path, name: str) -> Path:
    return data / (data / f"path.{name}").read_text()


def block_of(path: Path, number: int) -> bytes:
    return path.read_bytes()[number * BLCKSZ : (number + 1) * BLCKSZ]


def put(path: Path, number: int, page: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(number * BLCKSZ)
        file.write(page)


def repair(data: Path, rel: object, block: int, store: Path, *options: str) -> dict[str, Any]:
    done = walstream("repair", data, rel, block, "--store", store, "--json", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def refused(code: int, said: str, *arguments: object) -> None:
    done = walstream("repair", *arguments)
    assert done.returncode == code, done.stdout + done.stderr
    assert said in done.stderr and done.stderr.count("\n") == 1, done.stderr


def flipped(page: bytes, at: int) -> bytes:
    return page[:at] + bytes([page[at] ^ 0x40]) + page[at + 1 :]


def test_every_kind_of_broken_page_is_made_whole(
    stopped: Stopped, data: Path, pg_version: int
) -> None:
    path, index = relation(data, "t"), relation(data, "t_i")
    whole = path.read_bytes()
    rel = path.relative_to(data).as_posix()
    last = len(whole) // BLCKSZ - 1
    older = bytearray(block_of(path, 4))
    older[0:8] = bytes(4) + (0x1000028).to_bytes(4, "little")
    wrong = {
        1: (flipped(block_of(path, 1), 5000), "broken"),
        2: (bytes(BLCKSZ), "older"),
        3: (block_of(path, 3)[:4096] + bytes(4096), "broken"),
        4: (with_checksum(bytes(older), 4), "older"),
        5: (with_checksum(flipped(block_of(path, 5), BLCKSZ - 20), 5), "different"),
        last: (b"", "missing"),
    }
    for number, (page, _) in wrong.items():
        if page:
            put(path, number, page)
    os.truncate(path, last * BLCKSZ + 100)
    put(index, 1, flipped(block_of(index, 1), 7000))
    before = path.read_bytes()
    for number, (page, state) in wrong.items():
        told = repair(data, "postgres.public.t" if number % 2 else rel, number, stopped.store)
        assert told["state"] == state and not told["repaired"], told
        assert path.read_bytes() == before, "nothing is written without --apply"
        done = repair(data, rel, number, stopped.store, "--apply")
        assert done["repaired"] and done["state"] == state
        kept = Path(done["kept"])
        assert kept.read_bytes() == (page or whole[last * BLCKSZ :][:100])
        assert kept.stat().st_uid == path.stat().st_uid
        assert repair(data, rel, number, stopped.store)["state"] == "same"
        before = path.read_bytes()
    assert repair(data, "t_i", 1, stopped.store, "--apply")["repaired"]
    assert len(path.read_bytes()) == len(whole)
    checksums = find_binaries(pg_version).client("pg_checksums")
    if checksums is not None:
        command = [str(checksums), "--check", "-D", str(data)]
        sums = subprocess.run(command, capture_output=True, text=True, check=False)
        assert sums.returncode == 0, sums.stdout + sums.stderr
    with PostgresServer(pg_version, backup=data) as server:
        assert server.execute("SELECT count(*), count(*) FILTER (WHERE v = 'new') FROM t") == [
            (9000, 180)
        ]
        server.execute("CREATE EXTENSION amcheck")
        server.execute("SELECT bt_index_check('t_i', true)")


def test_what_is_refused(stopped: Stopped, data: Path) -> None:
    store = ("--store", stopped.store)
    path = relation(data, "t")
    whole = path.read_bytes()
    rel = path.relative_to(data).as_posix()
    found = repair(data, rel, 0, stopped.store, "--apply")
    assert found["state"] == "same" and not found["repaired"]
    assert path.read_bytes() == whole

    newer = bytearray(block_of(path, 1))
    newer[0:8] = (0x7F).to_bytes(4, "little") + bytes(4)
    put(path, 1, with_checksum(bytes(newer), 1))
    refused(exit_codes.STORE, "is newer", data, rel, 1, *store, "--apply")
    put(path, 1, block_of(stopped.relation("t"), 1))

    changed = next(
        number
        for number in range(len(whole) // BLCKSZ)
        if b"new" in whole[number * BLCKSZ : (number + 1) * BLCKSZ]
    )
    first = walstream("history", stopped.store, rel, changed, "--json").stdout.splitlines()[0]
    early = json.loads(first)["end_lsn"]
    refused(exit_codes.STORE, "changed the block after", data, rel, changed, *store, "--at", early)
    refused(exit_codes.PAGE, "beyond the end of relation", data, rel, 100000, *store)
    os.truncate(path, 0)
    refused(exit_codes.STORE, "repair block 0 first", data, rel, 1, *store)
    path.write_bytes(whole)
    refused(
        exit_codes.STORE, "unlogged", data, relation(data, "unlogged").relative_to(data), 0, *store
    )
    refused(exit_codes.NO_ROWS, "nowhere", data, "public.nowhere", 0, *store)
    refused(exit_codes.READ, "global/pg_control", path.parent, rel, 0, *store)

    (data / "postmaster.pid").write_text(f"{os.getpid()}\n{data}\n")
    refused(exit_codes.STORE, f"a server runs, process {os.getpid()}", data, rel, 0, *store)
    (data / "postmaster.pid").write_text("")
    refused(exit_codes.STORE, "or is being started", data, rel, 0, *store)
    (data / "postmaster.pid").unlink()

    control = data / "global/pg_control"
    content = control.read_bytes()
    control.write_bytes(content[:100] + b"?" + content[101:])
    refused(exit_codes.STORE, "CRC does not match", data, rel, 0, *store)
    control.write_bytes(content)


def test_another_cluster_and_one_that_crashed(
    stopped: Stopped, data: Path, pg_version: int
) -> None:
    rel = relation(data, "t").relative_to(data)
    store = ("--store", stopped.store)
    with PostgresServer(pg_version, unique=True) as other:
        other.stop()
        refused(exit_codes.WRONG_CLUSTER, "system identifier", other.data_directory, rel, 0, *store)
    with PostgresServer(pg_version, backup=data) as server:
        server.execute("INSERT INTO t VALUES (1, 'more')")
        server.crash()
        crashed = server.data_directory
        refused(exit_codes.STORE, "was not shut down", crashed, rel, 0, *store)
        server.start()
        server.stop()
        # The store does not have what was done since.
        refused(exit_codes.PAGE, "take the rest with walstream import", crashed, rel, 0, *store)


def test_without_checksums(pg_version: int) -> None:
    """There the LSN and the page's structure are all the proof; what stays equal is left alone."""
    with stopped_cluster(pg_version, work, checksums=False) as stopped:
        path = stopped.relation("t")
        rel = path.relative_to(stopped.data).as_posix()
        whole = path.read_bytes()
        assert repair(stopped.data, rel, 3, stopped.store)["state"] == "same"
        put(path, 3, flipped(block_of(path, 3), BLCKSZ - 20))
        assert repair(stopped.data, rel, 3, stopped.store, "--apply")["state"] == "different"
        put(path, 4, flipped(block_of(path, 4), 19))
        assert repair(stopped.data, rel, 4, stopped.store, "--apply")["state"] == "broken"
        assert len(path.read_bytes()) == len(whole)
        for block in (3, 4):
            assert repair(stopped.data, rel, block, stopped.store)["state"] == "same"


def test_no_room_and_no_permission(stopped: Stopped, data: Path) -> None:
    """What is in the file is kept first: where that fails the file stays as it is."""
    path = relation(data, "t")
    rel = path.relative_to(data).as_posix()
    put(path, 1, bytes(BLCKSZ))
    (data / "walstream-repair").write_text("in the way")
    before = path.read_bytes()
    refused(
        exit_codes.STORAGE, "walstream-repair", data, rel, 1, "--store", stopped.store, "--apply"
    )
    assert path.read_bytes() == before
    (data / "walstream-repair").unlink()
    limit = f"ulimit -f 4; exec {' '.join(WALSTREAM)} repair {data} {rel} 1"
    done = subprocess.run(
        ["bash", "-c", f"{limit} --store {stopped.store} --apply"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (exit_codes.STORAGE, exit_codes.READ), done.stdout + done.stderr
    assert repair(data, rel, 1, stopped.store, "--apply")["repaired"]
    assert repair(data, rel, 1, stopped.store)["state"] == "same"
