"""Reads the bodies of the index's events in WAL order, and the xids of all records of a stretch.

Events come with rising positions, so WAL is read in windows, not record by record. Knows where
bytes are, not what they mean.
"""

from __future__ import annotations

from typing import NamedTuple

from walstream.errors import RecordError, StorageError
from walstream.segments.reader import SegmentReader
from walstream.state.slru import xid_precedes
from walstream.state.transactions import FIRST_NORMAL_XID, Body
from walstream.wal.crc import crc32c
from walstream.wal.layout import XLOG_BLCKSZ, SizeOfXLogRecord, xl_crc
from walstream.wal.model import format_lsn
from walstream.wal.record import RecordReader
from walstream.wal.scan import WalScanner

WINDOW = 1 << 17
PIECE = 1 << 20


class BodyReader:
    """Returns records by their start; cheap where the starts rise. One owner."""

    def __init__(self, archive: SegmentReader, version: int) -> None:
        self._archive = archive
        self._reader = RecordReader(version)
        self._window = b""
        self._at = 0

    def record(self, start_lsn: int) -> bytes:
        """Returns the bytes of the record that starts at ``start_lsn``, CRC checked.

        Raises:
            RecordError: no valid record stands there.
            SegmentMissing, StorageError: it cannot be read.
        """
        page_left = XLOG_BLCKSZ - start_lsn % XLOG_BLCKSZ
        offset = start_lsn - self._at
        if not 0 <= offset <= len(self._window) - page_left:
            size = self._archive.segment_size
            try:
                length = min(WINDOW, size - start_lsn % size)
                self._window = self._archive.read(start_lsn, length)
                self._at, offset = start_lsn, 0
            except StorageError:
                return self._archive.read_record(start_lsn)  # near the end of an unfinished file
        total = int.from_bytes(self._window[offset : offset + 4], "little")
        if not SizeOfXLogRecord <= total <= page_left:
            return self._archive.read_record(start_lsn)  # goes on over the page, or is none
        record = self._window[offset : offset + total]
        crc = crc32c(record[:xl_crc], crc32c(record[SizeOfXLogRecord:]))
        if crc != int.from_bytes(record[xl_crc:SizeOfXLogRecord], "little"):
            return self._archive.read_record(start_lsn)  # which says what is wrong
        return record

    def body(self, start_lsn: int) -> Body:
        """Returns the parts of the record that starts at ``start_lsn``.

        Raises:
            RecordError: no valid record stands there.
            SegmentMissing, StorageError: it cannot be read.
        """
        record = self.record(start_lsn)
        reader = self._reader
        if reader.read_bytes(record) != 0:
            raise RecordError(f"{reader.message()} at {format_lsn(start_lsn)}", start_lsn)
        main_data = record[reader.main_at : reader.main_at + reader.main_length]
        return Body(reader.rmgr, reader.info, reader.xid, main_data, reader.origin)


class Stretch(NamedTuple):
    """What the records of a stretch of WAL say all together.

    ``newest_xid``: 0 where none has an xid. ``last_start``, ``last_end``: of the last record; 0
    and the beginning of the stretch where there is none.
    """

    newest_xid: int
    last_start: int
    last_end: int


def scan_stretch(archive: SegmentReader, version: int, from_lsn: int, upto_lsn: int) -> Stretch:
    """Returns what the records in ``(from_lsn, upto_lsn]`` say; ``from_lsn`` is a record's end.

    Raises:
        WalError: WAL is damaged there, or a segment is missing.
        StorageError: WAL cannot be read.
    """
    scanner = WalScanner(version, archive.segment_size, from_lsn)
    newest = last_start = 0
    last_end = at = from_lsn
    while at < upto_lsn:
        piece = archive.read(at, min(PIECE, upto_lsn - at))
        scanner.feed_bytes(at, piece)
        at += len(piece)
        while (columns := scanner.poll_columns()) is not None:
            if not columns.count:
                continue
            last_start, last_end = columns.start_lsn[-1], columns.end_lsn[-1]
            for xid in set(columns.xid):
                if xid >= FIRST_NORMAL_XID and (not newest or xid_precedes(newest, xid)):
                    newest = xid
    return Stretch(newest, last_start, last_end)
