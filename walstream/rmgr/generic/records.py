"""Generic: byte differences of pages, for extensions (generic_xlog.c, genericdesc.c)."""

from __future__ import annotations

from walstream.rmgr.layout import Cursor, Layout, Value
from walstream.rmgr.op import Op
from walstream.rmgr.view import View


def regions(data: bytes) -> list[tuple[int, int]]:
    """Returns offset and length of every region of a delta (offset, length, bytes, ...)."""
    cursor = Cursor(data)
    found = []
    while cursor.at < len(data):
        offset, length = cursor.integers("u16", 2)
        cursor.skip(length)
        found.append((offset, length))
    return found


def describe(view: View) -> str:
    # As PostgreSQL: of the main data, which is empty, since the deltas are block data.
    return "; ".join(f"offset {offset}, length {length}" for offset, length in regions(view.main))


def add_regions(view: View, fields: dict[str, Value]) -> None:
    for i in range(view.reader.block_count):
        block_id = view.reader.block(i)[0]
        data = view.block_data(block_id)
        if data is not None:
            fields[f"block{block_id}_regions"] = tuple(regions(data))


OPS = {code << 4: (Op(14, "Generic", Layout(), describe, add_regions),) for code in range(16)}
