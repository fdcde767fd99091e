"""The segments of one place on the way to one timeline: which there are, and the bytes in them.

Segments may be complete or ``.partial``, plain or compressed, on several timelines. A source gives
the bytes of a segment; it knows nothing of records.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import IO

from walstream.errors import NoWalFound, PageHeaderError
from walstream.segments.choice import candidates, timelines_of
from walstream.segments.files import Files, decompressed, read_into, read_some
from walstream.segments.header import stated_segment_size
from walstream.segments.names import (
    SegmentName,
    history_file_name,
    parse_history_name,
    parse_segment_name,
    segment_file_name,
)
from walstream.wal.layout import SizeOfXLogLongPHD
from walstream.wal.segment import DEFAULT_SEGMENT_SIZE, is_valid_segment_size
from walstream.wal.timeline import TimelineHistory, parse_history

# Small enough to stay in a processor's cache between being read and being scanned.
PIECE = 256 << 10
_LONGEST_HISTORY = 1 << 20


class SegmentSource:
    """The segments of a directory or an archive, on the way to one timeline.

    What is there is looked up when it is asked for (``find``, ``numbers``), so a directory may
    change meanwhile; of timelines only those count that ``refresh`` saw.

    Args:
        files: where the files are.
        timeline: the timeline to read, None for the newest there is: that of a segment or of a
            history file (findNewestTimeLine).
        segment_size: in bytes; 0 where the files have to say it.

    Raises:
        NoWalFound: it was not given, and there is no segment.
        PageHeaderError: it was not given, and no segment says a possible one.
        ReadError: files cannot be read.
        WalError: the history file of the timeline is malformed.
    """

    def __init__(self, files: Files, timeline: int | None = None, segment_size: int = 0) -> None:
        self.files = files
        self.wanted_timeline = timeline
        self.segment_size = segment_size
        self.refresh()
        if not segment_size:
            found = self._found()
            if not found:
                where = files.where()
                raise NoWalFound(f"could not find any WAL file in {where}", where)
            self.segment_size = self._segment_size(found)
            self.first_number()

    def close(self) -> None:
        """Lets go of what is held open."""
        self.files.close()

    def _found(self) -> list[SegmentName]:
        return [name for name in map(parse_segment_name, self.files.names()) if name is not None]

    def refresh(self) -> None:
        """Looks for timelines again."""
        timelines = set()
        for name in self.files.names():
            known = parse_segment_name(name) or parse_history_name(name)
            if known is not None:
                timelines.add(known.timeline)
        self.follow(self.wanted_timeline or max(timelines, default=1))

    def follow(self, timeline: int) -> None:
        """Takes the path to a timeline, as far as its history file, if there is one, tells it."""
        content = b""
        name = history_file_name(timeline)
        for suffix in ("", ".gz", ".lz4", ".zst"):
            if self.files.has(name + suffix):
                with self.files.open(name + suffix) as raw:
                    stream = decompressed(raw, suffix, name + suffix)
                    content = read_some(stream, _LONGEST_HISTORY, name + suffix)
                break
        self.history: TimelineHistory = parse_history(timeline, content)
        self.timeline = timeline

    def _segment_size(self, found: list[SegmentName]) -> int:
        """Returns what the first pages say: what two of them do, so that one may be damaged."""
        size = 0
        said: list[int] = []
        for file in sorted(found, key=lambda file: (bool(file.compression), file.name)):
            with self.open(file) as stream:
                head = read_some(stream, SizeOfXLogLongPHD, file.name)
            if any(head) and (stated := stated_segment_size(head)):
                size = stated
                if is_valid_segment_size(size):
                    if size in said:
                        return size
                    said.append(size)
        if said:
            return said[0]
        if size == 0:
            # Nothing was written yet: any size will do.
            return DEFAULT_SEGMENT_SIZE
        raise PageHeaderError(
            f"invalid WAL segment size in {self.files.where()}: expected a power of two between "
            f"1 MB and 1 GB, got {size}"
        )

    @contextlib.contextmanager
    def open(self, file: SegmentName) -> Iterator[IO[bytes]]:
        """The plain bytes of a file, in order; a plain file can be sought in, too."""
        with self.files.open(file.name) as raw:
            yield decompressed(raw, file.compression, file.name)

    def timelines_for(self, number: int) -> list[int]:
        """Returns the timelines that may have written a segment, newest first."""
        return timelines_of(self.history, number, self.segment_size)

    def find(self, number: int) -> SegmentName | None:
        """Returns the file that holds a segment, or None (``choice.py``)."""
        for file in candidates(self.history, number, self.segment_size):
            if self.files.has(file.name):
                return file
        return None

    def numbers(self) -> list[int]:
        """Returns the segments that are there on the way to the timeline, ascending."""
        size = self.segment_size
        found = {(file.timeline, file.number(size)) for file in self._found()}
        return sorted(
            {
                number
                for timeline, number in found
                if number is not None and timeline in timelines_of(self.history, number, size)
            }
        )

    def first_number(self) -> int:
        """Returns the first segment that is on the way to the timeline.

        Raises:
            NoWalFound: there is none.
        """
        number = next(iter(self.numbers()), None)
        if number is None:
            where = self.files.where()
            raise NoWalFound(f"no segment of timeline {self.timeline} in {where}", where)
        return number

    def end_lsn(self) -> int:
        """Returns the end of the newest segment of the timeline itself (0: there is none)."""
        ends = [
            number + 1
            for file in self._found()
            if file.timeline == self.timeline
            and (number := file.number(self.segment_size)) is not None
        ]
        return max(ends, default=0) * self.segment_size

    def begin_of(self, file: SegmentName) -> int:
        """Returns the LSN at which a segment begins, by its name.

        Raises:
            NoWalFound: there is no such segment of the size that segments have here.
        """
        number = file.number(self.segment_size)
        if number is None:
            size = self.segment_size >> 20
            raise NoWalFound(f"{file.name} is no name of a segment of {size} MB", file.name)
        return number * self.segment_size

    def name_of(self, number: int) -> str:
        """Returns what a plain file of a segment of the timeline would be called."""
        return segment_file_name(self.timeline, number, self.segment_size)

    def pieces(
        self, file: SegmentName, offset: int, end: int, buffer: memoryview | None = None
    ) -> Iterator[memoryview]:
        """Yields the bytes ``[offset, end)`` of a segment, less where the file is shorter.

        They are read, not mapped: a file that is cut meanwhile just ends, where touching mapped
        pages of it would be the end of us. Each piece stands in ``buffer`` (one of its own without
        it) and holds until the next is asked for.

        Raises:
            ReadError: the file cannot be read.
            FileDamaged: it is not what its name says.
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
