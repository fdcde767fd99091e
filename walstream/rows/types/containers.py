"""Arrays, composites, ranges and multiranges as text.

Offsets are those of PostgreSQL's structs, which begin with a 4-byte length word at an aligned
address: the payload is put behind 4 bytes first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from struct import Struct
from typing import NamedTuple

from walstream.errors import RowDamaged
from walstream.rows.heap import AttributeLayout, TupleLayout, deform
from walstream.rows.varlena import payload, stored_length

_U32, _I32 = Struct("<I"), Struct("<i")

Output = Callable[[bytes], bytes]

MAX_DIMENSIONS = 6

RANGE_EMPTY, LOWER_INCLUSIVE, UPPER_INCLUSIVE = 0x01, 0x02, 0x04
LOWER_INFINITE, UPPER_INFINITE = 0x08, 0x10
MULTIRANGE_OFFSET = 0x80000000

_SPACES = rb" \t\n\r\v\f"
_QUOTED_IN_RECORD = re.compile(rb'["\\(),' + _SPACES + rb"]")
_QUOTED_IN_RANGE = re.compile(rb'["\\()\[\],' + _SPACES + rb"]")
_ESCAPED_IN_ARRAY = re.compile(rb'(["\\])')
_DOUBLED = re.compile(rb'(["\\])')


class Element(NamedTuple):
    """The type of what is inside: how it lies there, and its output function for payloads."""

    length: int
    alignment: int
    output: Output
    delimiter: bytes = b","


def read_element(data: bytes, at: int, end: int, element: Element) -> tuple[bytes, int]:
    """Returns the payload of the value at or behind ``at``, and where it ends.

    Raises:
        RowDamaged: it does not fit.
    """
    length, alignment = element.length, element.alignment
    if length == -1:
        if at < end and data[at] == 0:
            at = (at + alignment - 1) & -alignment
        length = stored_length(data, at, end)
        return payload(data[at : at + length]), at + length
    if length == -2:
        after = data.find(b"\0", at, end) + 1
        if after <= 0:
            raise RowDamaged("a cstring without its end")
        return data[at:after], after
    at = (at + alignment - 1) & -alignment
    if at + length > end:
        raise RowDamaged("an element goes beyond the end of its value")
    return data[at : at + length], at + length


class ArrayHeader(NamedTuple):
    """ArrayType; ``data`` has 4 bytes in front of the payload, elements begin at ``start``."""

    data: bytes
    element_oid: int
    dimensions: tuple[int, ...]
    lower_bounds: tuple[int, ...]
    bitmap_at: int
    start: int

    @property
    def size(self) -> int:
        count = 1 if self.dimensions else 0
        for length in self.dimensions:
            count *= length
        return count


def array_header(value: bytes) -> ArrayHeader:
    """Returns what stands in front of an array's elements.

    Raises:
        RowDamaged: it is no array.
    """
    data = b"\0\0\0\0" + value
    if len(data) < 16:
        raise RowDamaged(f"array of {len(value)} bytes")
    ndim, offset, element_oid = Struct("<iiI").unpack_from(data, 4)
    bitmap_at = 16 + 8 * ndim
    if not 0 <= ndim <= MAX_DIMENSIONS or bitmap_at > len(data):
        raise RowDamaged(f"array of {ndim} dimensions")
    numbers = Struct(f"<{2 * ndim}i").unpack_from(data, 16)
    start = offset or (bitmap_at + 7) & ~7
    dimensions = numbers[:ndim]
    header = ArrayHeader(
        data, element_oid, dimensions, numbers[ndim:], bitmap_at if offset else 0, start
    )
    if any(length < 0 for length in dimensions) or not 0 <= offset <= len(data):
        raise RowDamaged(f"array of dimensions {dimensions}")
    # Each element takes a byte, or a bit where it is NULL.
    if header.size > 8 * len(data):
        raise RowDamaged(f"array of {header.size} elements in {len(value)} bytes")
    if offset and bitmap_at + (header.size + 7) // 8 > len(data):
        raise RowDamaged("array: its bitmap goes beyond its end")
    return header


def array_elements(header: ArrayHeader, element: Element) -> list[bytes | None]:
    """Returns the payloads of an array's elements in order, None for NULL."""
    data, at, end = header.data, header.start, len(header.data)
    values: list[bytes | None] = []
    for number in range(header.size):
        if header.bitmap_at and not data[header.bitmap_at + (number >> 3)] >> (number & 7) & 1:
            values.append(None)
            continue
        value, at = read_element(data, at, end, element)
        values.append(value)
    return values


def array_out(find_element: Callable[[int], Element]) -> Output:
    """Returns array_out; ``find_element`` gives the element type that an array names itself."""

    def output(value: bytes) -> bytes:
        header = array_header(value)
        if not header.size:
            return b"{}"
        element = find_element(header.element_oid)
        delimiter = element.delimiter
        special = re.compile(rb'[{}"\\' + re.escape(delimiter) + _SPACES + rb"]")
        texts = []
        for one in array_elements(header, element):
            if one is None:
                texts.append(b"NULL")
                continue
            text = element.output(one)
            if not text or text.upper() == b"NULL" or special.search(text):
                text = b'"%s"' % _ESCAPED_IN_ARRAY.sub(rb"\\\1", text)
            texts.append(text)
        for length in reversed(header.dimensions):
            texts = [
                b"{%s}" % delimiter.join(texts[at : at + length])
                for at in range(0, len(texts), length)
            ]
        prefix = b""
        if any(bound != 1 for bound in header.lower_bounds):
            for bound, length in zip(header.lower_bounds, header.dimensions, strict=True):
                prefix += b"[%d:%d]" % (bound, bound + length - 1)
            prefix += b"="
        return prefix + texts[0]

    return output


def vector_out(form: str) -> Output:
    """Returns the output function of oidvector (``I``) or int2vector (``h``)."""

    def output(value: bytes) -> bytes:
        header = array_header(value)
        numbers = Struct(f"<{header.size}{form}").unpack_from(header.data, 24)
        return b" ".join([b"%d" % number for number in numbers])

    return output


class RecordColumn(NamedTuple):
    """A column of a composite type; ``output`` is None for a dropped one."""

    layout: AttributeLayout
    output: Output | None


def record_out(find_columns: Callable[[int], Sequence[RecordColumn]]) -> Output:
    """Returns record_out; ``find_columns`` gives those of the type that a record names itself."""

    def output(value: bytes) -> bytes:
        data = b"\0\0\0\0" + value
        if len(data) < 23:
            raise RowDamaged(f"a record of {len(value)} bytes")
        columns = find_columns(_U32.unpack_from(data, 8)[0])
        values = deform(data, TupleLayout(column.layout for column in columns))
        values += [None] * (len(columns) - len(values))
        texts = []
        for column, stored in zip(columns, values, strict=True):
            if column.output is None:
                continue
            if stored is None:
                texts.append(b"")
                continue
            inner = payload(stored) if column.layout.length == -1 else stored
            text = column.output(inner)
            if not text or _QUOTED_IN_RECORD.search(text):
                text = b'"%s"' % _DOUBLED.sub(rb"\1\1", text)
            texts.append(text)
        return b"(%s)" % b",".join(texts)

    return output


def _range(flags: int, bounds: list[bytes]) -> bytes:
    """Returns a range as range_deparse; ``bounds`` are the finite ones as text."""
    if flags & RANGE_EMPTY:
        return b"empty"
    bounds = [
        b'"%s"' % _DOUBLED.sub(rb"\1\1", text)
        if not text or _QUOTED_IN_RANGE.search(text)
        else text
        for text in bounds
    ]
    lower = b"" if flags & LOWER_INFINITE else bounds.pop(0)
    upper = b"" if flags & UPPER_INFINITE else bounds.pop(0)
    opening = b"[" if flags & LOWER_INCLUSIVE else b"("
    closing = b"]" if flags & UPPER_INCLUSIVE else b")"
    return opening + lower + b"," + upper + closing


def _bounds(data: bytes, at: int, end: int, flags: int, element: Element) -> list[bytes]:
    count = 0
    if not flags & RANGE_EMPTY:
        count = 2 - bool(flags & LOWER_INFINITE) - bool(flags & UPPER_INFINITE)
    texts = []
    for _ in range(count):
        value, at = read_element(data, at, end, element)
        texts.append(element.output(value))
    return texts


def range_out(find_subtype: Callable[[int], Element]) -> Output:
    """Returns range_out; ``find_subtype`` gives the subtype of the range type it is given."""

    def output(value: bytes) -> bytes:
        data = b"\0\0\0\0" + value
        if len(data) < 9:
            raise RowDamaged(f"a range of {len(value)} bytes")
        flags = data[-1]
        element = find_subtype(_U32.unpack_from(data, 4)[0])
        return _range(flags, _bounds(data, 8, len(data) - 1, flags, element))

    return output


def multirange_out(find_subtype: Callable[[int], Element]) -> Output:
    """Returns multirange_out; ``find_subtype`` gives that of the multirange type it is given."""

    def output(value: bytes) -> bytes:
        data = b"\0\0\0\0" + value
        if len(data) < 12:
            raise RowDamaged(f"a multirange of {len(value)} bytes")
        type_oid, count = Struct("<II").unpack_from(data, 4)
        if count == 0:
            return b"{}"
        flags_at = 12 + 4 * (count - 1)
        if flags_at + count > len(data):
            raise RowDamaged(f"a multirange of {count} ranges in {len(value)} bytes")
        element = find_subtype(type_oid)
        start = (flags_at + count + element.alignment - 1) & -element.alignment
        offset = 0
        texts = []
        for number in range(count):
            if number:
                item = _U32.unpack_from(data, 12 + 4 * (number - 1))[0]
                size = item & ~MULTIRANGE_OFFSET
                offset = size if item & MULTIRANGE_OFFSET else offset + size
            flags = data[flags_at + number]
            bounds = _bounds(data, start + offset, len(data), flags, element)
            texts.append(_range(flags, bounds))
        return b"{%s}" % b",".join(texts)

    return output
