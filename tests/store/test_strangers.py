"""What other people and programs leave in our directories is passed over."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

import pytest

from walstream.errors import StorageError
from walstream.segments.names import segment_file_name
from walstream.segments.reader import SegmentReader
from walstream.store.base_backup import list_base_backups, remove_unfinished
from walstream.store.base_backup_pages import BasePages
from walstream.store.segment_directory import scan_directory
from walstream.wal.model import RelFileLocator
from walstream.wal.relpath import parse_relation_file

SEGMENT = 1 << 20


def litter(directory: Path, *names: str) -> None:
    """Leaves a file, a directory, a socket, a dead link, a strange name; and such under names."""
    (directory / ".DS_Store").write_bytes(b"x")
    (directory / "README").write_bytes(b"x")
    (directory / "lost+found").mkdir()
    (directory / "nowhere").symlink_to("not there")
    with socket.socket(socket.AF_UNIX) as made, tempfile.TemporaryDirectory() as short:
        # The address of a socket has room for 107 bytes.
        made.bind(f"{short}/s")
        os.rename(f"{short}/s", directory / "s")  # noqa: PTH104
    Path(os.fsdecode(os.fsencode(directory) + b"/\xe9t\xe9")).write_bytes(b"x")
    for number, name in enumerate(names):
        if number % 3 == 0:
            (directory / name).mkdir()
        elif number % 3 == 1:
            (directory / name).symlink_to("not there")
        else:
            os.mkfifo(directory / name)


def test_a_base_backup_with_strangers_in_it(tmp_path: Path) -> None:
    database = tmp_path / "base" / "5"
    space = tmp_path / "pg_tblspc" / "16400" / "PG_15_202209061" / "5"
    for directory in (database, space, tmp_path / "global"):
        directory.mkdir(parents=True)
    (database / "16384").write_bytes(bytes(3 * 8192))
    (space / "16385").write_bytes(bytes(2 * 8192))
    strange = ("16390", "16391", "16392_fsm", "\u0661\u0662", "01234", "99999999999")
    for directory in (tmp_path / "base", database, tmp_path / "global", space):
        litter(directory, *strange)
    (tmp_path / "base" / "7").write_bytes(b"a file called like a database")
    litter(tmp_path / "pg_tblspc")
    litter(tmp_path / "pg_tblspc" / "16400", "PG_9")
    litter(space.parent)
    assert BasePages(tmp_path).sizes() == {
        (RelFileLocator(1663, 5, 16384), 0): 3,
        (RelFileLocator(16400, 5, 16385), 0): 2,
    }


@pytest.mark.parametrize(
    "name", ["01", "\u0661", "99999999999", "4294967296", "1_x", "1.0", "1.01"]
)
def test_what_is_no_relation_file(name: str) -> None:
    assert parse_relation_file(f"base/5/{name}") is None
    assert parse_relation_file("base/5/4294967295_vm.12") is not None


def test_a_wal_directory_with_strangers_in_it(tmp_path: Path) -> None:
    names = [segment_file_name(1, number, SEGMENT) for number in range(1, 8)]
    (tmp_path / names[0]).write_bytes(bytes(SEGMENT))
    litter(tmp_path, *names[1:4], "00000009.history", *(f"{name}.partial" for name in names[4:]))
    assert [entry.name for entry in scan_directory(tmp_path, SEGMENT)] == [names[0]]
    archive = SegmentReader(tmp_path, SEGMENT)
    assert archive.timeline == 1
    assert archive.end_lsn() == 2 * SEGMENT
    assert archive.find(2) is None
    archive.close()


def test_bases_with_strangers_beside_them(tmp_path: Path) -> None:
    litter(tmp_path, "0000000000000010.toml", "0000000000000020")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes.toml").write_text("not ours")
    (tmp_path / "0000000000000010").mkdir()
    assert list_base_backups(tmp_path) == []
    (tmp_path / "0000000000000030.tmp").write_text("a file")
    (tmp_path / "0000000000000040.tmp").mkdir()
    (tmp_path / "0000000000000050.tmp").symlink_to(tmp_path / "notes")
    remove_unfinished(tmp_path)
    assert not list(tmp_path.glob("*.tmp"))
    assert (tmp_path / "notes").is_dir()


def test_a_directory_that_is_gone_is_named(tmp_path: Path) -> None:
    archive = SegmentReader(tmp_path, SEGMENT)
    tmp_path.rmdir()
    with pytest.raises(StorageError, match=tmp_path.name):
        archive.read(0, 1)
