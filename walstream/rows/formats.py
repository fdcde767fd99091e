"""Rows as text: COPY's two formats, JSON, INSERT statements."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import BinaryIO

from walstream.errors import NoRows, RowDamaged
from walstream.rows.names import quote_identifier
from walstream.rows.table import DECODING_ERRORS, Column, Row, Table
from walstream.text import decode, encode, readable

_COPY_SPECIAL = re.compile(rb"[\\\b\f\n\r\t\v]")
_COPY_ESCAPES = {
    b"\\": b"\\\\",
    b"\b": b"\\b",
    b"\f": b"\\f",
    b"\n": b"\\n",
    b"\r": b"\\r",
    b"\t": b"\\t",
    b"\v": b"\\v",
}
_CSV_SPECIAL = re.compile(rb'[",\n\r]')

# Output functions whose text is a JSON number, or JSON as it is.
JSON_NUMBERS = ("int2out", "int4out", "int8out", "oidout", "float4out", "float8out", "numeric_out")
# A number without quotes is numeric: a float would be compared with something else.
UNQUOTED = ("int2out", "int4out", "int8out", "oidout", "numeric_out")
_NEEDS_ESCAPES = re.compile(r"[\\\n\r]")
JSON_AS_IS = ("json_out", "jsonb_out")
NOT_FINITE = (b"NaN", b"Infinity", b"-Infinity")

Texts = Sequence[bytes | None]


def row_texts(columns: Sequence[Column], row: Row) -> list[bytes | None]:
    """Returns the text of each value.

    Raises:
        RowDamaged: a value is not what PostgreSQL writes.
    """
    try:
        return [
            None if value is None else column.output(value)
            for column, value in zip(columns, row.values, strict=True)
        ]
    except DECODING_ERRORS as error:
        raise RowDamaged(f"a value cannot be decoded: {error}") from error


def copy_line(texts: Texts) -> bytes:
    """Returns a line as COPY writes it in format text."""
    fields = []
    for text in texts:
        if text is None:
            fields.append(b"\\N")
        elif _COPY_SPECIAL.search(text):
            fields.append(_COPY_SPECIAL.sub(lambda found: _COPY_ESCAPES[found[0]], text))
        else:
            fields.append(text)
    return b"\t".join(fields) + b"\n"


def csv_line(texts: Texts) -> bytes:
    """Returns a line as COPY writes it in format csv."""
    fields = []
    single = len(texts) == 1
    for text in texts:
        if text is None:
            fields.append(b"")
        elif not text or _CSV_SPECIAL.search(text) or (single and text == b"\\."):
            fields.append(b'"%s"' % text.replace(b'"', b'""'))
        else:
            fields.append(text)
    return b",".join(fields) + b"\n"


def json_line(columns: Sequence[Column]) -> Callable[[Texts], bytes]:
    """Returns what makes one JSON object of a row."""
    keys = [json.dumps(readable(column.name), ensure_ascii=False) for column in columns]

    def line(texts: Texts) -> bytes:
        parts = []
        for key, column, text in zip(keys, columns, texts, strict=True):
            parts.append(f"{key}: {_json_value(column, text)}")
        return encode("{" + ", ".join(parts) + "}\n")

    return line


def _json_value(column: Column, text: bytes | None) -> str:
    if text is None:
        return "null"
    function = column.function
    if function == "boolout":
        return "true" if text == b"t" else "false"
    shown = text.decode("utf-8", "backslashreplace")
    if function in JSON_NUMBERS and text not in NOT_FINITE:
        return shown
    if function in JSON_AS_IS and "\n" not in shown and "\r" not in shown:
        return shown
    if function in JSON_AS_IS:
        # Line ends are only between values: inside of strings they are escaped.
        return shown.replace("\r", " ").replace("\n", " ")
    return json.dumps(shown, ensure_ascii=False)


def check_literal(column: Column) -> None:
    """Raises NoRows where a literal would be something else than the column held."""
    if not column.known:
        raise NoRows(
            f"no SQL can be made of column {column.name}: only an extension can print its type; "
            "leave it out (--columns), or have walstream materialize open that moment"
        )


def sql_literal(column: Column, text: bytes | None) -> str:
    """Returns a value as a literal of SQL that any session reads alike.

    Raises:
        NoRows: see ``check_literal``.
    """
    if text is None:
        return "NULL"
    check_literal(column)
    shown = decode(text)
    if column.function in UNQUOTED and text not in NOT_FINITE and not text.startswith(b"-"):
        return shown
    if column.function == "boolout":
        return "true" if text == b"t" else "false"
    quoted = shown.replace("'", "''")
    if _NEEDS_ESCAPES.search(shown):
        # One statement is one line.
        quoted = quoted.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
        return f"E'{quoted}'"
    return f"'{quoted}'"


def insert_line(table: Table) -> Callable[[Texts], bytes]:
    """Returns what makes an INSERT statement of a row.

    Raises:
        NoRows: of a column no literal can be made.
    """
    version = table.catalog.version
    for column in table.columns:
        check_literal(column)
    names = ", ".join(quote_identifier(column.name, version) for column in table.columns)
    always = any(column.identity == "a" for column in table.columns)
    overriding = " OVERRIDING SYSTEM VALUE" if always else ""
    start = f"INSERT INTO {table.name} ({names}){overriding} VALUES ("
    if not table.columns:
        start = f"INSERT INTO {table.name} DEFAULT VALUES;\n"
        return lambda _texts: encode(start)

    def line(texts: Texts) -> bytes:
        values = [
            sql_literal(column, text) for column, text in zip(table.columns, texts, strict=True)
        ]
        return encode(f"{start}{', '.join(values)});\n")

    return line


class LineWriter:
    """Writes rows as lines to ``out``; a row that cannot be printed is noted in the table."""

    def __init__(self, table: Table, out: BinaryIO, line: Callable[[Texts], bytes]) -> None:
        self._table = table
        self._out = out
        self._line = line
        self.count = 0
        self.notes: list[str] = []

    def write(self, rows: Sequence[Row]) -> None:
        """Writes rows.

        Raises:
            OSError: from ``out``.
        """
        lines = []
        for row in rows:
            try:
                lines.append(self._line(row_texts(self._table.columns, row)))
            except RowDamaged as error:
                self._table.lost_row(row, error)
        self.count += len(lines)
        self._out.write(b"".join(lines))

    def finish(self) -> None:
        """Writes what is left."""
        self._out.flush()
