"""Packed files of other tools, by their names or by how they begin; plain bytes out.

gzip, lz4 and zstd a store keeps as they are; bzip2, xz, lzma and brotli are only unpacked here.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from walstream.errors import FileDamaged
from walstream.segments.compression import CODECS
from walstream.segments.files import decompressed, read_error

# How they begin; lzma and brotli have nothing to tell them by.
_MAGICS = (
    *((codec.magic, codec.suffix) for codec in CODECS),
    (b"BZh", ".bz2"),
    (b"\xfd7zXZ\x00", ".xz"),
)
_ENCRYPTED = {b"Salted__": "pgBackRest", b"\x85\x01": "OpenPGP", b"\x85\x02": "OpenPGP"}
# Packed input that is unpacked at a time.
_STEP = 64 << 10
KEPT = tuple(codec.suffix for codec in CODECS)


class _Unpacker(NamedTuple):
    """Makes plain bytes of packed ones; ``ended`` tells that a stream is whole."""

    feed: Callable[[bytes], bytes]
    ended: Callable[[], bool]
    damage: tuple[type[Exception], ...]


def _bzip2() -> _Unpacker:
    import bz2

    stream = bz2.BZ2Decompressor()
    return _Unpacker(stream.decompress, lambda: stream.eof, (OSError, ValueError))


def _lzma() -> _Unpacker:
    import lzma

    stream = lzma.LZMADecompressor()
    return _Unpacker(stream.decompress, lambda: stream.eof, (lzma.LZMAError,))


def _brotli() -> _Unpacker:
    import brotli  # type: ignore[import-untyped]

    stream = brotli.Decompressor()
    return _Unpacker(stream.process, stream.is_finished, (brotli.error,))


_UNPACKERS = {".bz2": _bzip2, ".xz": _lzma, ".lzma": _lzma, ".br": _brotli}


class UnpackedFile(io.RawIOBase):
    """The plain bytes of a file that no store keeps as it is, in order.

    One that was cut just ends. Going back means to begin anew.

    Args:
        raw: the file at its start; closed with this.
        packing: the suffix of its compression.
        name: for messages.
    """

    def __init__(self, raw: IO[bytes], packing: str, name: str) -> None:
        self._raw = raw
        self._packing = packing
        self._unpacker = _UNPACKERS[packing]()
        self._at = 0
        self._name = name
        self._out = memoryview(b"")

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._raw.close()
        super().close()

    def readinto(self, buffer: Any) -> int:
        """Fills what it can of a buffer; returns how many bytes, 0 at the end.

        Raises:
            FileDamaged: the compressed data is damaged.
            OSError: the file cannot be read.
        """
        view = memoryview(buffer).cast("B")
        while not self._out:
            if self._unpacker.ended():
                return 0
            piece = self._raw.read(_STEP)
            if not piece:
                return 0
            try:
                self._out = memoryview(self._unpacker.feed(piece))
            except self._unpacker.damage as error:
                raise FileDamaged(f"could not read {self._name}: {error}", self._name) from error
        size = min(len(view), len(self._out))
        view[:size] = self._out[:size]
        self._out = self._out[size:]
        self._at += size
        return size

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Goes to an offset of the plain bytes by unpacking up to there; raises as ``readinto``."""
        assert whence == io.SEEK_SET
        if offset < self._at:
            self._raw.seek(0)
            self._unpacker = _UNPACKERS[self._packing]()
            self._out, self._at = memoryview(b""), 0
        while self._at < offset and self.read(min(_STEP, offset - self._at)):
            pass
        return self._at


def open_packed(path: Path, packing: str) -> IO[bytes]:
    """Returns the plain bytes of a file of some packing, "" for none; raises as opening does."""
    raw = path.open("rb", buffering=0)
    if not packing:
        return raw
    if packing in KEPT:
        return decompressed(raw, packing, str(path))
    return cast(IO[bytes], UnpackedFile(raw, packing, str(path)))


def first_bytes(path: Path) -> bytes:
    """Returns how a file begins, as it lies there.

    Raises:
        ReadError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(64)
    except OSError as error:
        raise read_error("read", path, error) from error


def packing_of(start: bytes) -> str:
    """Returns the suffix of what a file is packed with, by its first bytes; "" for none known."""
    return next((suffix for magic, suffix in _MAGICS if start.startswith(magic)), "")


def encrypted_by(start: bytes) -> str | None:
    """Returns what a file seems to be encrypted with, by how it begins."""
    return next((how for magic, how in _ENCRYPTED.items() if start.startswith(magic)), None)
