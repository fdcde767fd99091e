"""Filters on rows: ``column = value AND column >= value ...``, a comparison for each.

Numbers, dates and times are compared by value, everything else by its text: = and <> as they are
printed, the order by bytes, which is that of collation C.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from struct import Struct
from typing import Any, NamedTuple

from walstream.errors import InvalidFilter, RowDamaged
from walstream.rmgr.clock import POSTGRES_EPOCH
from walstream.rows.table import DECODING_ERRORS, Column
from walstream.text import encode

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<name>"(?:[^"]|"")+"|[^\W\d]\w*)
    | (?P<operator><=|>=|<>|!=|=|<|>)
    | (?P<string>'(?:[^']|'')*')
    | (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
    )""",
    re.VERBOSE,
)
_BLANK = re.compile(r"\s*")

NUMBERS = (
    "int2out",
    "int4out",
    "int8out",
    "oidout",
    "xidout",
    "xid8out",
    "float4out",
    "float8out",
    "numeric_out",
)
TRUE = ("true", "t", "yes", "y", "on", "1")
FALSE = ("false", "f", "no", "n", "off", "0")

OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda a, b: a == b,
    "<>": lambda a, b: a != b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


class Comparison(NamedTuple):
    """``name operator literal`` as written; the operators ``is null`` and ``is not null`` too."""

    name: str
    operator: str
    literal: str


def parse_where(text: str) -> list[Comparison]:
    """Returns the comparisons of a filter, joined with AND.

    Raises:
        InvalidFilter: it is not of that form.
    """
    tokens = _tokens(text)
    found: list[Comparison] = []
    while True:
        kind, name = next(tokens)
        if kind != "name":
            raise InvalidFilter(f"filter {text!r}: expected a column, got {name or 'the end'!r}")
        kind, operator = next(tokens)
        if kind == "name" and operator.lower() == "is":
            kind, word = next(tokens)
            negated = word.lower() == "not"
            if negated:
                kind, word = next(tokens)
            if word.lower() != "null":
                raise InvalidFilter(f"filter {text!r}: expected NULL, got {word or 'the end'!r}")
            found.append(Comparison(name, "is not null" if negated else "is null", ""))
        elif kind == "operator":
            kind, literal = next(tokens)
            if kind == "name" and literal.lower() not in ("true", "false"):
                raise InvalidFilter(
                    f"filter {text!r}: expected a value, got {literal!r}: text needs single quotes"
                )
            if kind not in ("name", "string", "number"):
                raise InvalidFilter(
                    f"filter {text!r}: expected a value, got {literal or 'the end'!r}"
                )
            found.append(Comparison(name, operator, literal))
        else:
            raise InvalidFilter(
                f"filter {text!r}: expected an operator (= <> < <= > >=, IS NULL), "
                f"got {operator or 'the end'!r}"
            )
        kind, word = next(tokens)
        if kind == "end":
            return found
        if kind != "name" or word.lower() != "and":
            raise InvalidFilter(f"filter {text!r}: expected AND, got {word!r}")


def _tokens(text: str) -> Any:
    at = 0
    while True:
        found = _TOKEN.match(text, at)
        if found is None:
            rest = text[_BLANK.match(text, at).end() :]  # type: ignore[union-attr]
            if rest:
                raise InvalidFilter(f"filter {text!r}: cannot be understood at {rest!r}")
            while True:
                yield "end", ""
        at = found.end()
        kind = found.lastgroup
        word = found[kind]  # type: ignore[index]
        if kind == "string":
            word = word[1:-1].replace("''", "'")
        elif kind == "name" and word[0] == '"':
            word = word[1:-1].replace('""', '"')
        yield kind, word


class _Order(NamedTuple):
    """What makes stored values and literals of a column comparable with each other."""

    of_payload: Callable[[bytes], Any]
    of_literal: Callable[[str], Any]


def _number(text: str) -> tuple[int, Decimal]:
    """NaN is the largest number and equal to itself, as PostgreSQL orders them."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"not a number: {text!r}") from None
    return (1, Decimal(0)) if value.is_nan() else (0, value)


def _time(unit: timedelta, limit: int) -> Callable[[str], int]:
    """Returns what counts units since 2000-01-01; ``limit`` is infinity."""

    def read(text: str) -> int:
        if text in ("infinity", "-infinity"):
            return limit if text == "infinity" else -limit - 1
        time = datetime.fromisoformat(text)
        if time.tzinfo is None:
            time = time.replace(tzinfo=UTC)
        return (time - POSTGRES_EPOCH) // unit

    return read


_MICROSECOND, _DAY = timedelta(microseconds=1), timedelta(days=1)
_I32, _I64 = Struct("<i"), Struct("<q")
_TIMES = {
    "date_out": _Order(lambda value: _I32.unpack(value)[0], _time(_DAY, (1 << 31) - 1)),
    "timestamp_out": _Order(
        lambda value: _I64.unpack(value)[0], _time(_MICROSECOND, (1 << 63) - 1)
    ),
}
_TIMES["timestamptz_out"] = _TIMES["timestamp_out"]


def _order(column: Column) -> _Order:
    output = column.output
    if column.function in NUMBERS:
        return _Order(lambda value: _number(output(value).decode()), _number)
    if column.function in _TIMES:
        return _TIMES[column.function]
    if column.function == "boolout":
        return _Order(lambda value: value != b"\0", _boolean)
    if column.function == "bpcharout":
        return _Order(lambda value: value.rstrip(b" "), lambda text: encode(text.rstrip(" ")))
    if column.function == "uuid_out":
        return _Order(output, lambda text: encode(text.lower()))
    return _Order(output, encode)


def _boolean(text: str) -> bool:
    if text.lower() in TRUE:
        return True
    if text.lower() in FALSE:
        return False
    raise ValueError(f"not a boolean: {text!r}")


class _Test(NamedTuple):
    at: int
    of_payload: Callable[[bytes], Any]
    compare: Callable[[Any, Any], bool]
    wanted: Any


class Filter:
    """A filter bound to the columns of a table: ``columns`` are those that it looks at."""

    def __init__(self, comparisons: Sequence[Comparison], columns: Sequence[Column]) -> None:
        """Binds the comparisons.

        Raises:
            InvalidFilter: a column is none of ``columns``, or a value is not of its type.
        """
        place = {column.name: number for number, column in enumerate(columns)}
        self._tests: list[_Test] = []
        self._nulls: list[tuple[int, bool]] = []
        for name, operator, literal in comparisons:
            at = place.get(name, place.get(name.lower(), -1))
            if at < 0:
                raise InvalidFilter(f"filter: there is no column {name!r}")
            if operator.startswith("is "):
                self._nulls.append((at, operator == "is null"))
                continue
            order = _order(columns[at])
            try:
                wanted = order.of_literal(literal)
            except ValueError as error:
                raise InvalidFilter(
                    f"filter: {literal!r} is no value of column {name}: {error}"
                ) from error
            self._tests.append(_Test(at, order.of_payload, OPERATORS[operator], wanted))

    @property
    def places(self) -> frozenset[int]:
        """The columns that are looked at."""
        return frozenset([test.at for test in self._tests] + [at for at, _null in self._nulls])

    def passes(self, values: Sequence[bytes | None]) -> bool:
        """Returns whether the filter is true for payloads; NULL compares to nothing.

        Raises:
            RowDamaged: a value is not what PostgreSQL writes.
        """
        for at, wanted_null in self._nulls:
            if (values[at] is None) != wanted_null:
                return False
        for at, of_payload, compare, wanted in self._tests:
            value = values[at]
            if value is None:
                return False
            try:
                if not compare(of_payload(value), wanted):
                    return False
            except DECODING_ERRORS as error:
                raise RowDamaged(f"a value cannot be compared: {error}") from error
        return True
