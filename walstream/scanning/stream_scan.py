"""Reads the records of WAL that comes in order, once: from a pipe, or from a server."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import IO

from walstream.errors import WalError
from walstream.scanning.ending import Ending
from walstream.scanning.output import Item
from walstream.scanning.scan import Scan
from walstream.scanning.tail import (
    Position,
    damage_kind,
    is_wal_page,
    may_be_unwritten,
    unwritten_ending,
)
from walstream.segments.files import CHUNK, read_some
from walstream.segments.pipe import read_pipe_head
from walstream.wal.layout import XLOG_BLCKSZ
from walstream.wal.segment import DEFAULT_SEGMENT_SIZE


class StreamScan(Scan[Item]):
    """One pass over a stream of WAL: ``from_pipe``, or ``begin_at`` and then ``feed``."""

    def from_pipe(self, stream: IO[bytes]) -> Generator[Item, None, None]:
        """Yields what the output makes of a stream of WAL that begins at the start of a page.

        Raises:
            WalError: it does not begin with a WAL page.
        """
        head = read_pipe_head(stream)
        self.begin_with(head.lsn, head.segment_size or DEFAULT_SEGMENT_SIZE)
        lsn = head.lsn
        data = head.data
        try:
            while data:
                yield from self.feed(lsn, data)
                lsn += len(data)
                if self.ending is not None:
                    return
                data = (
                    stream.read1(CHUNK)
                    if hasattr(stream, "read1")
                    else read_some(stream, CHUNK, "standard input")
                )
        except WalError as error:
            yield from self.output.rest()
            self.ending = self._tail(error, data, lsn)
            return
        yield from self.output.rest()
        assert self.scanner is not None
        self.ending = self.stop(self.scanner)

    def _tail(self, error: WalError, data: bytes, lsn: int) -> Ending:
        """Tells the end of WAL from damage: a pipe is not read twice, only ``data`` is there."""
        scanner = self.scanner
        assert scanner is not None
        page = (error.lsn or lsn) - lsn
        if may_be_unwritten(error, self.segment_size) and not any(
            is_wal_page(data, at, lsn) for at in range(page + XLOG_BLCKSZ, len(data), XLOG_BLCKSZ)
        ):
            return unwritten_ending(scanner, error, self.first_lsn is not None)
        kind = damage_kind(error, self.segment_size)
        return Ending(kind, scanner.verified_end_lsn, str(error))

    def begin_with(self, lsn: int, segment_size: int) -> None:
        """Makes ready for ``feed``: WAL will come from ``lsn`` on, the start of a page."""
        if self.asked_start is None:
            self.start_lsn = lsn
        self.segment_size = segment_size
        self.at = Position(lsn, find=True)
        self.begin()

    def begin_at(self, newest_lsn: int, segment_size: int) -> int:
        """Makes ready for ``feed``; returns from where on it wants WAL.

        That is the start of a page, whose header says where the record under way ends: the page of
        the start that was asked for, or of ``newest_lsn``.
        """
        if self.asked_start is None:
            self.start_lsn = newest_lsn
        lsn = self.start_lsn - self.start_lsn % XLOG_BLCKSZ
        self.segment_size = segment_size
        self.at = Position(lsn, find=True)
        self.begin()
        return lsn

    def feed(self, lsn: int, data: bytes) -> Iterator[Item]:
        """Yields what the next bytes give; at the end of the range sets ``ending``.

        Raises:
            WalError: the WAL is damaged.
        """
        scanner = self.scanner
        assert scanner is not None
        if self.end_lsn is not None:
            data = data[: max(self.end_lsn - lsn, 0)]
        if data:
            scanner.feed_bytes(lsn, data)
            yield from self.poll(scanner, data)
        if self.end_lsn is not None and scanner.feed_lsn >= self.end_lsn:
            yield from self.output.rest()
            self.ending = self.stop(scanner)
