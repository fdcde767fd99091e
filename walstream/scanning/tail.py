"""Where WAL ends: the one rule by which dump, stats, verify, sql and ``scan`` tell it from damage.

Every reader stops somewhere behind its last sound record. ``tail_of`` reads on from there and says
what that place is:

* the end: a record length of zero, a page of zeros or one that an older segment left (recycled
  under a new name), and no page of this WAL anywhere behind. A record under way there is one that
  the server had not finished; its recovery ends there too.
* truncated: the bytes end within a record, because a file is short or the next was not kept.
* missing: a segment is not there, and later ones hold WAL.
* damage: anything else, also zeros or an old page where a record shows that WAL went on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from walstream.errors import WalError
from walstream.scanning.ending import Ending, EndKind
from walstream.segments.files import read_some
from walstream.segments.header import LongHeader, PageHeader, read_page_header
from walstream.segments.source import PIECE, SegmentSource
from walstream.wal.layout import (
    XLOG_BLCKSZ,
    XLP_FIRST_IS_CONTRECORD,
    SizeOfXLogLongPHD,
    SizeOfXLogShortPHD,
)
from walstream.wal.model import format_lsn
from walstream.wal.reason import Reason
from walstream.wal.scan import WalScanner
from walstream.wal.versions import MAGIC_OF_VERSION, PAGE_MAGICS

# A longer record is not put together only to tell an old page from a damaged one.
LONGEST_TRIAL = 64 << 20


class Position(NamedTuple):
    """Where reading stopped: behind the record that starts at ``prev_lsn`` and ends at ``lsn``.

    ``prev_lsn`` is 0 where that record is not known; with ``find`` none is, and ``lsn`` is the
    start of a page. Where they are not known, ``version`` and ``system_identifier`` are 0 and
    ``timeline`` is 1.
    """

    lsn: int
    prev_lsn: int = 0
    find: bool = False
    version: int = 0
    system_identifier: int = 0
    timeline: int = 1

    def scanner(
        self, segment_size: int, keep_records: bool = False, detached: bool = False
    ) -> WalScanner:
        """Returns a scanner that goes on there; the rest is as of ``WalScanner``."""
        return WalScanner(
            self.version or None,
            segment_size,
            self.lsn,
            find_record=self.find,
            prev_lsn=self.prev_lsn or None,
            system_identifier=self.system_identifier or None,
            timeline=self.timeline,
            keep_records=keep_records,
            detached=detached,
        )


def position_of(scanner: WalScanner, find: bool = False) -> Position:
    """Returns where a scanner stopped; ``find``: it has not found a record yet."""
    lsn = scanner.verified_end_lsn
    return Position(
        lsn - lsn % XLOG_BLCKSZ if find else lsn,
        0 if find else scanner.last_record_lsn,
        find,
        scanner.version,
        scanner.system_identifier,
        max(scanner.timeline, 1),
    )


def tail_of(source: SegmentSource, at: Position, whole: bool = True) -> Ending:
    """Returns what stands behind the last sound record.

    Args:
        source: where the segments are.
        at: where reading stopped.
        whole: look through all later segments for WAL; else through the rest of this one.

    Raises:
        StorageError: a file cannot be read.
    """
    size = source.segment_size
    scanner = at.scanner(size)
    lsn = at.lsn
    found = not at.find
    try:
        while (file := source.find(lsn // size)) is not None:
            scanner.last_timeline = file.timeline
            for piece in source.pieces(file, lsn % size, size):
                scanner.feed_bytes(lsn, piece)
                lsn += len(piece)
                while scanner.poll_columns() is not None:
                    found = True
            if lsn % size:
                break
    except WalError as error:
        return _ending_at(source, position_of(scanner, not found), error, scanner, whole)
    return stopped(source, scanner, lsn, whole)


def stopped(source: SegmentSource, scanner: WalScanner, lsn: int, whole: bool = True) -> Ending:
    """Returns what it means that there are no bytes at ``lsn``, and no damage before it."""
    size = source.segment_size
    if not wal_follows(source, lsn, scanner.version, whole):
        return out_of_bytes(scanner, size)
    file = source.find(lsn // size)
    if file is None:
        return missing(source, scanner, lsn // size)
    return Ending(
        EndKind.DAMAGED,
        scanner.verified_end_lsn,
        f"{file.name} is shorter than a segment, WAL goes on behind {format_lsn(lsn)}",
    )


def missing(source: SegmentSource, scanner: WalScanner, number: int) -> Ending:
    """Returns the ending before a segment that is not there."""
    end = scanner.verified_end_lsn
    return Ending(
        EndKind.MISSING,
        end,
        f"segment {source.name_of(number)} is missing in {source.files.where()}: "
        f"it holds {format_lsn(max(end, number * source.segment_size))}",
    )


def out_of_bytes(scanner: WalScanner, segment_size: int) -> Ending:
    """Returns how WAL ends where there is nothing behind what the scanner was fed."""
    end = scanner.verified_end_lsn
    if scanner.end_of_wal is not None:
        return Ending(EndKind.CLEAN, end, f"zeros follow the last record at {format_lsn(end)}")
    # What follows the last record may be padding and a page header, but no more.
    rest = scanner.feed_lsn - end
    header = SizeOfXLogShortPHD if end % segment_size else SizeOfXLogLongPHD
    if rest <= 0 or (end % XLOG_BLCKSZ == 0 and rest <= header):
        return Ending(EndKind.CLEAN, end, f"WAL ends at {format_lsn(end)}")
    return Ending(
        EndKind.TRUNCATED,
        end,
        f"WAL ends at {format_lsn(scanner.feed_lsn)}, within the record at {format_lsn(end)}",
    )


def damage_kind(error: WalError, segment_size: int) -> EndKind:
    """Returns whether damage is WAL of another cluster: only a segment's first page can say so."""
    other = error.reason == Reason.OTHER_SYSTEM and (error.lsn or 0) % segment_size == 0
    return EndKind.WRONG_CLUSTER if other else EndKind.DAMAGED


def may_be_unwritten(error: WalError, segment_size: int) -> bool:
    """Returns whether a page may be one that nothing was written to yet: of zeros, or recycled.

    A segment is recycled as a whole, so an old page says an address at the same place in another
    segment. That may be a later one, where a timeline was left behind.
    """
    if error.reason == Reason.UNEXPECTED_PAGEADDR:
        return (error.got - error.expected) % segment_size == 0
    return error.reason == Reason.INVALID_MAGIC and error.got == 0


def unwritten_ending(scanner: WalScanner, error: WalError, found: bool = True) -> Ending:
    """Returns the end of WAL before a page that nothing was written to."""
    end = scanner.verified_end_lsn
    inside = found and (error.lsn or 0) > end and scanner.end_of_wal is None
    where = "within the record at" if inside else "at"
    return Ending(EndKind.CLEAN, end, f"WAL ends {where} {format_lsn(end)}: {error}", inside)


def _ending_at(
    source: SegmentSource, at: Position, error: WalError, scanner: WalScanner, whole: bool
) -> Ending:
    size = source.segment_size
    page_lsn = error.lsn or 0
    end = scanner.verified_end_lsn
    if (
        page_lsn < end
        or not may_be_unwritten(error, size)
        or wal_follows(source, page_lsn + XLOG_BLCKSZ, scanner.version, whole)
        or _goes_on(source, at, page_lsn)
    ):
        return Ending(damage_kind(error, size), end, str(error))
    return unwritten_ending(scanner, error, not at.find)


def wal_follows(source: SegmentSource, lsn: int, version: int, whole: bool = True) -> bool:
    """Returns whether any page at ``lsn`` or later is of this WAL: right magic, right address.

    ``whole``: look through all segments that are there, else through that of ``lsn`` only.
    """
    size = source.segment_size
    lsn += -lsn % XLOG_BLCKSZ
    magics = {MAGIC_OF_VERSION[version]} if version else PAGE_MAGICS.keys()
    for number in source.numbers():
        if number < lsn // size or (not whole and number > lsn // size):
            continue
        file = source.find(number)
        assert file is not None
        begin = max(lsn, number * size)
        with source.open(file) as stream:
            if file.compression:
                read_some(stream, begin - number * size, file.name)
            else:
                stream.seek(begin - number * size)
            while data := read_some(stream, min(PIECE, (number + 1) * size - begin), file.name):
                if any(
                    is_wal_page(data, at, begin, magics) for at in range(0, len(data), XLOG_BLCKSZ)
                ):
                    return True
                begin += len(data)
    return False


def is_wal_page(
    data: bytes | memoryview, at: int, lsn: int, magics: Collection[int] = PAGE_MAGICS.keys()
) -> bool:
    """Returns whether a page at ``data[at:]`` says that it is the one at ``lsn + at``."""
    header = read_page_header(data, at)
    return header is not None and header.page_lsn == lsn + at and header.magic in magics


def _goes_on(source: SegmentSource, at: Position, page_lsn: int) -> bool:
    """Returns whether the page at ``page_lsn`` holds WAL under a header that is wrong.

    It does where a record under way, or one that points back to the last, is whole and has the
    right CRC once the header is taken as right.
    """
    if at.find or (at.prev_lsn == 0 and at.lsn == page_lsn):
        return False
    if page_lsn - at.lsn > LONGEST_TRIAL or not at.version:
        return False
    size = source.segment_size
    scanner = at.scanner(size)
    start = b""
    passed = 0  # bytes of the record under way that stand before the page
    try:
        for lsn, piece in _bytes_of(source, at.lsn, page_lsn):
            start = start or bytes(piece[:4])
            scanner.feed_bytes(lsn, piece)
            if scanner.poll_columns() is not None:
                return False
        lsn = at.lsn
        while lsn < page_lsn:
            if lsn % XLOG_BLCKSZ == 0:
                lsn += SizeOfXLogShortPHD if lsn % size else SizeOfXLogLongPHD
            step = XLOG_BLCKSZ - lsn % XLOG_BLCKSZ
            passed += step
            lsn += step
        rest = int.from_bytes(start, "little") - passed if passed else 0
        info = XLP_FIRST_IS_CONTRECORD if rest > 0 else 0
        rest = max(rest, 0) & 0xFFFFFFFF
        timeline = max(scanner.timeline, at.timeline)
        if page_lsn % size == 0:
            head = LongHeader(
                at.version, timeline, page_lsn, rest, at.system_identifier, size
            ).encode(info)
        else:
            magic = MAGIC_OF_VERSION[at.version]
            head = PageHeader(magic, info, timeline, page_lsn, rest).encode()
        page = b"".join(
            bytes(piece) for _, piece in _bytes_of(source, page_lsn, page_lsn + XLOG_BLCKSZ)
        )
        if len(page) < XLOG_BLCKSZ:
            return False
        scanner.feed_bytes(page_lsn, head + page[len(head) :])
        return scanner.poll_columns() is not None
    except WalError:
        return False


def _bytes_of(source: SegmentSource, lsn: int, end: int) -> Iterator[tuple[int, memoryview]]:
    """Yields WAL ``[lsn, end)`` in pieces, less where files are short or missing."""
    size = source.segment_size
    while lsn < end and (file := source.find(lsn // size)) is not None:
        begin = lsn - lsn % size
        for piece in source.pieces(file, lsn - begin, min(size, end - begin)):
            yield lsn, piece
            lsn += len(piece)
        if lsn < min(begin + size, end):
            return
