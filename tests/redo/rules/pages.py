"""Pages for the tests of rules: made by hand, and taken apart."""

from __future__ import annotations

from collections.abc import Iterable
from struct import pack_into, unpack_from


def empty_page(special: bytes) -> bytearray:
    """Returns a page without tuples that ends with this special area."""
    page = bytearray(8192)
    start = 8192 - len(special)
    pack_into("<HHHHHI", page, 10, 0, 24, start, start, 0x2004, 0)
    page[start:] = special
    return page


def page_lsn(page: bytes) -> int:
    high, low = unpack_from("<II", page)
    return int(high) << 32 | int(low)


def page_of(special: bytes, items: Iterable[bytes]) -> bytes:
    """Returns a page that got these tuples one after the other."""
    page = empty_page(special)
    lower, upper = 24, 8192 - len(special)
    for item in items:
        upper -= (len(item) + 7) // 8 * 8
        page[upper : upper + len(item)] = item
        pack_into("<I", page, lower, upper | 1 << 15 | len(item) << 17)
        lower += 4
    pack_into("<HH", page, 12, lower, upper)
    return bytes(page)


def items_of(page: bytes) -> list[bytes]:
    """Returns what the line pointers of a page point to, in order."""
    lines = unpack_from("<H", page, 12)[0] - 24 >> 2
    items = [unpack_from("<I", page, 24 + 4 * line)[0] for line in range(lines)]
    return [page[item & 0x7FFF : (item & 0x7FFF) + (item >> 17)] for item in items]
