"""One writer for a store and its WAL directory, by whatever path; what its group may read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.walgen import SEGMENT
from walstream.app.wal_directory import LockedWalDirectory
from walstream.errors import StoreError
from walstream.store.store import Store, StoreIdentity

IDENTITY = StoreIdentity(1, 18, SEGMENT, 8192, True, True)


def test_a_store_and_its_wal_directory_have_one_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "store"
    store = Store.create(path, IDENTITY)
    (tmp_path / "link").symlink_to(path)
    (tmp_path / "wal_link").symlink_to(path / "wal")
    monkeypatch.chdir(tmp_path)
    ways = [path, path / "wal", path / "base" / ".." / "wal", tmp_path / "link" / "wal"]
    ways += [tmp_path / "link", tmp_path / "wal_link", Path("store/wal"), Path("wal_link")]
    for _ in range(2):
        for way in ways:
            with pytest.raises(StoreError, match=rf"in use by .*process id {os.getpid()}\)"):
                LockedWalDirectory(way)
        store.close()
        store = Store.open(path)
    store.close()
    for way in ways:
        with LockedWalDirectory(way), pytest.raises(StoreError, match="in use"):
            Store.open(path)
    Store.open(path).close()


def test_a_wal_directory_that_is_a_link_is_the_same_one(tmp_path: Path) -> None:
    path = tmp_path / "store"
    Store.create(path, IDENTITY).close()
    (path / "wal").rename(tmp_path / "disk")
    (path / "wal").symlink_to(tmp_path / "disk")
    with Store.open(path), pytest.raises(StoreError, match="in use"):
        LockedWalDirectory(tmp_path / "disk")


def test_the_lock_ends_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "store"
    Store.create(path, IDENTITY).close()
    code = (
        "import sys, pathlib; from walstream.app.wal_directory import LockedWalDirectory as L\n"
        "lock = L(pathlib.Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    words = [sys.executable, "-c", code, str(path / "wal")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StoreError, match=rf"process id {holder.pid}\)"):
            Store.open(path)
        holder.kill()
        holder.wait()
        Store.open(path).close()


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
@pytest.mark.parametrize(
    ("group", "directory", "file"), [(True, 0o750, 0o640), (False, 0o700, 0o600)]
)
def test_the_mode_of_a_new_store_is_what_was_asked_for(
    tmp_path: Path, umask: int, directory: int, file: int, *, group: bool
) -> None:
    path = tmp_path / "store"
    path.mkdir(mode=0o755)
    before = os.umask(umask)
    try:
        with Store.create(path, IDENTITY, group_access=group) as store:
            assert store.file_mode == file
    finally:
        os.umask(before)
    made = [path, *(path / name for name in ("wal", "base", "index", "dumps"))]
    assert {each.stat().st_mode & 0o777 for each in made} == {directory}
    assert (path / "walstream.toml").stat().st_mode & 0o777 == file
