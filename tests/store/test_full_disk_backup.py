"""A base backup onto a full disk: waits, and is whole in the end."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from walstream.errors import NoSpace, StorageError
from walstream.store import file_layer
from walstream.store.base_backup import BackupWriter
from walstream.store.file_layer import FileLayer

CONTENT = bytes(range(256)) * 100
LABEL = b"CHECKPOINT LOCATION: 0/2000060\n"


def archive() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in (("backup_label", LABEL), ("base/5/16384", CONTENT)):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def manifest() -> bytes:
    files = [
        {
            "Path": name,
            "Size": len(content),
            "Checksum-Algorithm": "SHA256",
            "Checksum": hashlib.sha256(content).hexdigest(),
        }
        for name, content in (("backup_label", LABEL), ("base/5/16384", CONTENT))
    ]
    text = json.dumps({"PostgreSQL-Backup-Manifest-Version": 1, "Files": files})[:-1] + ",\n"
    total = hashlib.sha256(text.encode()).hexdigest()
    return f'{text}"Manifest-Checksum": "{total}"}}\n'.encode()


class Full:
    """A disk that has no room at the n-th thing that is written, until it was waited for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
        self.left = number
        self.waited: list[NoSpace] = []
        write, make, durably = io.FileIO.write, Path.mkdir, file_layer.write_durably

        class File(io.FileIO):
            def write(file, data: bytes) -> int:  # type: ignore[override]  # noqa: N805
                self.ask()
                # The disk takes a part of it, as a full one does first.
                return write(file, memoryview(data)[: 1 + len(data) // 2])

        plain = Path.open

        def open_file(path: Path, mode: str = "r", buffering: int = -1) -> object:
            if mode != "xb":
                return plain(path, mode, buffering)
            self.ask()
            return File(path, mode)

        def mkdir(
            path: Path, mode: int = 0o777, parents: bool = False, exist_ok: bool = False
        ) -> None:
            self.ask()
            make(path, mode, parents, exist_ok)

        def write_durably(files: object, path: Path, content: bytes, mode: int) -> None:
            try:
                self.ask()
            except OSError as exc:
                raise NoSpace(f"write {path}: full", str(path)) from exc
            durably(FileLayer(), path, content, mode)

        monkeypatch.setattr(Path, "open", open_file)
        monkeypatch.setattr(Path, "mkdir", mkdir)
        monkeypatch.setattr("walstream.store.base_backup.write_durably", write_durably)

    def ask(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def wait(self, error: NoSpace) -> None:
        self.waited.append(error)


def take(writer: BackupWriter) -> None:
    writer.begin(0x2000028, 1)
    writer.archive(0)
    data = archive()
    for at in range(0, len(data), 7000):
        writer.data(data[at : at + 7000])
    writer.manifest()
    writer.data(manifest())
    writer.finish(0x2000100, 1)


def test_it_waits_wherever_space_ends_and_is_whole(tmp_path: Path) -> None:
    number, waits = 0, 1
    while waits:
        number += 1
        place = tmp_path / str(number)
        place.mkdir()
        with pytest.MonkeyPatch.context() as monkeypatch:
            disk = Full(monkeypatch, number)
            writer = BackupWriter(place, wait_for_space=disk.wait)
            take(writer)
        waits = len(disk.waited)
        assert writer.result is not None
        assert (writer.result.path / "base/5/16384").read_bytes() == CONTENT
        assert all(str(place) in str(error) for error in disk.waited)
    assert number > 12  # directories, files, writes, manifest, description


def test_without_waiting_it_is_an_error(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        Full(monkeypatch, 6)
        writer = BackupWriter(tmp_path)
        with pytest.raises(StorageError, match="No space left"):
            take(writer)
        writer.abandon()
    assert list(tmp_path.iterdir()) == []
