"""How WAL files are compressed: one table of codecs, as ``pg_receivewal --compress`` names them.

A codec's package is imported with the first file that needs it: commands that a server starts once
a segment must not wait for packages that they do not use.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import IO, Any, NamedTuple, Protocol

from walstream.errors import FileDamaged


class Compressor(Protocol):
    """Makes one frame: what it is given, in order."""

    def compress(self, data: bytes | memoryview) -> bytes:
        """Returns what of the frame is ready."""

    def sync(self) -> bytes:
        """Returns what makes all that was given decompressable."""

    def finish(self) -> bytes:
        """Returns the end of the frame."""


class Decompressor(Protocol):
    """Takes one frame in pieces. After ``eof`` the rest of the last piece is ``unused_data``."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


class Codec(NamedTuple):
    """A way of compression.

    Attributes:
        method: its name on the command line.
        suffix: of the names of files.
        levels: lowest and highest.
        magic: what a frame begins with.
        step: bytes that a decompressor is given at a time; it bounds what hostile ones become.
        compressor: returns one for a level, None for the method's default.
        decompressor: returns one for one frame, and what it raises for damage.
    """

    method: str
    suffix: str
    levels: tuple[int, int]
    magic: bytes
    step: int
    compressor: Callable[[int | None], Compressor]
    decompressor: Callable[[], tuple[Decompressor, type[Exception]]]


class _Gzip:
    def __init__(self, level: int | None) -> None:
        import zlib

        self._deflate = zlib.compressobj(-1 if level is None else level, zlib.DEFLATED, 31)
        self._sync, self._finish = zlib.Z_SYNC_FLUSH, zlib.Z_FINISH

    def compress(self, data: bytes | memoryview) -> bytes:
        return self._deflate.compress(data)

    def sync(self) -> bytes:
        return self._deflate.flush(self._sync)

    def finish(self) -> bytes:
        return self._deflate.flush(self._finish)


class _Lz4:
    """A frame that grows; ``auto_flush`` makes every ``compress`` emit all it was given."""

    def __init__(self, level: int | None) -> None:
        import lz4.frame

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
        begin = b"" if self._begun else self._frame.begin()
        return bytes(begin + self._frame.flush())


class _Zstd:
    def __init__(self, level: int | None) -> None:
        import zstandard

        self._zstd: Any = zstandard.ZstdCompressor(level=level or 3).compressobj()
        self._block = zstandard.COMPRESSOBJ_FLUSH_BLOCK
        self._finish = zstandard.COMPRESSOBJ_FLUSH_FINISH

    def compress(self, data: bytes | memoryview) -> bytes:
        return bytes(self._zstd.compress(data))

    def sync(self) -> bytes:
        return bytes(self._zstd.flush(self._block))

    def finish(self) -> bytes:
        return bytes(self._zstd.flush(self._finish))


def _gunzip() -> tuple[Decompressor, type[Exception]]:
    import zlib

    return zlib.decompressobj(31), zlib.error


def _unlz4() -> tuple[Decompressor, type[Exception]]:
    import lz4.frame

    return lz4.frame.LZ4FrameDecompressor(), RuntimeError


def _unzstd() -> tuple[Decompressor, type[Exception]]:
    import zstandard

    # A block is up to 128 KB and as short as 4 bytes.
    return zstandard.ZstdDecompressor().decompressobj(), zstandard.ZstdError


CODECS = (
    Codec("gzip", ".gz", (1, 9), b"\x1f\x8b", 4 << 10, _Gzip, _gunzip),
    Codec("lz4", ".lz4", (1, 12), b"\x04\x22\x4d\x18", 16 << 10, _Lz4, _unlz4),
    Codec("zstd", ".zst", (1, 22), b"\x28\xb5\x2f\xfd", 4 << 10, _Zstd, _unzstd),
)
# "" is a plain file.
SUFFIXES = ("", *(codec.suffix for codec in CODECS))
_BY_METHOD = {codec.method: codec for codec in CODECS}
_BY_SUFFIX = {codec.suffix: codec for codec in CODECS}


class Compression(NamedTuple):
    """A method and its level; level None is the method's default."""

    method: str = "none"
    level: int | None = None

    @property
    def suffix(self) -> str:
        return "" if self.method == "none" else _BY_METHOD[self.method].suffix

    def compressor(self) -> Compressor:
        """Returns a compressor for one file."""
        return _BY_METHOD[self.method].compressor(self.level)


NO_COMPRESSION = Compression()


def parse_compression(text: str) -> Compression:
    """Returns what ``-Z`` means: ``METHOD``, ``METHOD:LEVEL``, ``METHOD:level=N``, or a gzip level.

    Raises:
        ValueError: unknown method or a level out of its range.
    """
    if text.isascii() and text.isdigit():
        text = f"gzip:{text}" if int(text) else "none"
    method, _, detail = text.partition(":")
    codec = _BY_METHOD.get(method)
    if codec is None and method != "none":
        raise ValueError(f"compression: expected none, gzip, lz4 or zstd, got {method!r}")
    detail = detail.removeprefix("level=")
    if not detail:
        return Compression(method)
    low, high = codec.levels if codec else (0, 0)
    if codec is None or not detail.isdigit() or not low <= int(detail) <= high:
        raise ValueError(f"compression level of {method}: expected {low} to {high}, got {detail}")
    return Compression(method, int(detail))


class DecompressedFile(io.RawIOBase):
    """The plain bytes of a compressed file, in order.

    Frames may follow one another; what follows the last and begins no other is not read, as gzip
    does. A file that was cut just ends, with all that can be decompressed of it. Of a damaged one
    everything before the damage is given first: it may have been flushed, and the end of an
    unfinished file is whatever a crash left there.

    Args:
        raw: the file at its start; the caller's to close. Only after damage it is sought in.
        suffix: of its compression.
        name: for messages.
    """

    def __init__(self, raw: IO[bytes], suffix: str, name: str) -> None:
        self._raw = raw
        self._codec = _BY_SUFFIX[suffix]
        self._name = name
        self._frame, self._damage = self._codec.decompressor()
        self._taken = 0  # bytes of the file that were read
        self._given = 0  # what became of them
        self._out = memoryview(b"")
        self._ended = False
        self._error: FileDamaged | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fills what it can of a buffer; returns how many bytes, 0 at the end.

        Raises:
            FileDamaged: all before the damage was given.
            OSError: the file cannot be read.
        """
        view = memoryview(buffer).cast("B")
        while not self._out:
            if self._error is not None:
                raise self._error
            if self._ended:
                return 0
            self._fill()
        size = min(len(view), len(self._out))
        view[:size] = self._out[:size]
        self._out = self._out[size:]
        return size

    def _take(self, size: int) -> bytes:
        piece = self._raw.read(size)
        self._taken += len(piece)
        return piece

    def _fill(self) -> None:
        sound = self._taken
        piece = self._take(self._codec.step)
        if not piece:
            self._ended = True
            return
        try:
            data = self._decompress(piece)
        except self._damage as error:
            # What the piece held before the damage was lost with the exception.
            data = self._before_damage(sound)
            self._error = FileDamaged(f"could not read {self._name}: {error}", self._name)
            self._error.__cause__ = error
        self._given += len(data)
        self._out = memoryview(data)

    def _decompress(self, piece: bytes) -> bytes:
        data = self._frame.decompress(piece)
        while self._frame.eof:
            magic = self._codec.magic
            # Padding may stand between frames.
            rest = (self._frame.unused_data or b"").lstrip(b"\0")
            while len(rest) < len(magic) and (more := self._take(self._codec.step)):
                rest = (rest + more).lstrip(b"\0")
            if not rest.startswith(magic):
                self._ended = True
                break
            self._frame, _ = self._codec.decompressor()
            data += self._frame.decompress(rest)
        return data

    def _before_damage(self, sound: int) -> bytes:
        """Returns what was not given yet of what is before the damage: byte by byte once more.

        Args:
            sound: bytes of the file before the piece that failed.
        """
        self._raw.seek(0)
        again = DecompressedFile(self._raw, self._codec.suffix, self._name)
        data = bytearray()
        skip = self._given
        try:
            while not again._ended:
                piece = again._take(min(self._codec.step, max(0, sound - again._taken)) or 1)
                if not piece:
                    break
                found = again._decompress(piece)
                data += found[skip:]
                skip = max(0, skip - len(found))
        except self._damage:
            pass
        return bytes(data)
