"""Reads WAL that is on disk: which file holds an LSN, bytes at an LSN, one record at an LSN.

Works on any directory of plain segments (a store's ``wal/``, a ``pg_wal``), ``.partial`` included.
Knows timelines (history files), not records: a record is only put together from its pages here, so
that one can be read again by the position that the index keeps.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from pathlib import Path

import crc32c

from walstream.errors import ReadError, RecordError, SegmentMissing
from walstream.wal.layout import (
    LONG_PAGE_HEADER,
    RECORD_CRC_OFFSET,
    RECORD_HEADER,
    SHORT_PAGE_HEADER,
    XLOG_BLCKSZ,
    XLOG_RECORD_MAX_SIZE,
)
from walstream.wal.model import format_lsn
from walstream.wal.segment import (
    history_file_name,
    parse_history_file_name,
    parse_segment_file_name,
    segment_file_name,
)
from walstream.wal.timeline import TimelineHistory, parse_history

PARTIAL = ".partial"
OPEN_FILES = 64
MTIME_TICK_NS = 50_000_000
TIMELINES_AHEAD = 16


def identity_of(path: str) -> tuple[int, int] | None:
    """Returns what tells a file from another that takes its name, None where there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 (a hot path)
    except OSError:
        return None
    return (status.st_dev, status.st_ino)


class SegmentReader:
    """A directory of WAL segments, read only.

    Per segment the file of the newest timeline that has one is taken, among the target timeline
    and its ancestors. The newest timeline present is the target unless one is given.
    """

    def __init__(self, path: Path, segment_size: int, timeline: int | None = None) -> None:
        self.path = path
        self.segment_size = segment_size
        self._wanted_timeline = timeline
        self._files: OrderedDict[int, tuple[int, str, tuple[int, int]]] = OrderedDict()
        self._seen_mtime_ns = 0
        self._listed_mtime_ns = 0
        self.refresh()

    def current_history(self) -> TimelineHistory:
        """Returns the history of the newest timeline that the directory has now.

        Raises:
            WalError: its history file is malformed.
        """
        self._look_again()
        return self.history

    def refresh(self) -> None:
        """Looks at the directory again: new timelines, segments that lost their ``.partial``.

        Raises:
            WalError: the history file of the newest timeline is malformed.
            StorageError: it cannot be read.
        """
        self.close()
        self._listed_mtime_ns = self._note_time()
        timelines = set()
        for name in self._names():
            segment = parse_segment_file_name(name.removesuffix(PARTIAL), self.segment_size)
            history = parse_history_file_name(name)
            if segment is not None:
                timelines.add(segment.timeline)
            elif history is not None:
                timelines.add(history)
        self._read_history(self._wanted_timeline or max(timelines, default=1))

    def _mtime_ns(self) -> int:
        try:
            return self.path.stat().st_mtime_ns
        except OSError as error:
            raise ReadError(f"cannot read {self.path}: {error.strerror}", str(self.path)) from error

    def _note_time(self) -> int:
        """Notes the time of the directory's last change before it is looked at; 0: too recent."""
        mtime_ns = self._mtime_ns()
        # A change within the same tick of the clock would not move the time: look again then.
        settled = time.time_ns() - mtime_ns > MTIME_TICK_NS
        self._seen_mtime_ns = mtime_ns if settled else 0
        return self._seen_mtime_ns

    def _read_history(self, timeline: int) -> None:
        history_path = self.path / history_file_name(timeline)
        try:
            content = history_path.read_bytes()
        except FileNotFoundError:
            content = b""
        except OSError as error:
            raise ReadError(
                f"cannot read {history_path}: {error.strerror}", str(history_path)
            ) from error
        self.history = parse_history(timeline, content)
        self.timeline = timeline

    def _look_again(self) -> None:
        """Sees what a change of the directory means to what was read of it.

        With each segment that is completed the directory changes: it is not listed for that. A
        newer timeline shows by its history file, most often with the next number; one that does
        not shows when a segment is looked for in vain.
        """
        if self._mtime_ns() == self._seen_mtime_ns:
            return
        self._note_time()
        if self._wanted_timeline is None:
            newest = self.timeline
            for timeline in range(newest + 1, newest + 1 + TIMELINES_AHEAD):
                if (self.path / history_file_name(timeline)).exists():
                    newest = timeline
            if newest != self.timeline:
                self._read_history(newest)
        for number, (descriptor, path, identity) in list(self._files.items()):
            if str(self.find(number)) != path or identity_of(path) != identity:
                os.close(descriptor)
                del self._files[number]

    def close(self) -> None:
        """Closes the open segment files; a later read opens them again."""
        while self._files:
            os.close(self._files.popitem()[1][0])

    def _names(self) -> list[str]:
        """Returns the names of the files; a directory or socket is none, whatever it is called.

        Raises:
            StorageError: the directory cannot be read.
        """
        try:
            with os.scandir(self.path) as entries:
                return [entry.name for entry in entries if entry.is_file()]
        except OSError as error:
            raise ReadError(f"cannot read {self.path}: {error.strerror}", str(self.path)) from error

    def timelines_for(self, segment_number: int) -> list[int]:
        """Returns the timelines that may have written a segment, newest first."""
        return [
            part.timeline
            for part in reversed(self.history.parts)
            if part.begin // self.segment_size <= segment_number <= part.end // self.segment_size
        ]

    def end_lsn(self) -> int:
        """Returns the end of the newest segment of the timeline (0: there is none)."""
        ends = [
            segment.segment_number + 1
            for name in self._names()
            if (segment := parse_segment_file_name(name.removesuffix(PARTIAL), self.segment_size))
            and segment.timeline == self.timeline
        ]
        return max(ends, default=0) * self.segment_size

    def find(self, segment_number: int) -> Path | None:
        """Returns the file that holds a segment, or None; a complete one before a partial one."""
        for timeline in self.timelines_for(segment_number):
            name = segment_file_name(timeline, segment_number, self.segment_size)
            for candidate in (self.path / name, self.path / (name + PARTIAL)):
                if candidate.is_file():
                    return candidate
        return None

    def _open(self, segment_number: int, lsn: int) -> int:
        cached = self._files.get(segment_number)
        if cached is not None:
            self._files.move_to_end(segment_number)
            return cached[0]
        # A rename between find and open only means to look again.
        for _ in range(3):
            path = self.find(segment_number)
            if path is None:
                if self.path.stat().st_mtime_ns == self._listed_mtime_ns:
                    break
                self.refresh()
                continue
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise ReadError(f"cannot open {path}: {error.strerror}", str(path)) from error
            status = os.fstat(descriptor)
            identity = (status.st_dev, status.st_ino)
            self._files[segment_number] = (descriptor, str(path), identity)
            if len(self._files) > OPEN_FILES:
                os.close(self._files.popitem(last=False)[1][0])
            return descriptor
        name = segment_file_name(self.timeline, segment_number, self.segment_size)
        raise SegmentMissing(
            f"segment {name} is missing in {self.path}: it holds {format_lsn(lsn)}", lsn
        )

    def read(self, lsn: int, length: int) -> bytes:
        """Returns the WAL bytes ``[lsn, lsn + length)``, page headers included.

        Raises:
            SegmentMissing: a segment of the range is not there.
            StorageError: a file is shorter than a segment, or cannot be read.
        """
        self._look_again()
        parts = []
        while length > 0:
            number, offset = divmod(lsn, self.segment_size)
            size = min(length, self.segment_size - offset)
            descriptor = self._open(number, lsn)
            try:
                data = os.pread(descriptor, size, offset)
            except OSError as error:
                path = self._files[number][1]
                raise ReadError(f"cannot read {path}: {error.strerror}", path) from error
            if len(data) != size:
                path = self._files[number][1]
                raise ReadError(
                    f"{path} is too short: expected {size} bytes at offset {offset}, "
                    f"got {len(data)}",
                    path,
                )
            parts.append(data)
            lsn += size
            length -= size
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read_record(self, start_lsn: int) -> bytes:
        """Returns the record that starts at ``start_lsn``, page headers removed, CRC checked.

        Raises:
            RecordError: no valid record stands there.
            SegmentMissing: a segment of the record is not there.
        """
        # Most records are short: one read brings the length and the rest of the page.
        page_left = XLOG_BLCKSZ - start_lsn % XLOG_BLCKSZ
        first = self.read(start_lsn, min(page_left, 512))
        total = int.from_bytes(first[:4], "little")
        if not RECORD_HEADER <= total <= XLOG_RECORD_MAX_SIZE:
            raise RecordError(
                f"invalid record length: expected {RECORD_HEADER} to {XLOG_RECORD_MAX_SIZE}, "
                f"got {total} at {format_lsn(start_lsn)}",
                start_lsn,
            )
        if total <= len(first):
            record = first[:total]
        elif total <= page_left:
            record = self.read(start_lsn, total)
        else:
            record = self._read_over_pages(start_lsn, total, page_left)
        crc = crc32c.crc32c(
            record[:RECORD_CRC_OFFSET], crc32c.crc32c(memoryview(record)[RECORD_HEADER:])
        )
        stored = int.from_bytes(record[RECORD_CRC_OFFSET:RECORD_HEADER], "little")
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
            header = LONG_PAGE_HEADER if lsn % self.segment_size == 0 else SHORT_PAGE_HEADER
            size = min(missing, XLOG_BLCKSZ - header)
            parts.append(self.read(lsn + header, size))
            missing -= size
            lsn += XLOG_BLCKSZ
        return b"".join(parts)
