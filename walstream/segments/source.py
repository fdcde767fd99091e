"""Which file holds which segment of WAL: names, timelines, kinds of files, and the bytes in them.

Segments may be complete or ``.partial``, plain or compressed (.gz, .lz4, .zst), on several
timelines. A source gives the bytes of a segment; it knows nothing of records.
"""

from __future__ import annotations

import contextlib
import re
import struct
from collections.abc import Iterator
from typing import IO, NamedTuple

from walstream.errors import NoWalFound, ReadError
from walstream.segments.files import Files, decompressed, read_into, read_some
from walstream.wal.segment import (
    DEFAULT_SEGMENT_SIZE,
    is_valid_segment_size,
    segment_file_name,
)
from walstream.wal.timeline import TimelineHistory, parse_history

# Small enough to stay in a processor's cache between being read and being scanned.
PIECE = 256 << 10

_SEGMENT = re.compile(
    r"(?P<tli>[0-9A-F]{8})(?P<log>[0-9A-F]{8})(?P<seg>[0-9A-F]{8})(?P<rest>(?:\.[a-z0-9]+)*)"
)
_SUFFIXES = {"partial", "gz", "lz4", "zst"}
_HISTORY = re.compile(r"([0-9A-F]{8})\.history(?:\.(?:gz|lz4|zst))?")


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
            raise NoWalFound(f"could not find any WAL file in {files.where()}", files.where())
        self.segment_size = self._segment_size()
        self.refresh()
        self.first_number()

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
            content = self._content(histories[self.timeline])
            self.history = parse_history(self.timeline, content)
        self._by_number: dict[int, list[SegmentFile]] = {}
        if self.segment_size:
            for file in self.found:
                self._by_number.setdefault(file.number(self.segment_size), []).append(file)

    def _content(self, name: str) -> bytes:
        suffix = name.rsplit(".", 1)[-1]
        with self.files.open(name) as raw:
            stream = decompressed(raw, "" if suffix == "history" else suffix, name)
            return read_some(stream, 1 << 20, name)

    def _segment_size(self) -> int:
        """Returns what the first pages say: what two of them do, so that one may be damaged."""
        size = 0
        said: list[int] = []
        for file in sorted(self.found, key=lambda file: (bool(file.compression), file.name)):
            with self.open(file) as stream:
                head = read_some(stream, 40, file.name)
            if len(head) == 40 and any(head):
                (size,) = struct.unpack_from("<I", head, 32)
                if is_valid_segment_size(size):
                    if size in said:
                        return int(size)
                    said.append(size)
        if said:
            return said[0]
        if size == 0:
            # Nothing was written yet: any size will do.
            return DEFAULT_SEGMENT_SIZE
        raise ReadError(
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
                raise ReadError(f"could not read {file.name}: {error}", file.name) from error
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

    def numbers(self) -> list[int]:
        """Returns the segments that are there on the way to the timeline, ascending."""
        return sorted(number for number in self._by_number if self.find(number) is not None)

    def first_number(self) -> int:
        """Returns the first segment that is on the way to the timeline.

        Raises:
            StorageError: there is none.
        """
        number = next(iter(self.numbers()), None)
        if number is None:
            raise NoWalFound(
                f"no segment of timeline {self.timeline} in {self.files.where()}",
                self.files.where(),
            )
        return number

    def name_of(self, number: int) -> str:
        return segment_file_name(self.timeline, number, self.segment_size)

    def pieces(
        self, file: SegmentFile, offset: int, end: int, buffer: memoryview | None = None
    ) -> Iterator[memoryview]:
        """Yields the bytes ``[offset, end)`` of a segment, less where the file is shorter.

        They are read, not mapped: a file that is cut meanwhile just ends, where touching mapped
        pages of it would be the end of us. Each piece stands in ``buffer`` (one of its own without
        it) and holds until the next is asked for.

        Raises:
            StorageError: the file cannot be read, or is not what its name says.
        """
        if buffer is None:
            buffer = memoryview(bytearray(PIECE))
        with self.open(file) as stream:
            if file.compression:
                left = offset
                while left:
                    got = read_into(stream, buffer[:left], file.name)
                    if not got:
                        return
                    left -= got
            else:
                stream.seek(offset)
            while offset < end:
                got = read_into(stream, buffer[: end - offset], file.name)
                if not got:
                    return
                offset += got
                yield buffer[:got]
