"""The inputs of the decoder's fuzzers: a few bytes that say what the rest is, then the rest.

Any bytes are an input; a fuzzer needs no more than to change them. ``pack`` and ``unpack`` are each
other's inverse for what ``unpack`` gave.
"""

from __future__ import annotations

import struct
from array import array
from typing import NamedTuple, cast

from walstream.wal.versions import VERSIONS

PAGE = 8192
SEGMENT_SIZES = (1 << 20, 16 << 20, 1 << 30)
# An ordinary place in WAL, and the last segments that there can be.
_BASES = (5 << 30, (1 << 64) - (4 << 30))
_WAL = struct.Struct("<BBBBHH")
_RECORD = struct.Struct("<BBBB")
_IMAGE = struct.Struct("<BBHH")

FIND_RECORD, SYSTEM_KNOWN, SIZE_KNOWN, FROM_ZERO = 1, 2, 4, 8


class WalCase(NamedTuple):
    """WAL ``data`` that begins at ``start_lsn``; ``seed`` is where it is cut and what is asked.

    ``announced``: the decoder is told ``version``, else it finds out. ``page`` of the segment:
    0 the first, 1 the second, 2 the last but one, 3 the last.
    """

    version: int
    announced: bool
    flags: int
    base: int
    size: int
    page: int
    offset: int
    seed: int
    data: bytes

    @property
    def segment_size(self) -> int:
        return SEGMENT_SIZES[self.size]

    @property
    def start_lsn(self) -> int:
        pages = self.segment_size // PAGE
        page = (0, 1, pages - 2, pages - 1)[self.page]
        return _BASES[self.base] + page * PAGE + self.offset

    def pack(self) -> bytes:
        version = VERSIONS.index(self.version) | (0 if self.announced else 0x80)
        place = self.page | self.size << 2 | self.base << 4
        return _WAL.pack(0, version, self.flags, place, self.offset, self.seed) + self.data


class RecordCase(NamedTuple):
    """A record of ``version``: ``body`` is what follows its header."""

    version: int
    rmgr: int
    info: int
    body: bytes

    def pack(self) -> bytes:
        version = VERSIONS.index(self.version)
        return _RECORD.pack(2, version, self.rmgr, self.info) + self.body


class ImageCase(NamedTuple):
    """A page image as a block reference describes it."""

    compression: int
    hole_offset: int
    hole_length: int
    data: bytes

    def pack(self) -> bytes:
        return _IMAGE.pack(3, self.compression, self.hole_offset, self.hole_length) + self.data


Case = WalCase | RecordCase | ImageCase


def unpack(data: bytes) -> Case | None:
    """Returns the case that an input means, None for one that is too short."""
    if len(data) < _WAL.size:
        return None
    kind = data[0] & 3
    if kind == 2:
        _, version, rmgr, info = _RECORD.unpack_from(data)
        return RecordCase(VERSIONS[version % 5], rmgr, info, data[_RECORD.size :])
    if kind == 3:
        _, compression, hole_offset, hole_length = _IMAGE.unpack_from(data)
        return ImageCase(compression & 7, hole_offset, hole_length, data[_IMAGE.size :])
    _, version, flags, place, offset, seed = _WAL.unpack_from(data)
    find_record = flags & FIND_RECORD
    return WalCase(
        VERSIONS[(version & 0x7F) % 5],
        version < 0x80,
        flags & 15,
        place >> 4 & 1,
        (place >> 2) % 3,
        place & 3,
        offset % PAGE if find_record else offset % PAGE & -8,
        seed,
        data[_WAL.size :],
    )


def exact(data: bytes) -> bytes:
    """Returns the bytes in memory of exactly their length: a read beyond is the sanitizer's.

    (``bytes`` and ``bytearray`` have a zero behind them.)
    """
    return cast("bytes", array("B", data)[:])
