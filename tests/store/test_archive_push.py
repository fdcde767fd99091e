"""What an archive_command puts into an archive, beside others that do the same."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.receiving import wait_until
from tests.support.walgen import PAGE, SEGMENT, WalWriter
from walstream.errors import StorageError, StoreError, WalError, WrongCluster
from walstream.segments.names import segment_file_name
from walstream.store import hard_link
from walstream.store.archive_push import archive_file
from walstream.store.file_layer import DirectoryLock, FileLayer

NAME = segment_file_name(1, 1, SEGMENT)
_PUSH = [sys.executable, "-m", "walstream", "archive-push"]


def full_segment(fill: int = 0, system: int = 77) -> bytes:
    wal = WalWriter(system_identifier=system)
    while wal.lsn < 2 * SEGMENT:
        wal.add_of_length(1000, fill=fill)
    return bytes(wal.data[:SEGMENT])


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "archive"
    path.mkdir()
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "pg_wal" / NAME
    path.parent.mkdir()
    path.write_bytes(full_segment())
    return path


def names(archive: Path) -> list[str]:
    return sorted(path.name for path in archive.iterdir())


def test_many_push_one_file_at_once_and_some_are_killed(archive: Path, source: Path) -> None:
    command = [*_PUSH, str(archive), str(source)]
    pushes = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(6)]
    # Killed once something of theirs is on the disk, or when they are through.
    wait_until(lambda: any(archive.iterdir()), lambda: "nobody writes")
    for push in pushes[:2]:
        push.kill()
    for push in pushes:
        push.communicate()
    assert [push.returncode for push in pushes[2:]] == [0] * 4
    assert archive_file(archive, source) is False
    assert (archive / NAME).read_bytes() == source.read_bytes()


def test_what_a_killed_push_left_is_removed_and_what_a_living_one_writes_is_not(
    archive: Path, source: Path
) -> None:
    left = archive / f".{NAME}.0123456789abcdef.walstream.tmp"
    left.write_bytes(b"half")
    living = archive / f".{NAME}.fedcba9876543210.walstream.tmp"
    living.write_bytes(b"half")
    other = archive / f"{NAME}.walstream.tmp"
    other.write_bytes(b"of an earlier release")
    lock = DirectoryLock(living, "the other push")
    assert archive_file(archive, source)
    assert names(archive) == sorted([living.name, other.name, NAME])
    lock.release()


def test_other_content_is_refused_and_stays(archive: Path, source: Path) -> None:
    for content in (b"", full_segment(1), full_segment()[:8192]):
        (archive / NAME).write_bytes(content)
        with pytest.raises(StoreError, match=f"{NAME} is there already"):
            archive_file(archive, source)
        assert (archive / NAME).read_bytes() == content
    assert names(archive) == [NAME]


def test_the_name_may_be_taken_while_the_file_is_written(archive: Path, source: Path) -> None:
    class Faster(FileLayer):
        content = b""

        def link_new(self, old: Path, new: Path) -> None:
            new.write_bytes(self.content)
            super().link_new(old, new)

    layer = Faster()
    layer.content = full_segment(1)
    with pytest.raises(StoreError, match="with other content"):
        archive_file(archive, source, files=layer)
    assert (archive / NAME).read_bytes() == layer.content
    (archive / NAME).unlink()
    layer.content = full_segment()
    assert archive_file(archive, source, files=layer) is False
    assert names(archive) == [NAME]


@pytest.mark.parametrize("suffix", [".gz"])
def test_a_compressed_file_of_that_name_counts(archive: Path, source: Path, suffix: str) -> None:
    stored = archive / (NAME + suffix)
    stored.write_bytes(gzip.compress(full_segment()))
    assert archive_file(archive, source) is False
    stored.write_bytes(gzip.compress(full_segment(1)))
    with pytest.raises(StoreError, match="other content"):
        archive_file(archive, source)
    stored.write_bytes(b"no gzip")
    with pytest.raises(StoreError, match="damaged"):
        archive_file(archive, source)
    assert names(archive) == [stored.name]


@pytest.mark.parametrize("content", [b"", b"\xaa" * 9000, bytes(SEGMENT), b"\x1f\x8b"])
@pytest.mark.parametrize("suffix", ["", ".gz", ".partial", ".zst.partial"])
def test_a_broken_neighbour_is_in_nobodys_way(
    archive: Path, source: Path, content: bytes, suffix: str
) -> None:
    (archive / (segment_file_name(1, 0xF0, SEGMENT) + suffix)).write_bytes(content)
    (archive / segment_file_name(9, 0xF1, SEGMENT)).mkdir()
    (archive / segment_file_name(9, 0xF2, SEGMENT)).symlink_to("nowhere")
    assert archive_file(archive, source)


@pytest.mark.parametrize("suffix", ["", ".gz", ".partial"])
def test_another_cluster_is_refused_also_behind_a_broken_file(
    archive: Path, source: Path, suffix: str
) -> None:
    (archive / segment_file_name(1, 0xF0, SEGMENT)).touch()
    data = full_segment(system=78)
    (archive / (NAME + suffix)).write_bytes(gzip.compress(data) if suffix == ".gz" else data)
    later = source.with_name(segment_file_name(1, 2, SEGMENT))
    wal = WalWriter(start_lsn=2 * SEGMENT, system_identifier=77)
    while wal.lsn < 3 * SEGMENT:
        wal.add_of_length(1000)
    later.write_bytes(wal.data[:SEGMENT])
    with pytest.raises(WrongCluster):
        archive_file(archive, later)


def test_history_and_backup_files_come_again(archive: Path, source: Path) -> None:
    for name in ("00000002.history", NAME + ".00000028.backup"):
        file = source.with_name(name)
        file.write_text("1\t0/250000\tno recovery target\n")
        assert archive_file(archive, file)
        assert archive_file(archive, file) is False
        file.write_text("2\t0/250000\tno recovery target\n")
        with pytest.raises(StoreError, match="other content"):
            archive_file(archive, file)
    empty = source.with_name("00000003.history")
    empty.touch()
    with pytest.raises(WalError, match="is empty"):
        archive_file(archive, empty)


def test_the_end_of_a_timeline_is_there_when_its_wal_is(archive: Path, source: Path) -> None:
    wal = WalWriter(system_identifier=77)
    for _ in range(20):
        wal.add_of_length(900)
    ours = source.with_name(NAME + ".partial")
    ours.write_bytes(bytes(wal.data) + b"\xaa" * (SEGMENT - len(wal.data)))
    received = archive / (NAME + ".partial")
    received.write_bytes(wal.data)
    assert archive_file(archive, ours) is False
    received.write_bytes(wal.data[:9000])
    with pytest.raises(StoreError, match="other or less WAL"):
        archive_file(archive, ours)
    received.unlink()
    assert archive_file(archive, ours)
    assert received.read_bytes() == ours.read_bytes()


def test_the_last_segment_of_a_stopped_server_may_end_anywhere_but_damage_is_refused(
    archive: Path, source: Path
) -> None:
    whole = full_segment()
    old = b"".join(
        whole[at : at + 8] + bytes(8) + whole[at + 16 : at + PAGE]
        for at in range(SEGMENT // 2, SEGMENT, PAGE)
    )
    wal = WalWriter(system_identifier=77)
    while wal.lsn < SEGMENT + SEGMENT // 2 - PAGE:
        wal.add_of_length(1000)
    begin = bytes(wal.data)
    zeros = bytes(SEGMENT // 2 - len(begin))
    for data in (begin + zeros + old, begin + zeros + bytes(SEGMENT // 2)):
        source.write_bytes(data)
        assert archive_file(archive, source)
        (archive / NAME).unlink()
    damaged = bytearray(whole)
    damaged[SEGMENT // 2] ^= 1
    hole = whole[: SEGMENT // 2] + bytes(4 * PAGE) + whole[SEGMENT // 2 + 4 * PAGE :]
    for data in (bytes(damaged), hole, begin + zeros, whole[:-PAGE], whole + bytes(PAGE)):
        source.write_bytes(data)
        with pytest.raises(WalError):
            archive_file(archive, source)
    assert names(archive) == []


@pytest.mark.parametrize("fails", ["write", "fsync", "link_new", "fsync_directory"])
def test_a_failed_call_leaves_nothing_half(archive: Path, source: Path, fails: str) -> None:
    class Failing(FileLayer):
        pass

    def fail(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    setattr(Failing, fails, fail)
    with pytest.raises(StorageError, match="No space left"):
        archive_file(archive, source, files=Failing())
    assert names(archive) in ([], [NAME])
    assert archive_file(archive, source) is (fails != "fsync_directory")
    assert (archive / NAME).read_bytes() == source.read_bytes()


@pytest.mark.parametrize("taken", [False, True])
def test_without_hard_links_nothing_is_replaced_either(
    archive: Path, source: Path, monkeypatch: pytest.MonkeyPatch, *, taken: bool
) -> None:
    def no_links(*_args: Sequence[object]) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    if not taken:
        assert archive_file(archive, source)
        assert names(archive) == [NAME]
        return
    new, old = archive / "new", archive / "old"
    new.write_text("new")
    old.write_text("old")
    with pytest.raises(FileExistsError):
        hard_link.link_without_replacing(old, new)
    assert new.read_text() == "new"
