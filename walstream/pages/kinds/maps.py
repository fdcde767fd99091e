"""The visibility map (two bits a heap block) and the free space map (a tree of categories)."""

from __future__ import annotations

from typing import Any

from walstream.pages.kinds.view import PageView, number
from walstream.wal.model import BLCKSZ

PER_PAGE = (BLCKSZ - 24) * 4
NODES = BLCKSZ - 28
STATES = ("-", "all_visible", "all_frozen (without all_visible)", "all_visible all_frozen")


def visibility_map(page: bytes, block: int) -> PageView:
    """Returns the runs of heap blocks with equal bits, those without any left out."""
    first = block * PER_PAGE
    bits = [byte >> shift & 3 for byte in page[24:BLCKSZ] for shift in (0, 2, 4, 6)]
    items: list[dict[str, Any]] = []
    begin = 0
    for i in range(1, PER_PAGE + 1):
        if i == PER_PAGE or bits[i] != bits[begin]:
            if bits[begin]:
                blocks = (
                    f"{first + begin}" if i - begin == 1 else f"{first + begin}-{first + i - 1}"
                )
                items.append({"blocks": blocks, "bits": STATES[bits[begin]]})
            begin = i
    fields = {
        "first_block": first,
        "all_visible": sum(bit & 1 for bit in bits),
        "all_frozen": sum(bit >> 1 for bit in bits),
    }
    return PageView("visibility map", fields, items)


def free_space_map(page: bytes) -> PageView:
    """Returns the nodes that are not 0, as fsm_page_contents; a category is 32 bytes."""
    items = [{"node": i, "category": n} for i, n in enumerate(page[28 : 28 + NODES]) if n]
    return PageView("free space map", {"fp_next_slot": number(page, 24, 4)}, items)
