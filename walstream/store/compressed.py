"""Segments compressed on the fly: gzip, lz4 and zstd, as ``pg_receivewal --compress`` names them.

A compressed segment is written as a new file always: what an earlier process left is read,
proven, written again under a temporary name and only then replaced. No old tail can survive.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import lz4.frame
import zstandard

from walstream.errors import NoSpace, ReadError, WriteError
from walstream.store.file_layer import FileLayer, storage_error
from walstream.store.segment_file import PARTIAL

SUFFIX_OF_METHOD = {"none": "", "gzip": ".gz", "lz4": ".lz4", "zstd": ".zst"}
LEVELS = {"none": (0, 0), "gzip": (1, 9), "lz4": (1, 12), "zstd": (1, 22)}
_READ = 1 << 20
_DAMAGE = (zlib.error, zstandard.ZstdError, RuntimeError)


class Compression(NamedTuple):
    """A method and its level; level None is the method's default."""

    method: str = "none"
    level: int | None = None

    @property
    def suffix(self) -> str:
        return SUFFIX_OF_METHOD[self.method]


NO_COMPRESSION = Compression()


def parse_compression(text: str) -> Compression:
    """Returns what ``-Z`` means: ``METHOD``, ``METHOD:LEVEL``, ``METHOD:level=N``, or a gzip level.

    Raises:
        ValueError: unknown method or a level out of its range.
    """
    if text.isascii() and text.isdigit():
        text = f"gzip:{text}" if int(text) else "none"
    method, _, detail = text.partition(":")
    if method not in LEVELS:
        raise ValueError(f"compression: expected none, gzip, lz4 or zstd, got {method!r}")
    detail = detail.removeprefix("level=")
    if not detail:
        return Compression(method)
    low, high = LEVELS[method]
    if method == "none" or not detail.isdigit() or not low <= int(detail) <= high:
        raise ValueError(f"compression level of {method}: expected {low} to {high}, got {detail}")
    return Compression(method, int(detail))


class _Lz4:
    """A frame that grows; ``auto_flush`` makes every ``compress`` emit all it was given."""

    def __init__(self, level: int | None) -> None:
        self._frame: Any = lz4.frame.LZ4FrameCompressor(
            compression_level=level or 0, auto_flush=True
        )
        self._begun = False

    def compress(self, data: bytes | memoryview) -> bytes:
        begin = b"" if self._begun else self._frame.begin()
        self._begun = True
        return bytes(begin + self._frame.compress(data))

    def sync(self) -> bytes:
        return b""

    def finish(self) -> bytes:
        return bytes(self._frame.flush())


class _Gzip:
    def __init__(self, level: int | None) -> None:
        self._deflate = zlib.compressobj(-1 if level is None else level, zlib.DEFLATED, 31)

    def compress(self, data: bytes | memoryview) -> bytes:
        return self._deflate.compress(data)

    def sync(self) -> bytes:
        return self._deflate.flush(zlib.Z_SYNC_FLUSH)

    def finish(self) -> bytes:
        return self._deflate.flush(zlib.Z_FINISH)


class _Zstd:
    def __init__(self, level: int | None) -> None:
        self._zstd: Any = zstandard.ZstdCompressor(level=level or 3).compressobj()

    def compress(self, data: bytes | memoryview) -> bytes:
        return bytes(self._zstd.compress(data))

    def sync(self) -> bytes:
        return bytes(self._zstd.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK))

    def finish(self) -> bytes:
        return bytes(self._zstd.flush(zstandard.COMPRESSOBJ_FLUSH_FINISH))


_COMPRESSORS: dict[str, Callable[[int | None], _Lz4 | _Gzip | _Zstd]] = {
    "gzip": _Gzip,
    "lz4": _Lz4,
    "zstd": _Zstd,
}


class CompressedSegment:
    """As ``SegmentFile``, for a compressed file: sequential, not readable while it is written.

    Args:
        prefix: bytes of the segment from its start that are known; they are written and made
            durable before the file gets its ``.partial`` name.
    """

    comparable = False

    def __init__(
        self,
        files: FileLayer,
        directory: Path,
        name: str,
        compression: Compression,
        prefix: Iterator[bytes],
        *,
        sync: bool = True,
        mode: int = 0o600,
    ) -> None:
        self.name = name + compression.suffix
        self._files = files
        self._directory = directory
        self._sync = sync
        self._compressor = _COMPRESSORS[compression.method](compression.level)
        self._out = b""
        self._at = 0
        self._unsynced = False
        partial = directory / (self.name + PARTIAL)
        self.path = directory / (self.name + PARTIAL + ".tmp")
        self._fd = self._call(
            "open", files.open, self.path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, mode
        )
        try:
            for piece in prefix:
                self.write(0, [piece])
            self.flush()
            self._call("rename", files.rename, self.path, partial)
            self.path = partial
            if sync:
                self._call("fsync directory of", files.fsync_directory, directory)
        except BaseException:
            self.close()
            files.unlink(self.path)
            raise

    def _call(self, action: str, function: Callable[..., Any], *args: object) -> Any:
        try:
            return function(*args)
        except OSError as exc:
            raise storage_error(action, self.path, exc) from exc

    def _drain(self) -> None:
        while self._out:
            done = self._call("write", self._files.write, self._fd, [self._out], self._at)
            if done <= 0:
                raise NoSpace(f"write {self.path}: no space left (short write)", str(self.path))
            self._at += done
            self._out = self._out[done:]

    def write(self, offset: int, buffers: list[bytes | memoryview]) -> int:
        """Compresses the first buffer; what cannot be written yet waits for the next call."""
        del offset  # always where the last write ended
        self._drain()
        self._out = self._compressor.compress(buffers[0])
        self._unsynced = True
        return len(buffers[0])

    def read(self, offset: int, length: int) -> bytes:
        raise NotImplementedError("a compressed segment cannot be read while it is written")

    def flush(self) -> None:
        """Makes everything written decompressable and durable."""
        self._drain()
        if self._unsynced:
            self._out = self._compressor.sync()
            self._unsynced = False
            self._drain()
        if self._sync:
            self._fatal("fdatasync", self._files.fsync, self._fd)

    def _fatal(self, action: str, function: Callable[..., Any], *args: object) -> None:
        try:
            function(*args)
        except OSError as exc:
            raise WriteError(f"{action} {self.path}: {exc.strerror}", str(self.path)) from exc

    def complete(self) -> None:
        self._drain()
        if self._compressor is not None:
            self._out = self._compressor.finish()
            del self._compressor
            self._compressor = None  # type: ignore[assignment]
            self._unsynced = False
        self._drain()
        final = self._directory / self.name
        if self._sync:
            self._fatal("fsync", self._files.fsync, self._fd)
        self._fatal("rename", self._files.rename, self.path, final)
        self.path = final
        if self._sync:
            self._fatal("fsync", self._files.fsync, self._fd)
            self._fatal("fsync directory of", self._files.fsync_directory, self._directory)
        self.close()

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            self._files.close(fd)


class _Plain:
    eof = False

    def decompress(self, data: bytes) -> bytes:
        return data


def _decompressor(path: Path) -> Any:
    name = path.name.removesuffix(PARTIAL)
    if name.endswith(".gz"):
        return zlib.decompressobj(31)
    if name.endswith(".lz4"):
        return lz4.frame.LZ4FrameDecompressor()
    return zstandard.ZstdDecompressor().decompressobj() if name.endswith(".zst") else _Plain()


def read_segment(path: Path) -> Iterator[bytes]:
    """Yields the bytes of a segment file, decompressed by what its name says.

    A compressed file that was cut ends where it was cut; its last bytes may be missing. Of one
    that is damaged everything before the damage is yielded first.

    Raises:
        StorageError: it cannot be read, or a compressed file is damaged before its end.
    """
    decompressor = _decompressor(path)
    done = 0  # bytes of the file that were decompressed
    yielded = 0
    try:
        with path.open("rb") as file:
            try:
                while not decompressor.eof and (piece := file.read(_READ)):
                    data = decompressor.decompress(piece)
                    yielded += len(data)
                    done += len(piece)
                    yield data
            except _DAMAGE:
                # What the piece held before the damage was lost with the exception. It may have
                # been flushed: the end of an unfinished file is whatever a crash left there.
                yield from _up_to_damage(file, _decompressor(path), done, yielded)
    except OSError as exc:
        raise storage_error("read", path, exc) from exc
    except _DAMAGE as exc:
        raise ReadError(f"read {path}: {exc}", str(path)) from exc


def _up_to_damage(file: BinaryIO, decompressor: Any, done: int, skip: int) -> Iterator[bytes]:
    """Yields what a damaged file holds before its damage, less ``skip`` bytes; raises again.

    Args:
        done: bytes of the file before the piece that failed.
    """
    file.seek(0)
    collected = bytearray()
    try:
        while piece := file.read(min(_READ, done) or 1):
            done = max(0, done - len(piece))
            data = decompressor.decompress(piece)
            collected += data[skip:]
            skip = max(0, skip - len(data))
            if len(collected) >= _READ:
                yield bytes(collected)
                collected.clear()
    except _DAMAGE:
        yield bytes(collected)
        raise


def read_prefix(path: Path, length: int) -> Iterator[bytes]:
    """Yields the first ``length`` bytes of a segment; nothing behind them is read."""
    if length <= 0:
        return
    for piece in read_segment(path):
        yield piece[:length]
        length -= len(piece)
        if length <= 0:
            return
