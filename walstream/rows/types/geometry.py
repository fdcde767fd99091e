"""Geometric types as text."""

from __future__ import annotations

from struct import Struct

from walstream.errors import RowDamaged
from walstream.rows.types.numbers import format_float8

_I32 = Struct("<i")


def _doubles(value: bytes, at: int = 0) -> list[bytes]:
    count, rest = divmod(len(value) - at, 8)
    if rest:
        raise RowDamaged(f"geometry: {len(value)} bytes")
    return [format_float8(number) for number in Struct(f"<{count}d").unpack_from(value, at)]


def _points(numbers: list[bytes]) -> bytes:
    pairs = zip(numbers[::2], numbers[1::2], strict=True)
    return b",".join([b"(%s,%s)" % pair for pair in pairs])


def point_out(value: bytes) -> bytes:
    return _points(_doubles(value))


def lseg_out(value: bytes) -> bytes:
    return b"[%s]" % _points(_doubles(value))


def box_out(value: bytes) -> bytes:
    return _points(_doubles(value))


def line_out(value: bytes) -> bytes:
    return b"{%s}" % b",".join(_doubles(value))


def circle_out(value: bytes) -> bytes:
    x, y, radius = _doubles(value)
    return b"<(%s,%s),%s>" % (x, y, radius)


def _counted(value: bytes, at: int) -> list[bytes]:
    count = _I32.unpack_from(value)[0]
    numbers = _doubles(value, at)
    if len(numbers) != 2 * count:
        raise RowDamaged(f"geometry: {count} points in {len(value)} bytes")
    return numbers


def path_out(value: bytes) -> bytes:
    """Number of points, closed, 4 bytes of padding, points."""
    form = b"(%s)" if _I32.unpack_from(value, 4)[0] else b"[%s]"
    return form % _points(_counted(value, 12))


def polygon_out(value: bytes) -> bytes:
    """Number of points, bounding box, points."""
    return b"(%s)" % _points(_counted(value, 36))
