"""jsonb as text (JsonbToCString): containers of entries, each with a type and a length or end."""

from __future__ import annotations

import re
from struct import Struct

from walstream.errors import RowDamaged
from walstream.rows.types.numbers import numeric_out
from walstream.rows.varlena import payload, stored_length

_U32 = Struct("<I")

COUNT_MASK = 0x0FFFFFFF
FSCALAR, FOBJECT, FARRAY = 0x10000000, 0x20000000, 0x40000000
HAS_OFFSET = 0x80000000
OFFLEN_MASK = 0x0FFFFFFF
STRING, NUMERIC, FALSE, TRUE, NULL, CONTAINER = range(6)
LITERALS = {FALSE: b"false", TRUE: b"true", NULL: b"null"}

# Deeper than any document that PostgreSQL's own parser takes with its default stack.
MAX_DEPTH = 10_000

_ESCAPED = re.compile(rb'["\\\x00-\x1f]')
_ESCAPES = {
    b'"': b'\\"',
    b"\\": b"\\\\",
    b"\b": b"\\b",
    b"\f": b"\\f",
    b"\n": b"\\n",
    b"\r": b"\\r",
    b"\t": b"\\t",
}


def _escape(found: re.Match[bytes]) -> bytes:
    char = found[0]
    return _ESCAPES.get(char) or b"\\u%04x" % ord(char)


def json_string(value: bytes) -> bytes:
    """Returns a string in double quotes (escape_json)."""
    return b'"%s"' % _ESCAPED.sub(_escape, value)


class _Container:
    """A container of ``data`` that begins at ``at``; its entries in stored order."""

    def __init__(self, data: bytes, at: int) -> None:
        header = _U32.unpack_from(data, at)[0]
        count = header & COUNT_MASK
        self.data = data
        self.is_object = bool(header & FOBJECT)
        self.is_scalar = bool(header & FSCALAR)
        self.count = count
        entries = 2 * count if self.is_object else count
        if at + 4 + 4 * entries > len(data) or not header & (FOBJECT | FARRAY):
            raise RowDamaged(f"jsonb: a container of {count} in {len(data)} bytes")
        self._entries = Struct(f"<{entries}I").unpack_from(data, at + 4)
        self._base = at + 4 + 4 * entries
        self.ends = self._add_up()

    def _add_up(self) -> list[int]:
        end = 0
        ends = []
        for entry in self._entries:
            end = entry & OFFLEN_MASK if entry & HAS_OFFSET else end + (entry & OFFLEN_MASK)
            ends.append(end)
        return ends

    def entry(self, number: int) -> tuple[int, int, int]:
        """Returns type, start and end of an entry."""
        start = self._base + (self.ends[number - 1] if number else 0)
        end = self._base + self.ends[number]
        if not self._base <= start <= end <= len(self.data):
            raise RowDamaged("jsonb: an entry beyond its container")
        return self._entries[number] >> 28 & 7, start, end


def _scalar(data: bytes, kind: int, start: int, end: int) -> bytes:
    if kind == STRING:
        return json_string(data[start:end])
    if kind == NUMERIC:
        start = (start + 3) & ~3
        return numeric_out(payload(data[start : start + stored_length(data, start, end)]))
    literal = LITERALS.get(kind)
    if literal is None:
        raise RowDamaged(f"jsonb: an entry of type {kind}")
    return literal


def jsonb_out(value: bytes) -> bytes:
    """Returns jsonb as text.

    Raises:
        RowDamaged: it is not built as PostgreSQL builds it.
    """
    # Padding is counted from the payload, which lies 4 bytes behind an aligned address.
    root = _Container(value, 0)
    out: list[bytes] = []
    stack: list[tuple[_Container, int]] = [(root, 0)]
    if not root.is_scalar:
        out.append(b"{" if root.is_object else b"[")
    while stack:
        container, number = stack.pop()
        if number == container.count:
            if not container.is_scalar:
                out.append(b"}" if container.is_object else b"]")
            continue
        if number:
            out.append(b", ")
        stack.append((container, number + 1))
        index = number
        if container.is_object:
            _kind, start, end = container.entry(number)
            out += (json_string(value[start:end]), b": ")
            index += container.count
        kind, start, end = container.entry(index)
        if kind != CONTAINER:
            out.append(_scalar(value, kind, start, end))
            continue
        if len(stack) > MAX_DEPTH:
            raise RowDamaged(f"jsonb: deeper than {MAX_DEPTH} levels")
        inner = _Container(value, (start + 3) & ~3)
        out.append(b"{" if inner.is_object else b"[")
        stack.append((inner, 0))
    return b"".join(out)
