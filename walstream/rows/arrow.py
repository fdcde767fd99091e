"""Rows as Arrow: Parquet files and Arrow IPC streams (needs pyarrow: the extra ``sql``).

Types that Arrow has keep their kind; all others come as the text that COPY prints. What Arrow
cannot hold of a type it has (infinite dates, NaN in a decimal) becomes null and is counted in
``notes``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from struct import Struct
from typing import Any, BinaryIO, NamedTuple

import pyarrow
import pyarrow.parquet

from walstream.errors import RowDamaged
from walstream.rows.table import DECODING_ERRORS, Column, Row, Table
from walstream.rows.typmod import numeric_typmod
from walstream.wal.model import POSTGRES_EPOCH_S, POSTGRES_EPOCH_US

_I32, _I64 = Struct("<i"), Struct("<q")
EPOCH_DAYS = POSTGRES_EPOCH_S // 86_400
DAY_US = 86_400_000_000
MAX_I32, MAX_I64 = (1 << 31) - 1, (1 << 63) - 1
MAX_DECIMAL_DIGITS = 38
UTF8 = 6
ROW_GROUP = 50_000

Convert = Callable[[bytes], Any]


class _Unfit(Exception):
    """The value has no place in its Arrow type."""


class ArrowColumn(NamedTuple):
    """The Arrow type of a column, and what makes its values of payloads."""

    type: Any
    convert: Convert


def _unpacked(form: str) -> Convert:
    layout = Struct(form)
    return lambda value: layout.unpack(value)[0]


def _date(value: bytes) -> int:
    days = int(_I32.unpack(value)[0])
    if days in (MAX_I32, -MAX_I32 - 1):
        raise _Unfit
    return days + EPOCH_DAYS


def _timestamp(value: bytes) -> int:
    time_us = int(_I64.unpack(value)[0])
    if time_us in (MAX_I64, -MAX_I64 - 1) or time_us + POSTGRES_EPOCH_US > MAX_I64:
        raise _Unfit
    return time_us + POSTGRES_EPOCH_US


def _time(value: bytes) -> int:
    time_us = int(_I64.unpack(value)[0])
    if not 0 <= time_us < DAY_US:
        raise _Unfit
    return time_us


def _decimal(column: Column) -> Convert:
    def convert(value: bytes) -> Decimal:
        number = Decimal(column.output(value).decode())
        if not number.is_finite():
            raise _Unfit
        return number

    return convert


FIXED: dict[str, tuple[Callable[[], Any], Convert]] = {
    "boolout": (pyarrow.bool_, lambda value: value != b"\0"),
    "int2out": (pyarrow.int16, _unpacked("<h")),
    "int4out": (pyarrow.int32, _unpacked("<i")),
    "int8out": (pyarrow.int64, _unpacked("<q")),
    "oidout": (pyarrow.uint32, _unpacked("<I")),
    "xidout": (pyarrow.uint32, _unpacked("<I")),
    "xid8out": (pyarrow.uint64, _unpacked("<Q")),
    "float4out": (pyarrow.float32, _unpacked("<f")),
    "float8out": (pyarrow.float64, _unpacked("<d")),
    "byteaout": (pyarrow.binary, bytes),
    "date_out": (pyarrow.date32, _date),
    "timestamp_out": (lambda: pyarrow.timestamp("us"), _timestamp),
    "timestamptz_out": (lambda: pyarrow.timestamp("us", tz="UTC"), _timestamp),
    "time_out": (lambda: pyarrow.time64("us"), _time),
}


def arrow_column(column: Column, encoding: int, version: int) -> ArrowColumn:
    """Returns how a column is held; ``encoding`` is the database's."""
    fixed = FIXED.get(column.function)
    if fixed is not None and column.known:
        return ArrowColumn(fixed[0](), fixed[1])
    if not column.known:
        return ArrowColumn(pyarrow.binary(), bytes)
    if column.function == "numeric_out" and column.typmod >= 0:
        precision, scale = numeric_typmod(column.typmod, version)
        if 0 <= scale <= precision <= MAX_DECIMAL_DIGITS:
            return ArrowColumn(pyarrow.decimal128(precision, scale), _decimal(column))
    if encoding == UTF8:
        output = column.output
        return ArrowColumn(pyarrow.string(), lambda value: output(value).decode())
    # Text of another encoding is no string of Arrow.
    return ArrowColumn(pyarrow.binary(), column.output)


class ArrowWriter:
    """Writes rows to ``out`` as a Parquet file or an Arrow IPC stream, a group at a time."""

    def __init__(self, table: Table, out: BinaryIO, kind: str) -> None:
        self._table = table
        catalog = table.catalog
        self._columns = [
            arrow_column(column, catalog.database.encoding, catalog.version)
            for column in table.columns
        ]
        fields = [
            pyarrow.field(column.name, arrow.type)
            for column, arrow in zip(table.columns, self._columns, strict=True)
        ]
        self._schema = pyarrow.schema(fields)
        self._writer: Any
        if kind == "parquet":
            self._writer = pyarrow.parquet.ParquetWriter(out, self._schema, compression="zstd")
        else:
            self._writer = pyarrow.ipc.new_stream(out, self._schema)
        self._values: list[list[Any]] = [[] for _ in self._columns]
        self._unfit = [0] * len(self._columns)
        self._pending = 0
        self.count = 0

    def write(self, rows: Sequence[Row]) -> None:
        """Writes rows.

        Raises:
            OSError: from ``out``.
        """
        for row in rows:
            try:
                values = [self._value(place, value) for place, value in enumerate(row.values)]
            except (RowDamaged, *DECODING_ERRORS) as error:
                self._table.lost_row(row, error)
                continue
            for column, value in zip(self._values, values, strict=True):
                column.append(value)
            self._pending += 1
            self.count += 1
        if self._pending >= ROW_GROUP:
            self._flush()

    def _value(self, place: int, value: bytes | None) -> Any:
        if value is None:
            return None
        try:
            return self._columns[place].convert(value)
        except _Unfit:
            self._unfit[place] += 1
            return None

    def _flush(self) -> None:
        if not self._pending:
            return
        arrays = [
            pyarrow.array(values, type=column.type)
            for values, column in zip(self._values, self._columns, strict=True)
        ]
        self._writer.write_batch(pyarrow.record_batch(arrays, schema=self._schema))
        self._values = [[] for _ in self._columns]
        self._pending = 0

    @property
    def notes(self) -> list[str]:
        """What could not be held."""
        return [
            f"column {column.name}: {count} values that Arrow cannot hold (infinity, NaN, 24:00) "
            "are null"
            for column, count in zip(self._table.columns, self._unfit, strict=True)
            if count
        ]

    def finish(self) -> None:
        """Writes what is left and the end of the file."""
        self._flush()
        self._writer.close()
