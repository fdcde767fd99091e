"""Where WAL bytes to inspect come from: directories, single files, tar archives, a pipe.

Segments may be complete or ``.partial``, plain or compressed (.gz, .lz4, .zst), on several
timelines. A source gives the bytes of a segment; it knows nothing of records.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple, Protocol

from walstream.errors import PageHeaderError, StorageError, WalError
from walstream.wal.layout import PAGE_MAGICS, XLP_LONG_HEADER
from walstream.wal.segment import (
    DEFAULT_SEGMENT_SIZE,
    is_valid_segment_size,
    segment_file_name,
)
from walstream.wal.timeline import TimelineHistory, parse_history

CHUNK = 16 << 20

_SEGMENT = re.compile(
    r"(?P<tli>[0-9A-F]{8})(?P<log>[0-9A-F]{8})(?P<seg>[0-9A-F]{8})(?P<rest>(?:\.[a-z0-9]+)*)"
)
_SUFFIXES = {"partial", "gz", "lz4", "zst"}
_TAR = re.compile(r".*\.(?:tar|tgz)(?:\.(?:gz|lz4|zst))?")
_HISTORY = re.compile(r"([0-9A-F]{8})\.history(?:\.(?:gz|lz4|zst))?")


# Asks the kernel to map pages now, and to say so where it cannot (Linux 5.14); mmap has no name
# for it yet.
_MADV_POPULATE_READ = 22


class SegmentFile(NamedTuple):
    """A file that holds a segment: its timeline, the two numbers of its name, how it is kept."""

    timeline: int
    log: int
    seg: int
    name: str
    compression: str
    partial: bool

    def number(self, segment_size: int) -> int:
        return self.log * ((1 << 32) // segment_size) + self.seg


def parse_name(name: str) -> SegmentFile | None:
    """Returns what a file name says, None where it is no segment."""
    match = _SEGMENT.fullmatch(name)
    if match is None:
        return None
    suffixes = match["rest"].split(".")[1:]
    if not set(suffixes) <= _SUFFIXES or len(set(suffixes)) != len(suffixes):
        return None
    compression = next((suffix for suffix in suffixes if suffix != "partial"), "")
    return SegmentFile(
        int(match["tli"], 16),
        int(match["log"], 16),
        int(match["seg"], 16),
        name,
        compression,
        "partial" in suffixes,
    )


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
    raise StorageError(f"{name}: unknown compression {compression!r}", name)


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
            raise StorageError(f"could not read {name}: {error}", name) from error
        if not part:
            break
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


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
            return os.listdir(self.path)  # noqa: PTH208 (names only)
        except OSError as error:
            raise StorageError(
                f"could not open directory {self.path}: {error.strerror}", str(self.path)
            ) from error

    def open(self, name: str) -> IO[bytes]:
        path = self.path / name
        try:
            return path.open("rb", buffering=0)
        except OSError as error:
            raise StorageError(f"could not open {path}: {error.strerror}", str(path)) from error

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
            raise StorageError(f"could not read {path}: {error}", str(path)) from error

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


class SegmentSource:
    """The segments of a directory or an archive, on the way to one timeline.

    Of each segment the file of the newest timeline is taken among ``timeline`` and its ancestors
    (its history file says until where each one counts); a complete file before a partial one, a
    plain one before a compressed one.

    Args:
        files: where the files are.
        timeline: the timeline to read, None for the newest there is.

    Raises:
        StorageError: there is no segment, or none has a valid first page.
    """

    def __init__(self, files: Files, timeline: int | None = None) -> None:
        self.files = files
        self.wanted_timeline = timeline
        self.segment_size = 0
        self.refresh()
        if not self.found:
            raise StorageError(f"could not find any WAL file in {files.where()}", files.where())
        self.segment_size = self._segment_size()
        self.refresh()

    def close(self) -> None:
        """Lets go of what is held open."""
        self.files.close()

    def refresh(self) -> None:
        """Looks for files again."""
        names = self.files.names()
        self.found = [file for file in map(parse_name, names) if file is not None]
        histories = {
            int(match[1], 16): name for name in names if (match := _HISTORY.fullmatch(name))
        }
        newest = max((file.timeline for file in self.found), default=1)
        self.timeline = self.wanted_timeline or newest
        self.history: TimelineHistory | None = None
        if self.timeline in histories:
            content = self._text(histories[self.timeline])
            self.history = parse_history(self.timeline, content)
        self._by_number: dict[int, list[SegmentFile]] = {}
        if self.segment_size:
            for file in self.found:
                self._by_number.setdefault(file.number(self.segment_size), []).append(file)

    def _text(self, name: str) -> str:
        suffix = name.rsplit(".", 1)[-1]
        with self.files.open(name) as raw:
            stream = decompressed(raw, "" if suffix == "history" else suffix, name)
            return read_some(stream, 1 << 20, name).decode("ascii", "replace")

    def _segment_size(self) -> int:
        size = 0
        for file in sorted(self.found, key=lambda file: (bool(file.compression), file.name)):
            with self.open(file) as stream:
                head = read_some(stream, 40, file.name)
            if len(head) == 40 and any(head):
                (size,) = struct.unpack_from("<I", head, 32)
                if is_valid_segment_size(size):
                    return int(size)
        if size == 0:
            # Nothing was written yet: any size will do.
            return DEFAULT_SEGMENT_SIZE
        raise StorageError(
            f"invalid WAL segment size in {self.files.where()}: expected a power of two between "
            f"1 MB and 1 GB, got {size}",
            self.files.where(),
        )

    @contextlib.contextmanager
    def open(self, file: SegmentFile) -> Iterator[IO[bytes]]:
        with self.files.open(file.name) as raw:
            try:
                stream = decompressed(raw, file.compression, file.name)
            except (RuntimeError, OSError, EOFError) as error:
                raise StorageError(f"could not read {file.name}: {error}", file.name) from error
            yield stream

    def timelines_for(self, number: int) -> list[int]:
        """Returns the timelines that may have written a segment, newest first."""
        if self.history is None:
            return [self.timeline]
        # The segment of a switch point may be there on both timelines.
        return [
            part.timeline
            for part in reversed(self.history.parts)
            if number <= part.end // self.segment_size
        ]

    def find(self, number: int) -> SegmentFile | None:
        """Returns the file that holds a segment, or None."""
        files = self._by_number.get(number, ())
        for timeline in self.timelines_for(number):
            mine = [file for file in files if file.timeline == timeline]
            if mine:
                return min(mine, key=lambda file: (file.partial, bool(file.compression)))
        return None

    def first_number(self) -> int:
        """Returns the first segment that is on the way to the timeline.

        Raises:
            StorageError: there is none.
        """
        number = min((n for n in self._by_number if self.find(n) is not None), default=None)
        if number is None:
            raise StorageError(
                f"no segment of timeline {self.timeline} in {self.files.where()}",
                self.files.where(),
            )
        return number

    def has_later(self, number: int) -> bool:
        """Returns whether there is a segment after ``number`` on the way to the timeline."""
        return any(n > number and self.find(n) is not None for n in self._by_number)

    def name_of(self, number: int) -> str:
        return segment_file_name(self.timeline, number, self.segment_size)

    def mapped_pieces(self, file: SegmentFile, offset: int, end: int) -> Iterator[memoryview]:
        """Yields bytes ``[offset, end)`` of a segment as they lie in the page cache, not copied.

        Yields less, or nothing, where they have to be read: the segment is not whole, compressed,
        in an archive, or a part of it cannot be read. For WAL that is no longer written to.
        """
        if file.compression or file.partial or not isinstance(self.files, DirectoryFiles):
            return
        with self.files.open(file.name) as stream:
            descriptor = stream.fileno()
            if os.fstat(descriptor).st_size != self.segment_size:
                return
            try:
                pages = mmap.mmap(descriptor, self.segment_size, access=mmap.ACCESS_READ)
            except (OSError, ValueError):
                return
        view = memoryview(pages)
        while offset < end:
            begin = offset - offset % mmap.PAGESIZE
            stop = min(end, begin + CHUNK)
            try:
                # A page that cannot be read is an error here; later it would be the end of us.
                pages.madvise(_MADV_POPULATE_READ, begin, stop - begin)
            except OSError:
                return
            yield view[offset:stop]
            offset = stop

    def pieces(
        self, file: SegmentFile, offset: int, end: int, mapped: bool = False
    ) -> Iterator[bytes | memoryview]:
        """Yields the bytes ``[offset, end)`` of a segment, less where the file is shorter.

        ``mapped``: without copying them, where possible.
        """
        if mapped:
            for piece in self.mapped_pieces(file, offset, end):
                yield piece
                offset += len(piece)
            if offset == end:
                return
        with self.open(file) as stream:
            if file.compression:
                read_some(stream, offset, file.name)
            else:
                stream.seek(offset)
            while offset < end:
                data = read_some(stream, min(CHUNK, end - offset), file.name)
                if not data:
                    return
                offset += len(data)
                yield data


class PipeHead(NamedTuple):
    """What the first page header of a stream of WAL says; sizes are 0 where it does not say."""

    lsn: int
    segment_size: int
    data: bytes


def read_pipe_head(stream: IO[bytes]) -> PipeHead:
    """Reads the first page header from a pipe.

    Raises:
        PageHeaderError: the bytes do not begin with a WAL page.
    """
    data = read_some(stream, 40, "standard input")
    if len(data) < 24:
        raise PageHeaderError(
            f"standard input: expected WAL from a page start on, got {len(data)} bytes"
        )
    magic, info, _, lsn = struct.unpack_from("<HHIQ", data, 0)
    if magic not in PAGE_MAGICS or lsn % 8192:
        raise PageHeaderError(
            "standard input: expected WAL from a page start on, got page magic "
            f"{magic:04X} and address {lsn:X}"
        )
    size = 0
    if info & XLP_LONG_HEADER and len(data) == 40:
        size = struct.unpack_from("<I", data, 32)[0]
        if not is_valid_segment_size(size):
            raise WalError(f"standard input: invalid WAL segment size {size}", lsn)
    return PipeHead(lsn, size, data)
