"""Restores full-page images: hole, pglz, lz4, zstd (RestoreBlockImage of xlogreader.c).

An image leaves out the hole between pd_lower and pd_upper, and what is left may be compressed.
Restoring gives the 8192 bytes of the page as they were when the record was made; the LSN in it is
that of an earlier record, stamping the new one is redo's work. Knows nothing of records.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cython
import lz4.block
import zstandard

from walstream.errors import RecordError
from walstream.wal.layout import COMPRESSION_NAMES
from walstream.wal.model import PageImage

if TYPE_CHECKING:
    from walstream.wal.buffer import Bytes, Writable
if not cython.compiled:
    from walstream.wal.buffer import bytes_of, fill, move, u8
    from walstream.wal.bufpage import BLCKSZ
    from walstream.wal.layout import (
        COMPRESSION_LZ4,
        COMPRESSION_NONE,
        COMPRESSION_PGLZ,
        COMPRESSION_ZSTD,
    )

# A frame that PostgreSQL wrote has its size in its header, or a window of at most a page.
_ZSTD = zstandard.ZstdDecompressor(max_window_size=1 << 20)


def pglz_decompress(
    p: Bytes, at: int, length: int, target: Writable, target_at: int, raw_length: int
) -> int:
    """Decompresses pglz into exactly ``raw_length`` bytes; returns 0, or -1 for wrong bytes.

    A control byte announces eight items, lowest bit first: 0 is one literal byte; 1 is a match
    of two bytes, distance in 12 bits (1 to 4095 back) and length 3 to 17, or 18 and more with a
    third byte. Mirrors pglz_decompress with check_complete: both sides must end together, only
    the last match may announce more than there is room for.
    """
    end = at + length
    to = target_at
    to_end = target_at + raw_length
    while at < end and to < to_end:
        control = u8(p, at)
        at += 1
        bit = 0
        while bit < 8 and at < end and to < to_end:
            if control & 1:
                if end - at < 2:
                    return -1
                low = u8(p, at)
                size = (low & 0x0F) + 3
                distance = (low & 0xF0) << 4 | u8(p, at + 1)
                at += 2
                if size == 18:
                    if at >= end:
                        return -1
                    size += u8(p, at)
                    at += 1
                if distance == 0 or distance > to - target_at:
                    return -1
                if size > to_end - to:
                    size = to_end - to
                # The match may overlap what it produces, so byte by byte.
                for i in range(to, to + size):
                    target[i] = target[i - distance]
                to += size
            else:
                target[to] = u8(p, at)
                at += 1
                to += 1
            control >>= 1
            bit += 1
    if at != end or to != to_end:
        return -1
    return 0


def _unpack(data: bytes, raw_length: int, compression: int) -> bytes:
    """Returns lz4 or zstd decompressed; never allocates more than a page for it."""
    try:
        if compression == COMPRESSION_LZ4:
            raw: bytes = lz4.block.decompress(data, uncompressed_size=raw_length)
        elif compression == COMPRESSION_ZSTD:
            announced = zstandard.frame_content_size(data)
            if announced not in (-1, raw_length):
                raise _wrong_length(compression, raw_length, announced)
            raw = _ZSTD.decompress(data, max_output_size=raw_length)
        else:
            raise RecordError(f"image compression method: expected 0 to 3, got {compression}")
    except (lz4.block.LZ4BlockError, zstandard.ZstdError) as error:
        raise RecordError(
            f"could not decompress image compressed with {COMPRESSION_NAMES[compression]}: {error}"
        ) from error
    if len(raw) != raw_length:
        raise _wrong_length(compression, raw_length, len(raw))
    return raw


def _wrong_length(compression: int, expected: int, got: int) -> RecordError:
    return RecordError(
        f"length of image compressed with {COMPRESSION_NAMES[compression]}: "
        f"expected {expected}, got {got}"
    )


def restore_into(
    p: Bytes,
    at: int,
    length: int,
    hole_offset: int,
    hole_length: int,
    compression: int,
    page: Writable,
    page_at: int,
) -> int:
    """Writes the page that the image ``p[at:at+length]`` shows to ``page[page_at:+8192]``.

    The hole becomes zeros. Every number may come from the record as it stands there.

    Raises:
        RecordError: the hole is not inside the page, the length is not that of a page without
            the hole, or the bytes do not decompress. The page may be half written then.
    """
    if hole_offset < 0 or hole_length < 0 or hole_offset + hole_length > BLCKSZ:
        raise RecordError(f"hole of image: offset {hole_offset} length {hole_length}")
    raw_length = BLCKSZ - hole_length
    if compression == COMPRESSION_NONE:
        if length != raw_length:
            raise _wrong_length(compression, raw_length, length)
        first = hole_offset if hole_length != 0 else raw_length
        move(page, page_at, p, at, first)
        move(page, page_at + first + hole_length, p, at + first, raw_length - first)
    else:
        # Decompressed to the front of the page; what follows the hole then moves to its place.
        if compression == COMPRESSION_PGLZ:
            if pglz_decompress(p, at, length, page, page_at, raw_length) != 0:
                raise RecordError("could not decompress image compressed with pglz")
        else:
            raw = _unpack(bytes(p[at : at + length]), raw_length, compression)
            move(page, page_at, raw, 0, raw_length)
        if hole_length != 0:
            move(
                page,
                page_at + hole_offset + hole_length,
                page,
                page_at + hole_offset,
                raw_length - hole_offset,
            )
    fill(page, page_at + hole_offset, hole_length, 0)
    return 0


def pglz_decompress_bytes(data: Bytes, raw_length: int) -> bytes:
    """Returns ``raw_length`` bytes decompressed from pglz.

    Raises:
        RecordError: the bytes do not decompress to exactly that many.
    """
    if raw_length < 0 or raw_length > 1 << 30:
        raise ValueError(f"raw_length: expected 0 to {1 << 30}, got {raw_length}")
    target = bytearray(raw_length + 1)
    result = pglz_decompress(bytes_of(data), 0, len(data), target, 0, raw_length)
    if result != 0:
        raise RecordError(f"could not decompress pglz: expected {raw_length} bytes")
    del target[raw_length:]
    return bytes(target)


def restore_image(image: PageImage) -> bytes:
    """Returns the 8192 bytes of the page that ``image`` shows.

    Raises:
        RecordError: hole, length and compression contradict each other or the bytes.
    """
    page = bytearray(BLCKSZ)
    restore_into(
        image.data,
        0,
        len(image.data),
        image.hole_offset,
        image.hole_length,
        image.compression,
        page,
        0,
    )
    return bytes(page)
