"""Filters: how they are read, and what they let through."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from walstream.errors import InvalidFilter
from walstream.rows.table import Column
from walstream.rows.types import numbers, strings, times
from walstream.rows.where import Comparison, Filter, parse_where

COLUMNS = [
    Column("id", 23, -1, numbers.int4_out, "int4out", True, True, "", ""),
    Column("name", 25, -1, strings.text_out, "textout", True, False, "", ""),
    Column("at", 1114, -1, times.timestamp_out, "timestamp_out", True, False, "", ""),
    Column("ok", 16, -1, numbers.bool_out, "boolout", True, False, "", ""),
    Column("f", 701, -1, numbers.float8_out, "float8out", True, False, "", ""),
]
ROW = [
    struct.pack("<i", 42),
    b"it's",
    struct.pack("<q", -(1 << 50)),
    b"\1",
    struct.pack("<d", float("nan")),
]


def test_filters_are_read() -> None:
    assert parse_where("id = 42 and \"Na\"\"me\">='it''s' AND x IS NOT NULL") == [
        Comparison("id", "=", "42"),
        Comparison('Na"me', ">=", "it's"),
        Comparison("x", "is not null", ""),
    ]


@pytest.mark.parametrize(
    "text",
    ["", "id", "id =", "id = 42 or x = 1", "id = abc", "= 4", "id = 4 and", "id is 4", "id ; 4"],
)
def test_what_is_no_filter(text: str) -> None:
    with pytest.raises(InvalidFilter):
        parse_where(text)


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("id = 42", True),
        ("id = 42.0", True),
        ("id <> 42", False),
        ("id > 5", True),  # not by text
        ("name = 'it''s' AND id >= 42", True),
        ("name is null", False),
        ("at < '1970-01-01'", True),
        ("at > '-infinity'", True),
        ("at < 'infinity'", True),
        ("ok = true", True),
        ("ok = 'f'", False),
        ("f > 1e300", True),  # NaN is the largest
        ("f = 'NaN'", True),
        ("NAME = 'it''s'", True),
    ],
)
def test_what_passes(text: str, passes: bool) -> None:
    assert Filter(parse_where(text), COLUMNS).passes(ROW) is passes


def test_null_compares_to_nothing() -> None:
    for operator in ("=", "<>", "<", ">="):
        assert not Filter([Comparison("id", operator, "1")], COLUMNS).passes([None] * 5)


@pytest.mark.parametrize("text", ["id = 'x'", "ok = 'maybe'", "at = 'yesterday'", "no = 1"])
def test_values_must_be_of_the_type(text: str) -> None:
    with pytest.raises(InvalidFilter):
        Filter(parse_where(text), COLUMNS)


@given(st.text(max_size=30))
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidFilter):
        assert parse_where(text)
