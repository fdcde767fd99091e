"""How much of what is stored can be trusted: records and their chain, read from disk.

What follows the last whole record of a ``.partial`` may be zeros, or what an earlier life of the
file left. The walk begins one segment earlier where there is one, so that the record that crosses
into the segment is proven too, and ends with the state that lets a verifier go on from there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from walstream.errors import FileDamaged, RecordError, WalError
from walstream.segments.files import read_file
from walstream.segments.header import LongHeader
from walstream.segments.names import PARTIAL
from walstream.wal.layout import (
    RM_XLOG_ID,
    XLOG_BLCKSZ,
    XLR_RMGR_INFO_MASK,
    SizeOfXLogShortPHD,
    xl_info,
    xl_rmid,
)
from walstream.wal.opcodes import XLOG_SWITCH
from walstream.wal.stream import WalStreamDecoder


class VerifiedEnd(NamedTuple):
    """WAL before ``end_lsn`` is whole and chained; ``prev_lsn`` is the last record's start.

    ``prev_lsn`` is 0 where no record was found. ``error`` is what ended the walk, None where the
    files ended first. ``decoder`` goes on at the end of the files, when there was no error.
    """

    end_lsn: int
    prev_lsn: int
    error: WalError | None
    decoder: WalStreamDecoder | None


def is_unfinished(name: str) -> bool:
    """Returns whether a file name is that of a segment that was not completed."""
    return PARTIAL in name


def verify_end(
    paths: list[Path],
    start_lsn: int,
    *,
    version: int,
    segment_size: int,
    system_id: int,
    limit_lsn: int | None = None,
    past_switch: bool = False,
) -> VerifiedEnd:
    """Walks the records of consecutive segments.

    Args:
        paths: their files, in order, compressed or not.
        start_lsn: where the first one begins.
        limit_lsn: nothing from there on is looked at.
        past_switch: an XLOG_SWITCH of an unfinished file counts as every other record: ``end_lsn``
            is behind its 24 bytes. False ends the walk before it.

    Raises:
        StorageError: a file cannot be read.
    """
    decoder = WalStreamDecoder(
        version, segment_size, start_lsn, find_record=True, system_identifier=system_id
    )
    end = start_lsn
    prev = 0
    try:
        for number, path in enumerate(paths):
            begin = start_lsn + number * segment_size
            for lsn, stored in _pieces(path, begin, segment_size):
                piece = stored if limit_lsn is None else stored[: max(0, limit_lsn - lsn)]
                decoder.feed_bytes(lsn, piece)
                while (raw := decoder.poll_decode()) is not None:
                    op = raw.data[xl_info] & XLR_RMGR_INFO_MASK
                    switch = raw.data[xl_rmid] == RM_XLOG_ID and op == XLOG_SWITCH
                    if switch and is_unfinished(path.name):
                        # Its end is the segment's: the zeros up to there may not be stored yet.
                        if past_switch:
                            end, prev = _end_of_bytes(raw.start_lsn, len(raw.data)), raw.start_lsn
                        return VerifiedEnd(end, prev, None, None)
                    end, prev = raw.end_lsn, raw.start_lsn
                if decoder.end_of_wal is not None:
                    return VerifiedEnd(end, prev, decoder.end_of_wal, None)
            if decoder.feed_lsn < begin + segment_size:
                return VerifiedEnd(end, prev, None, None)
    except (RecordError, WalError) as exc:
        return VerifiedEnd(end, prev, exc, None)
    return VerifiedEnd(end, prev, None, decoder)


def segment_decoder(header: LongHeader) -> WalStreamDecoder:
    """Returns a decoder for a segment by its own header; it begins at the first whole record."""
    return WalStreamDecoder(
        header.version,
        header.segment_size,
        header.page_lsn,
        find_record=True,
        system_identifier=header.system_id,
    )


def goes_on(path: Path, header: LongHeader) -> bool:
    """Returns whether a whole record follows the first place in a segment where WAL breaks off.

    Then that place is damaged; else it may be the end of WAL.

    Raises:
        StorageError: the file cannot be read.
    """
    decoder = segment_decoder(header)
    damaged = False
    for lsn, piece in _pieces(path, header.page_lsn, header.segment_size):
        decoder.feed_bytes(lsn, piece)
        while True:
            try:
                if decoder.poll_decode() is None:
                    break
                if damaged or decoder.end_of_wal is not None:
                    return True
            except WalError:
                damaged = True
                decoder.resync()
    return False


def _end_of_bytes(start_lsn: int, length: int) -> int:
    """Returns where the bytes of a record end that is shorter than a page."""
    left = XLOG_BLCKSZ - start_lsn % XLOG_BLCKSZ
    return start_lsn + length + (SizeOfXLogShortPHD if length > left else 0)


def _pieces(path: Path, lsn: int, segment_size: int) -> Iterator[tuple[int, bytes]]:
    left = segment_size
    partial = is_unfinished(path.name)
    try:
        for piece in read_file(path):
            piece = piece[:left]
            if piece:
                yield lsn, piece
            lsn += len(piece)
            left -= len(piece)
    except FileDamaged:
        if not partial:  # a compressed file that was cut is no news when it is unfinished
            raise
