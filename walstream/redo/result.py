"""Looks at a rebuilt page before anyone gets it: is it a page, and is it the one asked for?"""

from __future__ import annotations

from struct import Struct

from walstream.errors import RedoError, UnsupportedRecord, WrongResult
from walstream.redo.protocol import RedoRequest, decode_error
from walstream.wal.layout import BKPBLOCK_HAS_IMAGE, XLR_MAX_BLOCK_ID, SizeOfXLogRecord
from walstream.wal.model import BLCKSZ, format_lsn

_HEADER = Struct("<IIHHHHHH")
_ZERO = bytes(BLCKSZ)
_PAGE_VERSION = 4
_VALID_FLAGS = 0x0007
_FAILURES = {"UnsupportedRecord": UnsupportedRecord}


def check_page(page: bytes, request: RedoRequest) -> None:
    """Raises where ``page`` cannot be the answer to ``request``.

    As PageIsVerified, the header must be sane. pd_lsn must be the end LSN of the last record, or,
    where that record left the page's LSN alone (a visibility bit without checksums, a record that
    the page had already seen), of an earlier one or of the base page. An all-zero page is an
    answer only to a request that brings zeros: an image of a new page.

    An error frame becomes the error that it stands for.

    Raises:
        WrongResult: names the field, what was expected and what was found.
        RedoError: the child's own words why the request cannot be redone.
    """
    high, low, _, flags, lower, upper, special, size = _HEADER.unpack_from(page)
    lsn = high << 32 | low
    records = request.records
    if not (
        24 <= lower <= upper <= special <= BLCKSZ
        and special % 8 == 0
        and size == BLCKSZ | _PAGE_VERSION
        and flags & ~_VALID_FLAGS == 0
    ):
        if upper == 0 and page == _ZERO:
            if request.base_page == _ZERO or any(_has_image(record) for _, record in records):
                return
            raise _wrong(request, "the child answered with an all-zero page")
        if (failure := decode_error(page)) is not None:
            kind, _, text = failure.partition(": ")
            raise _FAILURES.get(kind, RedoError)(text)
        raise _wrong(
            request,
            f"invalid page header: flags {flags:#x} lower {lower} upper {upper}"
            f" special {special} size and version {size:#x}",
        )
    if records and lsn == records[-1][0]:
        return
    allowed = {end_lsn for end_lsn, _ in records}
    if request.base_page is not None:
        high, low = _HEADER.unpack_from(request.base_page)[:2]
        allowed.add(high << 32 | low)
    if lsn not in allowed:
        expected = format_lsn(records[-1][0]) if records else "that of the base page"
        raise _wrong(request, f"pd_lsn: expected {expected}, got {format_lsn(lsn)}")


def _has_image(record: bytes) -> bool:
    """Returns whether the first block reference of the record has an image."""
    block_id, flags = SizeOfXLogRecord, SizeOfXLogRecord + 1
    return (
        len(record) > flags
        and record[block_id] <= XLR_MAX_BLOCK_ID
        and bool(record[flags] & BKPBLOCK_HAS_IMAGE)
    )


def _wrong(request: RedoRequest, what: str) -> WrongResult:
    tag = request.tag
    return WrongResult(
        f"wrong result for block {tag.block} of {tag.locator} fork {tag.fork}: {what}"
    )
