"""A page as text: its header and its items, one line each, for people to read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from walstream.pages.items import page_header
from walstream.pages.kinds import page_view
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


def value_text(value: Any) -> str:
    """Returns a value of a ``PageView`` for people."""
    if isinstance(value, bytes):
        return shown(value)
    if isinstance(value, list):
        head = " ".join(map(str, value[:DATA_SHOWN]))
        return (head or "-") + (" ..." if len(value) > DATA_SHOWN else "")
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def item_line(item: dict[str, Any]) -> str:
    """Returns one item on one line."""
    if "offset" not in item or "state" not in item:
        return "  ".join(f"{key} {value_text(value)}" for key, value in item.items())
    start = f"{item['offset']:4} {item['state']:8}"
    if "redirect" in item:
        return f"{start} -> {item['redirect']}"
    if item["length"]:
        start += f" length {item['length']:4}"
    rest = [
        value_text(value) if key in ("flags", "data") else f"{key} {value_text(value)}"
        for key, value in item.items()
        if key not in ("offset", "state", "length", "infomask", "infomask2", "hoff", "field3")
        and value is not False
    ]
    return "  ".join([start, *rest])


def page_lines(page: bytes, fork: int = 0, block: int = 0) -> Iterator[str]:
    """Yields a page as lines: the header first, then its kind, then its items."""
    yield header_line(page)
    if page_header(page).is_new:
        return
    view = page_view(page, fork, block)
    yield view.kind + "".join(f", {key} {value_text(v)}" for key, v in view.fields.items())
    for item in view.items:
        yield item_line(item)


def page_json(page: bytes, fork: int = 0, block: int = 0) -> dict[str, Any]:
    """Returns a page as JSON would have it; bytes in hexadecimal."""
    header = page_header(page)
    view = page_view(page, fork, block)
    return {
        "lsn": format_lsn(header.lsn),
        **{key: value for key, value in header._asdict().items() if key not in ("lsn", "flags")},
        "flags": header.flag_names,
        "kind": view.kind,
        "fields": view.fields,
        "items": [
            {key: v.hex() if isinstance(v, bytes) else v for key, v in item.items()}
            for item in view.items
        ],
    }


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
