"""Rows as a table for people: columns aligned, as psql prints them."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import BinaryIO

from walstream.errors import RowDamaged
from walstream.rows.formats import row_texts
from walstream.rows.table import Row, Table
from walstream.text import encode

# The first rows decide how wide the columns are; what comes later and is wider stands out.
MEASURED_ROWS = 1000
RIGHT_ALIGNED = (
    "int2out",
    "int4out",
    "int8out",
    "oidout",
    "float4out",
    "float8out",
    "numeric_out",
    "cash_out",
)


def shown_width(text: str) -> int:
    """Returns how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(unicodedata.combining(char) != 0 for char in text)


def printable(text: bytes) -> str:
    """Returns a value in one line: control characters as escapes."""
    shown = text.decode("utf-8", "backslashreplace")
    if shown.isprintable():
        return shown
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in shown
    )


class TableWriter:
    """Writes rows as an aligned table; NULL is left empty as psql does."""

    def __init__(self, table: Table, out: BinaryIO) -> None:
        self._table = table
        self._out = out
        self._waiting: list[list[str]] = []
        self._widths: list[int] | None = None
        self._right = [column.function in RIGHT_ALIGNED for column in table.columns]
        self.count = 0
        self.notes: list[str] = []

    def write(self, rows: Sequence[Row]) -> None:
        """Writes rows.

        Raises:
            OSError: from ``out``.
        """
        for row in rows:
            try:
                texts = row_texts(self._table.columns, row)
            except RowDamaged as error:
                self._table.lost_row(row, error)
                continue
            self.count += 1
            self._waiting.append(["" if text is None else printable(text) for text in texts])
        if self._widths is not None or len(self._waiting) >= MEASURED_ROWS:
            self._flush()

    def _flush(self) -> None:
        names = [column.name for column in self._table.columns]
        if self._widths is None:
            lines = [names, *self._waiting]
            self._widths = [max(map(shown_width, cells)) for cells in zip(*lines, strict=True)]
            centred = [f"{name:^{width}}" for name, width in zip(names, self._widths, strict=True)]
            rule = "+".join("-" * (width + 2) for width in self._widths)
            self._out.write(encode(f" {' | '.join(centred)} \n{rule}\n"))
        for cells in self._waiting:
            self._out.write(self._line(cells, self._widths))
        self._waiting.clear()

    def _line(self, cells: list[str], widths: list[int]) -> bytes:
        padded = []
        for cell, width, right in zip(cells, widths, self._right, strict=True):
            blanks = " " * (width - shown_width(cell))
            padded.append(blanks + cell if right else cell + blanks)
        return encode(f" {' | '.join(padded)}".rstrip(" ")) + b"\n"

    def finish(self) -> None:
        """Writes what is left, and how many rows there were."""
        self._flush()
        rows = "row" if self.count == 1 else "rows"
        self._out.write(f"({self.count} {rows})\n".encode())
        self._out.flush()
