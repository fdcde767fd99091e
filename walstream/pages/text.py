"""A page as text: its header and its items, one line each, for people to read."""

from __future__ import annotations

from collections.abc import Iterator

from walstream.pages.items import (
    Item,
    heap_tuple,
    index_tuple,
    looks_like_heap,
    page_header,
    page_items,
)
from walstream.wal.model import format_lsn

DATA_SHOWN = 32


def shown(data: bytes) -> str:
    """Returns the first bytes in hexadecimal and, where printable, as characters."""
    head = data[:DATA_SHOWN]
    text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in head)
    more = "..." if len(data) > DATA_SHOWN else ""
    return f"{head.hex()}{more} |{text}{more}|"


def header_line(page: bytes) -> str:
    """Returns the page header on one line."""
    header = page_header(page)
    if header.is_new:
        return "new page (never written)"
    flags = "|".join(header.flag_names) or "-"
    return (
        f"lsn {format_lsn(header.lsn)}, checksum {header.checksum:04X}, flags {flags}, "
        f"lower {header.lower}, upper {header.upper}, special {header.special}, "
        f"prune_xid {header.prune_xid}"
    )


def item_line(item: Item, heap: bool) -> str:
    """Returns one line pointer and what it points to on one line."""
    start = f"{item.offset_number:4} {item.state:8}"
    if item.state == "redirect":
        return f"{start} -> {item.offset}"
    if not item.data:
        return start
    start += f" at {item.offset:4} length {item.length:4}"
    if heap:
        row = heap_tuple(item.data)
        if row is not None:
            ctid = f"({row.ctid[0]},{row.ctid[1]})"
            return (
                f"{start}  xmin {row.xmin} xmax {row.xmax} ctid {ctid} "
                f"{'|'.join(row.flag_names)}  {shown(row.data)}"
            )
    else:
        entry = index_tuple(item.data)
        if entry is not None:
            return f"{start}  tid ({entry.tid[0]},{entry.tid[1]})  {shown(entry.data)}"
    return f"{start}  {shown(item.data)}"


def page_lines(page: bytes) -> Iterator[str]:
    """Yields a page as lines: the header first, then its items."""
    yield header_line(page)
    heap = looks_like_heap(page)
    for item in page_items(page):
        yield item_line(item, heap)


def hex_lines(page: bytes) -> Iterator[str]:
    """Yields a page as ``hexdump -C`` prints it, repeated lines as one ``*``."""
    previous = None
    repeating = False
    for at in range(0, len(page), 16):
        row = page[at : at + 16]
        if row == previous:
            if not repeating:
                yield "*"
            repeating = True
            continue
        previous, repeating = row, False
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        yield f"{at:08x}  {row[:8].hex(' ')}  {row[8:].hex(' ')}  |{text}|"
    yield f"{len(page):08x}"
