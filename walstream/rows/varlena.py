"""Values of variable length (varatt.h): headers, inline compression, pointers to TOAST.

A *stored* value is what stands in a tuple, header included; its *payload* is what the type's own
code sees behind the header. Knows nothing of tables: out-of-line values are only described here.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

import lz4.block

from walstream.errors import RecordError, RowDamaged
from walstream.wal.image import pglz_decompress_bytes

_U32 = Struct("<I")
_POINTER = Struct("<iIII")

EXTERNAL = 0x01
ONDISK_TAG = 18
EXTERNAL_LENGTH = 18
# No value of PostgreSQL is longer.
MAX_LENGTH = 0x3FFFFFFF
# The most that one byte of pglz (273 bytes from 3 and a bit) or lz4 (255) can become.
MAX_RATIO = 256


class ToastPointer(NamedTuple):
    """varatt_external: a value that is kept in a TOAST relation.

    ``raw_size`` counts the value's own 4-byte header; ``external_size`` is the sum of its chunks;
    ``method`` is 0 pglz, 1 lz4, and matters only for a compressed value.
    """

    raw_size: int
    external_size: int
    method: int
    value_oid: int
    toast_oid: int

    @property
    def compressed(self) -> bool:
        return self.external_size < self.raw_size - 4


def stored_length(data: bytes, at: int, end: int) -> int:
    """Returns how many bytes the value at ``at`` takes, header included (VARSIZE_ANY).

    Raises:
        RowDamaged: the header is none, or the value goes beyond ``end``.
    """
    if at >= end:
        raise RowDamaged("a value begins behind the end of its tuple")
    first = data[at]
    if first == EXTERNAL:
        length = EXTERNAL_LENGTH
        if at + 2 > end or data[at + 1] != ONDISK_TAG:
            raise RowDamaged("tag of an external value: expected 18")
    elif first & 1:
        length = first >> 1
    else:
        if at + 4 > end:
            raise RowDamaged("the header of a value goes beyond the end of its tuple")
        length = _U32.unpack_from(data, at)[0] >> 2
        if length < 4:
            raise RowDamaged(f"length of a value: expected at least 4, got {length}")
    if at + length > end:
        raise RowDamaged(f"a value of {length} bytes goes beyond the end of its tuple")
    return length


def is_external(stored: bytes) -> bool:
    """Returns whether a stored value is a pointer to TOAST."""
    return stored[0] == EXTERNAL


def toast_pointer(stored: bytes) -> ToastPointer:
    """Returns the pointer of an external value.

    Raises:
        RowDamaged: its sizes are impossible.
    """
    if len(stored) != EXTERNAL_LENGTH:
        raise RowDamaged("an external value inside of another one")
    raw_size, info, value_oid, toast_oid = _POINTER.unpack_from(stored, 2)
    pointer = ToastPointer(raw_size, info & 0x3FFFFFFF, info >> 30, value_oid, toast_oid)
    if not 4 <= raw_size <= MAX_LENGTH or pointer.external_size > raw_size:
        raise RowDamaged(f"sizes of an external value: {raw_size} and {pointer.external_size}")
    return pointer


def decompress(data: bytes, raw_length: int, method: int) -> bytes:
    """Returns ``raw_length`` bytes decompressed (0 pglz, 1 lz4).

    Raises:
        RowDamaged: the bytes do not become that many.
    """
    if raw_length > MAX_RATIO * (len(data) + 1):
        raise RowDamaged(f"{len(data)} compressed bytes cannot become {raw_length}")
    try:
        if method == 0:
            return pglz_decompress_bytes(data, raw_length)
        if method == 1:
            raw: bytes = lz4.block.decompress(data, uncompressed_size=raw_length)
            if len(raw) == raw_length:
                return raw
    except (RecordError, lz4.block.LZ4BlockError) as error:
        raise RowDamaged(f"a compressed value: {error}") from error
    raise RowDamaged(f"a value compressed by method {method} does not become {raw_length} bytes")


def decompress_datum(data: bytes) -> bytes:
    """Returns the payload of a compressed value from behind its length word.

    The word there holds raw size (30 bits) and method; the same in a tuple and in TOAST chunks.

    Raises:
        RowDamaged: the bytes are not what they say.
    """
    if len(data) < 4:
        raise RowDamaged("a compressed value of less than 4 bytes")
    info = _U32.unpack_from(data)[0]
    return decompress(data[4:], info & 0x3FFFFFFF, info >> 30)


def payload(stored: bytes) -> bytes:
    """Returns the payload of a stored value that is not external.

    Raises:
        RowDamaged: it is external (which only columns can be), or compressed wrongly.
    """
    first = stored[0]
    if first & 1:
        if first == EXTERNAL:
            raise RowDamaged("an external value where none can be")
        return stored[1:]
    if first & 2:
        return decompress_datum(stored[4:])
    return stored[4:]
