"""What a kind of page is shown as, and how numbers and pointers are read from untrusted pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


class PageView(NamedTuple):
    """A page by its kind: ``fields`` of the page as a whole, ``items`` one a line."""

    kind: str
    fields: dict[str, Any]
    items: list[dict[str, Any]]


Flags = Sequence[tuple[int, str]]


def number(page: bytes, at: int, size: int) -> int:
    """Returns an unsigned number, 0 for what lies outside."""
    return int.from_bytes(page[at : at + size], "little")


def tid(data: bytes, at: int = 0) -> str:
    """Returns an item pointer as ``(block,offset)``."""
    block = number(data, at, 2) << 16 | number(data, at + 2, 2)
    return f"({block},{number(data, at + 4, 2)})"


def names(value: int, flags: Flags) -> list[str]:
    """Returns the names of the bits that are set; those without one in hexadecimal."""
    found = [name for bit, name in flags if value & bit]
    rest = value & ~sum(bit for bit, _ in flags)
    return [*found, f"{rest:#06x}"] if rest else found
