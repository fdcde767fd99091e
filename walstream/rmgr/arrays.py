"""Prints arrays as rmgrdesc_utils.c does, and numbers as C's %g."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from math import isinf, isnan


def numbers_text(numbers: Iterable[int]) -> str:
    """Returns ``[1, 2]`` (array_desc with offset_elem_desc)."""
    return f"[{', '.join(map(str, numbers))}]"


def redirects_text(numbers: tuple[int, ...]) -> str:
    """Returns ``[1->2, 3->4]`` (array_desc with redirect_elem_desc)."""
    pairs = (f"{numbers[i]}->{numbers[i + 1]}" for i in range(0, len(numbers), 2))
    return f"[{', '.join(pairs)}]"


def format_double(bits: int) -> bytes:
    """Returns ``%g``, as PostgreSQL's own printf, of the double that these 64 bits are."""
    (value,) = struct.unpack("<d", struct.pack("<Q", bits))
    if isnan(value):
        return b"NaN"
    if isinf(value):
        return b"-Infinity" if value < 0 else b"Infinity"
    return f"{value:g}".encode()
