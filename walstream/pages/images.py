"""The images that WAL has of a page and that do not make it: a rebuilt page must equal them.

``wal_consistency_checking`` adds one to a record to show its result. A hint bit that is set for
the first time after a checkpoint has its page logged as it was (FPI_FOR_HINT).
"""

from __future__ import annotations

from typing import NamedTuple

from walstream.errors import WalError
from walstream.index.page_index import EntryFlag, PageIndex
from walstream.rmgr.xlog.records import FPI_FOR_HINT
from walstream.segments.reader import SegmentReader
from walstream.wal.image import restore_image
from walstream.wal.layout import RM_XLOG_ID
from walstream.wal.model import BufferTag, RawRecord
from walstream.wal.record import decode_wal_record


class PageImageAt(NamedTuple):
    """What a page must be at ``at_lsn``, but for what is masked; ``lsn`` is the record's start."""

    at_lsn: int
    lsn: int
    page: bytes


def comparable_images(
    index: PageIndex, archive: SegmentReader, tag: BufferTag, at_lsn: int, version: int
) -> list[PageImageAt]:
    """Returns the newest images of each kind that a page as of ``at_lsn`` came by. Blocks.

    Raises:
        WalError: a record cannot be read.
    """
    found: list[PageImageAt] = []
    floor = index.voided(tag, at_lsn)
    for entry in index.entries(tag, at_lsn):
        if entry.end_lsn <= floor:
            break
        raw = RawRecord(entry.start_lsn, entry.end_lsn, archive.read_record(entry.start_lsn))
        record = decode_wal_record(raw, version)
        for ref in record.blocks:
            if ref.tag != tag or ref.image is None:
                continue
            hint = record.rmgr_id == RM_XLOG_ID and record.info & 0xF0 == FPI_FOR_HINT
            if ref.image.apply and not hint:
                continue
            if hint or not found:
                try:
                    page = restore_image(ref.image)
                except WalError as error:
                    error.lsn = error.lsn or entry.start_lsn
                    raise
                at = entry.end_lsn - 1 if ref.image.apply else entry.end_lsn
                found.append(PageImageAt(at, entry.start_lsn, page))
        if entry.flags & EntryFlag.INIT:
            break
    return found
