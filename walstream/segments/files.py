"""Named files that hold WAL, of a directory or the members of a tar archive; plain bytes out.

Knows compressed files (.gz, .lz4, .zst), but not what is in any of them.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import IO, Protocol

from walstream.errors import ReadError

CHUNK = 16 << 20

_TAR = re.compile(r".*\.(?:tar|tgz)(?:\.(?:gz|lz4|zst))?")


def is_tar(path: str) -> bool:
    return _TAR.fullmatch(path) is not None


def decompressed(stream: IO[bytes], compression: str, name: str) -> IO[bytes]:
    """Returns a stream of the plain bytes.

    Raises:
        StorageError: the kind of compression is not known.
    """
    match compression:
        case "":
            return stream
        case "gz" | "tgz":
            import gzip

            return gzip.open(stream)  # type: ignore[return-value]
        case "lz4":
            import lz4.frame

            return lz4.frame.open(stream)  # type: ignore[no-any-return]
        case "zst":
            import zstandard

            return zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True)
    raise ReadError(f"{name}: unknown compression {compression!r}", name)


def read_errors() -> tuple[type[Exception], ...]:
    """Returns what reading may raise; of modules only those that were needed."""
    known: list[type[Exception]] = [OSError, EOFError, RuntimeError]
    for module, name in (("zlib", "error"), ("tarfile", "TarError"), ("zstandard", "ZstdError")):
        if module in sys.modules:
            known.append(getattr(sys.modules[module], name))
    return tuple(known)


def read_some(stream: IO[bytes], size: int, name: str) -> bytes:
    """Returns up to ``size`` bytes, fewer at the end; a compressed file that was cut just ends.

    Raises:
        StorageError: the file cannot be read, or is not what its name says.
    """
    parts = []
    while size > 0:
        try:
            part = stream.read(min(size, CHUNK))
        except EOFError:
            break
        except read_errors() as error:
            raise ReadError(f"could not read {name}: {error}", name) from error
        if not part:
            break
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def read_into(stream: IO[bytes], buffer: memoryview, name: str) -> int:
    """Reads into a buffer; returns how many bytes, 0 at the end, as ``read_some``.

    Raises:
        StorageError: the file cannot be read, or is not what its name says.
    """
    try:
        got: int = stream.readinto(buffer)  # type: ignore[attr-defined]
    except EOFError:
        return 0
    except read_errors() as error:
        raise ReadError(f"could not read {name}: {error}", name) from error
    return got


class Files(Protocol):
    """Named files somewhere: a directory, or the members of a tar archive."""

    def names(self) -> list[str]: ...
    def open(self, name: str) -> IO[bytes]: ...
    def where(self) -> str: ...
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

    def open(self, name: str) -> IO[bytes]:
        path = self.path / name
        try:
            return path.open("rb", buffering=0)
        except OSError as error:
            raise ReadError(f"could not open {path}: {error.strerror}", str(path)) from error

    def where(self) -> str:
        return str(self.path)

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
        suffix = path.name.rsplit(".", 1)[-1]
        try:
            stream: IO[bytes] = path.open("rb")
            if suffix != "tar":
                stream = self._spool(decompressed(stream, suffix, str(path)))
            self.stream = stream
            self.tar = tarfile.open(fileobj=stream)  # noqa: SIM115 (lives as long as this)
            self.members = {
                member.name.rsplit("/", 1)[-1]: member for member in self.tar if member.isfile()
            }
        except read_errors() as error:
            raise ReadError(f"could not read {path}: {error}", str(path)) from error

    def _spool(self, stream: IO[bytes]) -> IO[bytes]:
        import tempfile

        spool = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as this)
        while block := stream.read(1 << 20):
            spool.write(block)
        spool.seek(0)
        return spool

    def names(self) -> list[str]:
        return list(self.members)

    def open(self, name: str) -> IO[bytes]:
        stream = self.tar.extractfile(self.members[name])
        assert stream is not None
        return stream

    def where(self) -> str:
        return str(self.path)

    def close(self) -> None:
        self.tar.close()
        self.stream.close()
