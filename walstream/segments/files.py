"""Named files that hold WAL, of a directory or the members of a tar archive; plain bytes out.

Knows compressed files (.gz, .lz4, .zst), but not what is in any of them.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Protocol, cast

from walstream.errors import FileDamaged, ReadError
from walstream.segments.compression import DecompressedFile
from walstream.segments.names import compression_of

CHUNK = 16 << 20
_READ = 1 << 20

# Compiled when it is first asked for.
_TAR = r".*\.(?:tar|tgz)(?:\.(?:gz|lz4|zst))?"


def is_tar(path: str) -> bool:
    return re.fullmatch(_TAR, path) is not None


def read_error(action: str, path: Path | str, error: OSError) -> ReadError:
    """Returns our error for a system call that failed while something was read or looked at."""
    return ReadError(f"{action} {path}: {error.strerror or error}", str(path))


def decompressed(stream: IO[bytes], compression: str, name: str) -> IO[bytes]:
    """Returns a stream of the plain bytes; ``compression`` is a suffix, "" for none."""
    return cast(IO[bytes], DecompressedFile(stream, compression, name)) if compression else stream


def _read_errors() -> tuple[type[Exception], ...]:
    """Returns what reading may raise beside our errors: of an archive its own, if it was needed."""
    known: list[type[Exception]] = [OSError, EOFError]
    if "tarfile" in sys.modules:
        known.append(sys.modules["tarfile"].TarError)
    return tuple(known)


def read_some(stream: IO[bytes], size: int, name: str) -> bytes:
    """Returns up to ``size`` bytes, fewer at the end; a compressed file that was cut just ends.

    Raises:
        ReadError: the file cannot be read.
        FileDamaged: it is not what its name says.
    """
    parts = []
    while size > 0:
        try:
            part = stream.read(min(size, CHUNK))
        except _read_errors() as error:
            raise ReadError(f"could not read {name}: {error}", name) from error
        if not part:
            break
        parts.append(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def read_into(stream: IO[bytes], buffer: memoryview, name: str) -> int:
    """Reads into a buffer; returns how many bytes, 0 at the end, as ``read_some``.

    Raises:
        ReadError, FileDamaged: as ``read_some``.
    """
    try:
        got: int = stream.readinto(buffer)  # type: ignore[attr-defined]
    except _read_errors() as error:
        raise ReadError(f"could not read {name}: {error}", name) from error
    return got


def read_file(path: Path, offset: int = 0) -> Iterator[bytes]:
    """Yields the bytes of a file from ``offset`` on, decompressed by what its name says.

    A compressed file that was cut ends where it was cut; its last bytes may be missing. Of one
    that is damaged everything before the damage is yielded first.

    Raises:
        ReadError: it cannot be read.
        FileDamaged: it is compressed, and damaged before its end.
    """
    try:
        with path.open("rb", buffering=0) as raw:
            compression = compression_of(path.name)
            stream = decompressed(cast(IO[bytes], raw), compression, str(path))
            if not compression:
                raw.seek(offset)
                offset = 0
            while piece := stream.read(_READ):
                if offset:
                    skipped = min(offset, len(piece))
                    offset -= skipped
                    piece = piece[skipped:]
                if piece:
                    yield piece
    except OSError as error:
        raise read_error("read", path, error) from error


def read_prefix(path: Path, length: int) -> Iterator[bytes]:
    """Yields the first ``length`` bytes of a file, as ``read_file``; no more of it is read."""
    if length <= 0:
        return
    for piece in read_file(path):
        yield piece[:length]
        length -= len(piece)
        if length <= 0:
            return


def read_head(path: Path, size: int) -> bytes:
    """Returns the first ``size`` bytes of a file, fewer where it ends; raises as ``read_file``."""
    head = b""
    for piece in read_prefix(path, size):
        head += piece
    return head


def regular_files(directory: Path) -> Iterator[tuple[str, int]]:
    """Yields names and sizes of the files of a directory.

    Whatever else is there is passed over: directories, sockets, links that lead nowhere, what is
    gone before it is looked at.

    Raises:
        ReadError: the directory cannot be read.
    """
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                try:
                    if entry.is_file():
                        yield entry.name, entry.stat().st_size
                except FileNotFoundError:
                    continue
    except OSError as error:
        raise read_error("read", directory, error) from error


class Files(Protocol):
    """Named files somewhere: a directory, or the members of a tar archive."""

    def names(self) -> list[str]:
        """Returns the names of all."""

    def has(self, name: str) -> bool:
        """Returns whether a file of that name is there now."""

    def open(self, name: str) -> IO[bytes]:
        """Returns a file as it lies there, at its start."""

    def where(self) -> str:
        """Returns what to call the place in messages."""

    def changed_ns(self) -> int:
        """Returns a time that is another one once files came or went."""

    def close(self) -> None: ...


class DirectoryFiles:
    """The files of a directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        try:
            with os.scandir(self.path) as entries:
                return [entry.name for entry in entries if entry.is_file()]
        except OSError as error:
            raise ReadError(
                f"could not open directory {self.path}: {error.strerror}", str(self.path)
            ) from error

    def has(self, name: str) -> bool:
        try:
            return stat.S_ISREG(os.stat(f"{self.path}/{name}").st_mode)  # noqa: PTH116 (often asked)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise read_error("look at", self.path / name, error) from error

    def open(self, name: str) -> IO[bytes]:
        path = self.path / name
        try:
            return path.open("rb", buffering=0)
        except OSError as error:
            raise ReadError(f"could not open {path}: {error.strerror}", str(path)) from error

    def where(self) -> str:
        return str(self.path)

    def changed_ns(self) -> int:
        try:
            return self.path.stat().st_mtime_ns
        except OSError as error:
            raise ReadError(f"cannot read {self.path}: {error.strerror}", str(self.path)) from error

    def close(self) -> None:
        """Nothing is held open."""


class TarFiles:
    """The members of a tar archive, found by the last part of their names.

    A compressed archive is unpacked to a temporary file first, since segments may stand in it in
    any order.
    """

    def __init__(self, path: Path) -> None:
        import tarfile

        self.path = path
        compression = ".gz" if path.name.endswith(".tgz") else compression_of(path.name)
        try:
            stream: IO[bytes] = path.open("rb")
            if compression:
                stream = self._spool(decompressed(stream, compression, str(path)))
            self.stream = stream
            self.tar = tarfile.open(fileobj=stream)  # noqa: SIM115 (lives as long as this)
            self.members = {
                member.name.rsplit("/", 1)[-1]: member for member in self.tar if member.isfile()
            }
        except OSError as error:
            raise read_error("could not read", path, error) from error
        except (EOFError, tarfile.TarError) as error:
            raise FileDamaged(f"could not read {path}: {error}", str(path)) from error

    def _spool(self, stream: IO[bytes]) -> IO[bytes]:
        import tempfile

        spool = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as this)
        while block := stream.read(1 << 20):
            spool.write(block)
        spool.seek(0)
        return spool

    def names(self) -> list[str]:
        return list(self.members)

    def has(self, name: str) -> bool:
        return name in self.members

    def open(self, name: str) -> IO[bytes]:
        stream = self.tar.extractfile(self.members[name])
        assert stream is not None
        return stream

    def where(self) -> str:
        return str(self.path)

    def changed_ns(self) -> int:
        return 1

    def close(self) -> None:
        self.tar.close()
        self.stream.close()
