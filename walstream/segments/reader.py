"""Reads WAL that is on disk at any place: bytes at an LSN, one record at an LSN.

Works on any directory of segments (a store's ``wal/``, a ``pg_wal``, an archive) that may change
meanwhile. Knows no records: one is only put together from its pages here, so that it can be read
again by the position that the index keeps.

A compressed segment cannot be read in the middle: it is unpacked once to a temporary file that has
no name, and a bounded number of those is kept.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from pathlib import Path

from walstream.errors import FileDamaged, NoSpace, RecordError, SegmentMissing, WriteError
from walstream.segments.files import DirectoryFiles, read_error, read_file
from walstream.segments.names import SegmentName, history_file_name
from walstream.segments.source import SegmentSource
from walstream.wal.crc import crc32c
from walstream.wal.layout import (
    XLOG_BLCKSZ,
    SizeOfXLogLongPHD,
    SizeOfXLogRecord,
    SizeOfXLogShortPHD,
    xl_crc,
)
from walstream.wal.model import format_lsn
from walstream.wal.timeline import TimelineHistory
from walstream.wal.versions import XLOG_RECORD_MAX_SIZE

OPEN_FILES = 64
# Unpacked segments that are kept, in bytes on disk; at least one is.
UNPACKED = 1 << 30
MTIME_TICK_NS = 50_000_000
TIMELINES_AHEAD = 16


class OpenSegment:
    """The plain bytes of a segment, open for as long as anyone holds this.

    ``identity`` tells the file from what may follow it. ``unpacked`` is the size of the copy of a
    compressed file, else 0. ``damage`` is where its compression ends early.
    """

    __slots__ = ("damage", "descriptor", "identity", "path", "unpacked")

    def __init__(
        self,
        descriptor: int,
        path: str,
        identity: tuple[int, ...],
        unpacked: int = 0,
        damage: FileDamaged | None = None,
    ) -> None:
        self.descriptor = descriptor
        self.path = path
        self.identity = identity
        self.unpacked = unpacked
        self.damage = damage

    def __del__(self) -> None:
        # A thread may still read from a segment that the reader has let go.
        os.close(self.descriptor)


def identity_of(status: os.stat_result, compressed: bool) -> tuple[int, ...]:
    """Returns what tells a file from another that takes its name.

    Of a compressed one also its content so far: its copy does not grow with it.
    """
    identity = (status.st_dev, status.st_ino)
    return (*identity, status.st_size, status.st_mtime_ns) if compressed else identity


class SegmentReader:
    """A directory of WAL segments, read only. Any thread may call.

    Which file a segment is read from, ``choice.py`` says. The newest timeline present is the
    target unless one is given.
    """

    def __init__(self, path: Path, segment_size: int, timeline: int | None = None) -> None:
        self.path = path
        self.segment_size = segment_size
        self._wanted_timeline = timeline
        self._open_segments: OrderedDict[int, OpenSegment] = OrderedDict()
        self._seen_mtime_ns = 0
        self._listed_mtime_ns = 0
        self._files = DirectoryFiles(path)
        self._lock = threading.RLock()
        self._listed_mtime_ns = self._note_time()
        self.source = SegmentSource(self._files, timeline, segment_size)

    @property
    def timeline(self) -> int:
        return self.source.timeline

    @property
    def history(self) -> TimelineHistory:
        return self.source.history

    def current_history(self) -> TimelineHistory:
        """Returns the history of the newest timeline that the directory has now.

        Raises:
            WalError: its history file is malformed.
        """
        with self._lock:
            self.look_again()
            return self.history

    def refresh(self) -> None:
        """Looks at the directory again: new timelines, segments that lost their ``.partial``.

        Raises:
            WalError: the history file of the newest timeline is malformed.
            ReadError: it cannot be read.
        """
        with self._lock:
            self.close()
            self._listed_mtime_ns = self._note_time()
            self.source.refresh()

    def _note_time(self) -> int:
        """Notes the time of the directory's last change before it is looked at; 0: too recent."""
        mtime_ns = self._files.changed_ns()
        # A change within the same tick of the clock would not move the time: look again then.
        settled = time.time_ns() - mtime_ns > MTIME_TICK_NS
        self._seen_mtime_ns = mtime_ns if settled else 0
        return self._seen_mtime_ns

    def look_again(self) -> None:
        """Sees what a change of the directory means to what was read of it.

        ``read`` does so by itself, ``segment`` does not. With each segment that is completed the
        directory changes: it is not listed for that. A newer timeline shows by its history file,
        most often with the next number; one that does not shows when a segment is looked for in
        vain.
        """
        with self._lock:
            if self._files.changed_ns() != self._seen_mtime_ns:
                self._note_time()
                self._see_changes()

    def _see_changes(self) -> None:
        if self._wanted_timeline is None:
            newest = self.timeline
            for timeline in range(newest + 1, newest + 1 + TIMELINES_AHEAD):
                if (self.path / history_file_name(timeline)).exists():
                    newest = timeline
            if newest != self.timeline:
                self.source.follow(newest)
        for number, segment in list(self._open_segments.items()):
            if not self._is_current(number, segment):
                del self._open_segments[number]

    def _is_current(self, number: int, segment: OpenSegment) -> bool:
        """Returns whether a segment is still the file that was opened for it."""
        file = self.source.find(number)
        if file is None or str(self.path / file.name) != segment.path:
            return False
        try:
            status = os.stat(segment.path)  # noqa: PTH116 (a hot path)
        except OSError:
            return False
        return identity_of(status, bool(file.compression)) == segment.identity

    def close(self) -> None:
        """Lets go of the open segment files; a later read opens them again."""
        with self._lock:
            self._open_segments.clear()

    def end_lsn(self) -> int:
        """Returns the end of the newest segment of the timeline (0: there is none)."""
        return self.source.end_lsn()

    def find(self, segment_number: int) -> Path | None:
        """Returns the file that holds a segment, or None."""
        with self._lock:
            file = self.source.find(segment_number)
        return None if file is None else self.path / file.name

    def segment(self, number: int, lsn: int) -> OpenSegment:
        """Returns a segment to read from; its bytes begin at LSN ``number * segment_size``.

        It may be shorter than a segment. ``look_again`` first, once for many.

        Raises:
            SegmentMissing: it is not there; the error names ``lsn``.
            ReadError: it cannot be opened.
            WriteError: it is compressed, and there is no room to unpack it.
        """
        with self._lock:
            return self._open(number, lsn)

    def _open(self, segment_number: int, lsn: int) -> OpenSegment:
        opened = self._open_segments.get(segment_number)
        if opened is not None:
            self._open_segments.move_to_end(segment_number)
            return opened
        # A rename between find and open only means to look again.
        for _ in range(3):
            file = self.source.find(segment_number)
            if file is None:
                if self._files.changed_ns() == self._listed_mtime_ns:
                    break
                self.refresh()
                continue
            path = self.path / file.name
            try:
                opened = self._open_file(path, file)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise read_error("cannot open", path, error) from error
            self._open_segments[segment_number] = opened
            self._keep_few()
            return opened
        name = self.source.name_of(segment_number)
        raise SegmentMissing(
            f"segment {name} is missing in {self.path}: it holds {format_lsn(lsn)}", lsn
        )

    def _open_file(self, path: Path, file: SegmentName) -> OpenSegment:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            identity = identity_of(os.fstat(descriptor), bool(file.compression))
            if not file.compression:
                return OpenSegment(descriptor, str(path), identity)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        while True:
            try:
                return self._unpack(path, identity)
            except NoSpace:
                # What is kept of others makes room.
                number = next((n for n, s in self._open_segments.items() if s.unpacked), None)
                if number is None:
                    raise
                del self._open_segments[number]

    def _unpack(self, path: Path, identity: tuple[int, ...]) -> OpenSegment:
        """Returns a compressed segment as a plain file that has no name."""
        import tempfile

        size = 0
        damage = None
        try:
            copy = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (closed below)
        except OSError as error:
            raise WriteError(f"unpack {path}: {error.strerror or error}", str(path)) from error
        with copy:
            pieces = read_file(path)
            while size < self.segment_size:
                try:
                    piece = next(pieces, b"")
                except FileDamaged as error:
                    # What is before the damage can be read: records have a CRC of their own.
                    damage = error
                    break
                if not piece:
                    break
                try:
                    view = memoryview(piece)[: self.segment_size - size]
                    while view:
                        done = os.write(copy.fileno(), view)
                        size += done
                        view = view[done:]
                except OSError as error:
                    raise NoSpace(
                        f"unpack {path} in {tempfile.gettempdir()}: {error.strerror}", str(path)
                    ) from error
            return OpenSegment(os.dup(copy.fileno()), str(path), identity, size, damage)

    def _keep_few(self) -> None:
        """Closes what was not read for the longest time."""
        if len(self._open_segments) > OPEN_FILES:
            self._open_segments.popitem(last=False)
        unpacked = [(n, s.unpacked) for n, s in self._open_segments.items() if s.unpacked]
        total = sum(size for _, size in unpacked)
        for number, size in unpacked[:-1]:
            if total <= UNPACKED:
                break
            del self._open_segments[number]
            total -= size

    def read(self, lsn: int, length: int) -> bytes:
        """Returns the WAL bytes ``[lsn, lsn + length)``, page headers included.

        Raises:
            SegmentMissing: a segment of the range is not there.
            FileDamaged: a file is shorter than a segment, or its compression is damaged.
            ReadError: a file cannot be read.
        """
        parts = []
        with self._lock:
            self.look_again()
            while length > 0:
                number, offset = divmod(lsn, self.segment_size)
                size = min(length, self.segment_size - offset)
                data = self._read_within(number, offset, size, lsn)
                parts.append(data)
                lsn += size
                length -= size
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _read_within(self, number: int, offset: int, size: int, lsn: int) -> bytes:
        for _ in range(2):
            segment = self._open(number, lsn)
            try:
                data = os.pread(segment.descriptor, size, offset)
            except OSError as error:
                raise read_error("cannot read", segment.path, error) from error
            if len(data) == size:
                return data
            if not segment.unpacked or self._is_current(number, segment):
                break
            # A receiver goes on with the compressed file.
            del self._open_segments[number]
        if segment.damage is not None:
            raise segment.damage
        raise FileDamaged(
            f"{segment.path} is too short: expected {size} bytes at offset {offset}, "
            f"got {len(data)}",
            segment.path,
        )

    def read_record(self, start_lsn: int) -> bytes:
        """Returns the record that starts at ``start_lsn``, page headers removed, CRC checked.

        Raises:
            RecordError: no valid record stands there.
            SegmentMissing: a segment of the record is not there.
            ReadError: a file cannot be read, or is shorter than a segment.
        """
        # Most records are short: one read brings the length and the rest of the page.
        page_left = XLOG_BLCKSZ - start_lsn % XLOG_BLCKSZ
        first = self.read(start_lsn, min(page_left, 512))
        total = int.from_bytes(first[:4], "little")
        if not SizeOfXLogRecord <= total <= XLOG_RECORD_MAX_SIZE:
            raise RecordError(
                f"invalid record length: expected {SizeOfXLogRecord} to {XLOG_RECORD_MAX_SIZE}, "
                f"got {total} at {format_lsn(start_lsn)}",
                start_lsn,
            )
        if total <= len(first):
            record = first[:total]
        elif total <= page_left:
            record = self.read(start_lsn, total)
        else:
            record = self._read_over_pages(start_lsn, total, page_left)
        crc = crc32c(record[:xl_crc], crc32c(memoryview(record)[SizeOfXLogRecord:]))
        stored = int.from_bytes(record[xl_crc:SizeOfXLogRecord], "little")
        if crc != stored:
            raise RecordError(
                "incorrect resource manager data checksum in record: "
                f"expected {stored:08X}, got {crc:08X} at {format_lsn(start_lsn)}",
                start_lsn,
            )
        return record

    def _read_over_pages(self, start_lsn: int, total: int, page_left: int) -> bytes:
        parts = [self.read(start_lsn, page_left)]
        missing = total - page_left
        lsn = start_lsn + page_left
        while missing > 0:
            header = SizeOfXLogLongPHD if lsn % self.segment_size == 0 else SizeOfXLogShortPHD
            size = min(missing, XLOG_BLCKSZ - header)
            parts.append(self.read(lsn + header, size))
            missing -= size
            lsn += XLOG_BLCKSZ
        return b"".join(parts)
