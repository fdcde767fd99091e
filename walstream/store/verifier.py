"""Checks WAL while it arrives: page headers, and with ``records`` every record too.

``HeaderVerifier`` checks what XLogReaderValidatePageHeader checks; ``RecordVerifier`` adds the
record's CRC, length and ``xl_prev`` through ``wal.stream``. Both take any cut of the stream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from walstream.errors import PageHeaderError, WalError, WalstreamError, WrongCluster
from walstream.segments.header import LONG, SHORT
from walstream.wal.layout import (
    XLOG_BLCKSZ,
    XLP_ALL_FLAGS,
    XLP_LONG_HEADER,
    SizeOfXLogLongPHD,
    SizeOfXLogShortPHD,
)
from walstream.wal.model import format_lsn
from walstream.wal.reason import Reason
from walstream.wal.record import COMPILED
from walstream.wal.stream import WalStreamDecoder
from walstream.wal.versions import PAGE_MAGICS

if TYPE_CHECKING:
    from collections.abc import Sequence

VerifyLevel = Literal["off", "headers", "records"]


class Expected(NamedTuple):
    """What every page must say. ``timelines``: those that may appear, newest last."""

    system_id: int
    version: int
    segment_size: int
    timelines: tuple[int, ...]


class Verifier(Protocol):
    """Takes WAL in order, raises at the first byte that is wrong."""

    def feed(self, lsn: int, pieces: Sequence[bytes | memoryview]) -> None:
        """Takes pieces that follow each other from ``lsn`` on."""


class NoVerifier:
    """``--verify=off``."""

    def feed(self, lsn: int, pieces: Sequence[bytes | memoryview]) -> None:
        pass


class HeaderVerifier:
    """Checks each page header of the stream: ``[lsn, lsn + len(data))`` in order.

    A header that is cut in two by the end of a message is put together first.
    """

    def __init__(self, expected: Expected) -> None:
        self._expected = expected
        self._mask = expected.segment_size - 1
        self._head = bytearray()
        self._head_lsn = 0
        self._last_timeline = 0
        self._zeros_end = 0

    def feed(self, lsn: int, pieces: Sequence[bytes | memoryview]) -> None:
        """Raises PageHeaderError or WrongCluster at the first page header that is wrong."""
        for data in pieces:
            self._feed(lsn, data)
            lsn += len(data)

    def _feed(self, lsn: int, data: bytes | memoryview) -> None:
        length = len(data)
        at = -lsn & (XLOG_BLCKSZ - 1)
        if self._head:
            need = self._header_size(self._head_lsn) - len(self._head)
            self._head += data[:need]
            if length < need:
                return
            self._check(self._head_lsn, self._head, 0)
            self._head.clear()
        while at < length:
            page_lsn = lsn + at
            if at + self._header_size(page_lsn) > length:
                self._head += data[at:]
                self._head_lsn = page_lsn
                return
            self._check(page_lsn, data, at)
            at += XLOG_BLCKSZ

    def _header_size(self, page_lsn: int) -> int:
        return SizeOfXLogShortPHD if page_lsn & self._mask else SizeOfXLogLongPHD

    def _check(self, page_lsn: int, data: bytes | bytearray | memoryview, at: int) -> None:
        magic, info, timeline, address, _ = SHORT.unpack_from(data, at)
        expected = self._expected
        if page_lsn < self._zeros_end or (magic == 0 and page_lsn & self._mask):
            # Behind an XLOG_SWITCH the server zeroes the rest of the segment, headers too.
            if magic or info or timeline or address:
                raise self._wrong("magic", "zeros to the segment's end", f"{magic:04X}", page_lsn)
            self._zeros_end = (page_lsn | self._mask) + 1
            return
        if PAGE_MAGICS.get(magic) != expected.version:
            raise self._wrong("magic", f"PostgreSQL {expected.version}'s", f"{magic:04X}", page_lsn)
        if info & ~XLP_ALL_FLAGS:
            raise self._wrong("flags", "known ones", f"{info:#06x}", page_lsn)
        if address != page_lsn:
            raise self._wrong("address", format_lsn(page_lsn), format_lsn(address), page_lsn)
        if timeline not in expected.timelines:
            raise self._wrong("timeline", f"one of {expected.timelines}", str(timeline), page_lsn)
        if timeline < self._last_timeline:
            raise self._wrong("timeline", f"{self._last_timeline} or more", str(timeline), page_lsn)
        self._last_timeline = timeline
        long = info & XLP_LONG_HEADER
        if bool(long) != (page_lsn & self._mask == 0):
            raise self._wrong("long header", "at segment starts only", bool(long), page_lsn)
        if long:
            *_, system_id, segment_size, block_size = LONG.unpack_from(data, at)
            if system_id != expected.system_id:
                raise WrongCluster(
                    f"WAL of another cluster: expected system identifier {expected.system_id}, "
                    f"got {system_id} at {format_lsn(page_lsn)}"
                )
            if segment_size != expected.segment_size:
                raise self._wrong("segment size", expected.segment_size, segment_size, page_lsn)
            if block_size != XLOG_BLCKSZ:
                raise self._wrong("block size", XLOG_BLCKSZ, block_size, page_lsn)

    def _wrong(self, field: str, expected: object, got: object, lsn: int) -> WalstreamError:
        return PageHeaderError(
            f"page header: {field}: expected {expected}, got {got} at {format_lsn(lsn)}", lsn
        )


class RecordVerifier:
    """Checks every page header and every record: CRC, length, chain.

    Args:
        expected: what every page must say.
        start_lsn: where the stream goes on.
        prev_lsn: start of the record that ends at ``start_lsn``; 0: ``start_lsn`` begins a page
            and the first record is to be found.
        decoder: the one that walked what is stored, at ``start_lsn``; goes on with it.
    """

    def __init__(
        self,
        expected: Expected,
        start_lsn: int,
        prev_lsn: int = 0,
        decoder: WalStreamDecoder | None = None,
    ) -> None:
        self._expected = expected
        self._decoder = decoder or WalStreamDecoder(
            expected.version,
            expected.segment_size,
            start_lsn,
            find_record=prev_lsn == 0,
            prev_lsn=prev_lsn or None,
            system_identifier=expected.system_id,
        )

    def feed(self, lsn: int, pieces: Sequence[bytes | memoryview]) -> None:
        """Raises PageHeaderError, RecordError or WrongCluster at the first thing wrong."""
        decoder = self._decoder
        try:
            decoder.verify_bytes(lsn, pieces)
        except WalError as exc:
            if exc.reason in (Reason.OTHER_SYSTEM, Reason.OTHER_SEGMENT_SIZE):
                raise WrongCluster(str(exc)) from exc
            raise
        if decoder.timeline not in self._expected.timelines and decoder.timeline:
            raise PageHeaderError(
                f"page header: timeline: expected one of {self._expected.timelines}, got "
                f"{decoder.timeline} before {format_lsn(decoder.feed_lsn)}",
                lsn,
            )


def default_level() -> VerifyLevel:
    """Returns ``records`` where the kernel that makes it cheap is compiled, else ``headers``."""
    return "records" if COMPILED else "headers"


def make_verifier(
    level: VerifyLevel,
    expected: Expected,
    start_lsn: int,
    prev_lsn: int = 0,
    decoder: WalStreamDecoder | None = None,
) -> Verifier:
    """Returns the verifier of a level for a stream that goes on at ``start_lsn``."""
    if level == "records":
        return RecordVerifier(expected, start_lsn, prev_lsn, decoder)
    return HeaderVerifier(expected) if level == "headers" else NoVerifier()
