"""A segment that is compressed while it is written: gzip, lz4 or zstd.

It is written as a new file always: what an earlier process left is read, proven, written again
under a temporary name and only then replaced. No old tail can survive.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from walstream.errors import NoSpace, WriteError
from walstream.segments.compression import Compression, Compressor
from walstream.segments.names import AHEAD, PARTIAL
from walstream.store.file_layer import FileLayer, storage_error


class CompressedSegment:
    """As ``SegmentFile``, for a compressed file: sequential, not readable while it is written.

    Args:
        prefix: bytes of the segment from its start that are known; they are written and made
            durable before the file gets its ``.partial`` name.
        ahead: see ``SegmentFile``.
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
        ahead: bool = False,
    ) -> None:
        self.name = name + compression.suffix
        self._files = files
        self._directory = directory
        self._sync = sync
        self._compressor: Compressor | None = compression.compressor()
        self._out = b""
        self._at = 0
        self._unsynced = False
        self._finished = False
        partial = directory / (self.name + PARTIAL)
        self.path = directory / (self.name + PARTIAL + AHEAD)
        self._fd = self._call(
            "open", files.open, self.path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, mode
        )
        try:
            for piece in prefix:
                self.write(0, [piece])
            if not ahead:
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
        assert self._compressor is not None
        self._drain()
        self._out = self._compressor.compress(buffers[0])
        self._unsynced = True
        return len(buffers[0])

    def read(self, offset: int, length: int) -> bytes:
        raise NotImplementedError("a compressed segment cannot be read while it is written")

    def flush(self) -> None:
        """Makes everything written decompressable and durable."""
        self._drain()
        if self._unsynced and self._compressor is not None:
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

    def appear(self) -> None:
        """See ``SegmentFile.appear``."""
        partial = self._directory / (self.name + PARTIAL)
        self._fatal("rename", self._files.rename, self.path, partial)
        self.path = partial
        if self._sync:
            self._fatal("fsync directory of", self._files.fsync_directory, self._directory)

    def finish(self) -> None:
        """Writes the end of the compressed data.

        Raises:
            NoSpace: the disk is full; call again.
            WriteError: the write failed.
        """
        self._drain()
        if not self._finished:
            assert self._compressor is not None
            self._out = self._compressor.finish()
            self._finished = True
            self._unsynced = False
        self._drain()

    def complete(self) -> None:
        """See ``SegmentFile.complete``; after ``finish``."""
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
