"""Output functions and tuples on their own: edges, round trips, bytes that are not PostgreSQL's."""

from __future__ import annotations

import contextlib
import math
import struct
from collections.abc import Callable
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from walstream.errors import RowDamaged
from walstream.rows.cluster import RelationName, parse_name
from walstream.rows.formats import copy_line, csv_line
from walstream.rows.heap import AttributeLayout, TupleLayout, deform, heap_tuples
from walstream.rows.outputs import PLAIN
from walstream.rows.relmap import mapped_files
from walstream.rows.table import DECODING_ERRORS
from walstream.rows.types import containers, numbers, strings, times
from walstream.rows.types.jsonpath import jsonpath_out
from walstream.rows.varlena import payload, stored_length, toast_pointer

INT4 = containers.Element(4, 4, numbers.int4_out)
TEXT = containers.Element(-1, 4, strings.text_out)


def f4(value: float) -> bytes:
    return struct.pack("<f", value)


def f8(value: float) -> bytes:
    return struct.pack("<d", value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e23, b"9.999999999999999e+22"),
        (9007199254740993.0, b"9.007199254740992e+15"),
        (-0.0, b"-0"),
        (0.1, b"0.1"),
        (1e-4, b"0.0001"),
        (1e-5, b"1e-05"),
        (1e15, b"1e+15"),
        (123456789012345.0, b"123456789012345"),
        (5e-324, b"5e-324"),
        (1.7976931348623157e308, b"1.7976931348623157e+308"),
        (math.inf, b"Infinity"),
    ],
)
def test_doubles(value: float, text: bytes) -> None:
    assert numbers.float8_out(f8(value)) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_double_reads_back(value: float) -> None:
    text = numbers.float8_out(f8(value))
    assert f8(float(text)) == f8(value)
    # 17 digits always do, and repr is the shortest but for bounds that read back by rounding.
    assert len(text) <= len(f"{value:.16e}") + 1


@given(st.floats(width=32, allow_nan=False))
def test_a_float_reads_back(value: float) -> None:
    assert f4(float(numbers.float4_out(f4(value)))) == f4(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [(16777216.0, b"1.6777216e+07"), (1e-45, b"1e-45"), (3.3e-5, b"3.3e-05"), (1e6, b"1e+06")],
)
def test_floats(value: float, text: bytes) -> None:
    assert numbers.float4_out(f4(value)) == text


def numeric(value: Decimal) -> bytes:
    """Encodes a numeric in the long form."""
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    scale = max(-exponent, 0)
    text = "".join(map(str, digits)) + "0" * max(exponent, 0)
    point = max(len(text) - scale, 0)
    whole, fraction = text[:point], text[point:].rjust(scale, "0")
    whole = whole.rjust(-(-len(whole) // 4) * 4, "0")
    fraction = fraction.ljust(-(-len(fraction) // 4) * 4, "0")
    groups = [int((whole + fraction)[at : at + 4]) for at in range(0, len(whole + fraction), 4)]
    weight = len(whole) // 4 - 1
    header = (0x4000 if sign else 0) | scale
    return struct.pack(f"<Hh{len(groups)}H", header, weight, *groups)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=None, min_value=-(10**30)))
def test_numerics(value: Decimal) -> None:
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int) or not -300 < exponent < 300:
        return
    text = numbers.numeric_out(numeric(value)).decode()
    assert Decimal(text) == value
    assert "e" not in text.lower()
    assert len(text.partition(".")[2]) == max(-exponent, 0)


@given(st.integers(-2_451_545, 2_145_031_948))
def test_dates_go_round(days: int) -> None:
    """Against the algorithm of j2date, whose calendar begins elsewhere."""
    julian = days + 2_451_545 + 32_044
    quad = julian // 146_097
    extra = (julian - quad * 146_097) * 4 + 3
    julian += 60 + quad * 3 + extra // 146_097
    quad = julian // 1461
    julian -= quad * 1461
    year = julian * 4 // 1461
    julian = (julian + 305) % 365 + 123 if year else (julian + 306) % 366 + 123
    year += quad * 4
    month_quad = julian * 2141 // 65_536
    expected = (year - 4800, (month_quad + 10) % 12 + 1, julian - 7834 * month_quad // 256)
    assert times.civil(days) == expected


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ((0, 0, 0), b"00:00:00"),
        ((-1, 0, 0), b"-00:00:00.000001"),
        ((3_723_000_000, -1, 14), b"1 year 2 mons -1 days +01:02:03"),
        ((0, 1, -1), b"-1 mons +1 day"),
    ],
)
def test_intervals(fields: tuple[int, int, int], text: bytes) -> None:
    assert times.interval_out(15)(struct.pack("<qii", *fields)) == text


def test_infinite_intervals_are_of_17() -> None:
    longest = struct.pack("<qii", times.MAX_I64, times.MAX_I32, times.MAX_I32)
    assert times.interval_out(17)(longest) == b"infinity"
    assert times.interval_out(16)(longest).startswith(b"178956970 years 7 mons 2147483647 days")


def test_timestamps_in_a_zone() -> None:
    from zoneinfo import ZoneInfo

    output = times.timestamptz_out(ZoneInfo("Europe/Berlin"))
    summer = struct.pack("<q", 773_020_800_000_000)
    assert output(summer) == b"2024-06-30 02:00:00+02"
    far = struct.pack("<q", 9_223_371_331_199_999_999)
    assert output(far) == b"294277-01-01 00:59:59.999999+01"


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("00" * 16, b"::"),
        ("00" * 15 + "01", b"::1"),
        ("20010db8000000000000ff0000428329", b"2001:db8::ff00:42:8329"),
        ("00" * 10 + "ffff01020304", b"::ffff:1.2.3.4"),
        ("00" * 12 + "01020304", b"::1.2.3.4"),
        ("0001" + "00" * 14, b"1::"),
        ("00010000000000020000000000000003", b"1:0:0:2::3"),
    ],
)
def test_addresses(address: str, text: bytes) -> None:
    assert strings.inet_out(b"\x03\x80" + bytes.fromhex(address)) == text


def array(values: list[int | None], lower: int = 1) -> bytes:
    bitmap = sum(1 << place for place, value in enumerate(values) if value is not None)
    nulls = None in values
    offset = (24 + (len(values) + 7) // 8 + 7) & ~7 if nulls else 0
    head = struct.pack("<iiIii", 1, offset, 23, len(values), lower)
    if nulls:
        head += bitmap.to_bytes((len(values) + 7) // 8, "little")
        head = head.ljust(offset - 4, b"\0")
    return head + b"".join(struct.pack("<i", one) for one in values if one is not None)


@given(st.lists(st.none() | st.integers(-9, 9), min_size=1, max_size=40), st.integers(-3, 3))
def test_arrays(values: list[int | None], lower: int) -> None:
    inner = ",".join("NULL" if one is None else str(one) for one in values)
    prefix = "" if lower == 1 else f"[{lower}:{lower + len(values) - 1}]="
    output = containers.array_out(lambda _oid: INT4)
    assert output(array(values, lower)).decode() == f"{prefix}{{{inner}}}"


def test_names() -> None:
    assert parse_name("t") == RelationName(None, None, "t")
    assert parse_name('app."Sch.x"."a""b"') == RelationName("app", "Sch.x", 'a"b')


def test_lines_of_copy() -> None:
    row = [None, b"", b"a\tb\\", b"\\.", b'q"', b"\x0b\n"]
    assert copy_line(row) == b'\\N\t\ta\\tb\\\\\t\\\\.\tq"\t\\v\\n\n'
    assert csv_line(row) == b',"",a\tb\\,\\.,"q""","\x0b\n"\n'
    assert csv_line([b"\\."]) == b'"\\."\n'
    assert copy_line([]) == b"\n"


DAMAGEABLE: dict[str, Callable[[bytes], bytes]] = {
    **PLAIN,
    "array_out": containers.array_out(lambda _oid: TEXT),
    "range_out": containers.range_out(lambda _oid: INT4),
    "multirange_out": containers.multirange_out(lambda _oid: TEXT),
    "record_out": containers.record_out(
        lambda _oid: [containers.RecordColumn(AttributeLayout(-1, 4), strings.text_out)] * 3
    ),
    "jsonpath_out": jsonpath_out,
    "interval_out": times.interval_out(18),
    "timestamptz_out": times.timestamptz_out(None),
}


@pytest.mark.parametrize("function", sorted(DAMAGEABLE))
@settings(max_examples=40)
@given(value=st.binary(max_size=200))
def test_any_bytes_are_text_or_damage(function: str, value: bytes) -> None:
    try:
        assert isinstance(DAMAGEABLE[function](value), bytes)
    except (RowDamaged, *DECODING_ERRORS):
        pass


@given(st.binary(min_size=1, max_size=64))
def test_any_bytes_are_a_value_or_damage(data: bytes) -> None:
    try:
        length = stored_length(data, 0, len(data))
        stored = data[:length]
        if stored[0] == 1:
            toast_pointer(stored)
        else:
            payload(stored)
    except RowDamaged:
        pass


@given(st.binary(max_size=120), st.lists(st.sampled_from([(4, 4), (-1, 4), (-2, 1), (8, 8)])))
def test_any_bytes_are_a_tuple_or_damage(data: bytes, layout: list[tuple[int, int]]) -> None:
    try:
        values = deform(data, TupleLayout(AttributeLayout(*one) for one in layout))
    except RowDamaged:
        return
    assert len(values) <= len(layout)


@given(st.binary(min_size=28, max_size=60), st.binary(max_size=60))
def test_any_bytes_are_a_page_or_damage(head: bytes, tail: bytes) -> None:
    page = head + bytes(8192 - len(head) - len(tail)) + tail
    try:
        for row in heap_tuples(page):
            assert 0 < len(row.data) <= 8192
    except RowDamaged:
        pass


@given(st.binary(max_size=80))
def test_any_bytes_are_a_relation_map_or_damage(data: bytes) -> None:
    with contextlib.suppress(RowDamaged):
        mapped_files(data)
