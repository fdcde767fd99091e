"""Declares the C structures of record bodies and takes bytes apart by them.

A layout is one line of ``name kind`` pairs, in the order of the C struct: ``"xmax xid, off u16,
infobits u8, flags u8"``. Fields sit where a C compiler on x86-64 puts them (natural alignment).
``kind[count]`` is the array at the end (a flexible array member), counted by an earlier field or,
with ``*``, reaching as far as the bytes do. ``align8`` is where a nested struct begins or ends.
Knows nothing of resource managers.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from walstream.errors import RecordError
from walstream.wal.model import RelFileLocator

Value = int | float | bool | str | bytes | RelFileLocator | tuple["Value", ...]


class Kind(NamedTuple):
    """A C type: its size, its alignment, and how ``struct`` reads it."""

    size: int
    align: int
    code: str


KINDS = {
    "u8": Kind(1, 1, "<B"),
    "i8": Kind(1, 1, "<b"),
    "bool": Kind(1, 1, "<B"),
    "u16": Kind(2, 2, "<H"),
    "u32": Kind(4, 4, "<I"),
    "i32": Kind(4, 4, "<i"),
    "xid": Kind(4, 4, "<I"),
    "oid": Kind(4, 4, "<I"),
    "block": Kind(4, 4, "<I"),
    "u64": Kind(8, 8, "<Q"),
    "i64": Kind(8, 8, "<q"),
    "lsn": Kind(8, 8, "<Q"),
    "fullxid": Kind(8, 8, "<Q"),
    "time": Kind(8, 8, "<q"),
    "f64": Kind(8, 8, "<d"),
    "locator": Kind(12, 4, "<III"),
    "tid": Kind(6, 2, "<HHH"),
    "pair": Kind(4, 2, "<HH"),
    "member": Kind(8, 4, "<II"),
    "lock": Kind(12, 4, "<III"),
    "message": Kind(16, 4, "<16s"),
    "state": Kind(8, 4, "<IB3x"),
    "blockid": Kind(4, 2, "<HH"),
    "byte": Kind(1, 1, "<B"),
    "text": Kind(0, 1, ""),
}


class Field(NamedTuple):
    """One field; ``counted_by`` is empty, the name of the field that counts, or ``*``."""

    name: str
    kind: str
    offset: int
    counted_by: str


def read_value(data: bytes, at: int, kind: str) -> Value:
    """Returns the value of ``kind`` at ``data[at]``; the caller has checked the length."""
    if kind == "text":
        end = data.find(b"\0", at)
        return data[at : end if end >= 0 else len(data)].decode("utf-8", "backslashreplace")
    values: tuple[Value, ...] = struct.unpack_from(KINDS[kind].code, data, at)
    if kind == "bool":
        return values[0] != 0
    if kind == "locator":
        return RelFileLocator(*struct.unpack_from("<III", data, at))
    if kind == "blockid":
        high, low = struct.unpack_from("<HH", data, at)
        return int(high << 16 | low)
    if kind == "tid":
        high, low, offset = struct.unpack_from("<HHH", data, at)
        return (high << 16 | low, offset)
    return values if len(values) > 1 else values[0]


class Layout:
    """The fields of a C struct; ``size`` is the end of the last fixed field."""

    def __init__(self, declaration: str = "") -> None:
        self.fields: list[Field] = []
        at = 0
        for part in filter(None, map(str.strip, declaration.split(","))):
            if part == "align8":
                at += -at % 8
                continue
            name, kind = part.split()
            kind, _, count = kind.removesuffix("]").partition("[")
            at += -at % KINDS[kind].align
            self.fields.append(Field(name, kind, at, count))
            if not count:
                at += KINDS[kind].size
        self.size = max(
            (
                field.offset + KINDS[field.kind].size
                for field in self.fields
                if not field.counted_by
            ),
            default=0,
        )

    def __getitem__(self, name: str) -> Field:
        for field in self.fields:
            if field.name == name:
                return field
        raise KeyError(name)

    def unpack(self, data: bytes) -> dict[str, Value]:
        """Returns the fields of the struct at the start of ``data``.

        Raises:
            RecordError: ``data`` is shorter than the fields say.
        """
        if len(data) < self.size:
            raise RecordError(
                f"record body too short: expected at least {self.size} bytes, got {len(data)}"
            )
        values: dict[str, Value] = {}
        for field in self.fields:
            if field.counted_by:
                values[field.name] = self._array(data, field, values)
            else:
                values[field.name] = read_value(data, field.offset, field.kind)
        return values

    def _array(self, data: bytes, field: Field, values: dict[str, Value]) -> Value:
        size = KINDS[field.kind].size
        room = max(len(data) - field.offset, 0) // size
        if field.counted_by == "*":
            count = room
        else:
            counted = values[field.counted_by]
            assert isinstance(counted, int)
            count = counted
        if not 0 <= count <= room:
            raise RecordError(
                f"record body too short: {field.name} has {count} items of {size} bytes at "
                f"{field.offset}, the body {len(data)} bytes"
            )
        if field.kind == "byte":
            return data[field.offset : field.offset + count]
        return tuple(read_value(data, field.offset + i * size, field.kind) for i in range(count))


class Cursor:
    """Reads values one after the other; running out of bytes is a ``RecordError``."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data = data
        self.at = at

    def skip(self, length: int) -> int:
        """Moves over ``length`` bytes and returns where they begin."""
        at = self.at
        if length < 0 or length > len(self.data) - at:
            raise RecordError(
                f"record body too short: expected {length} more bytes at {at}, "
                f"got {len(self.data) - at}"
            )
        self.at = at + length
        return at

    def one(self, kind: str) -> Value:
        """Returns the next value, without alignment."""
        return read_value(self.data, self.skip(KINDS[kind].size), kind)

    def integer(self, kind: str = "u32") -> int:
        value = self.one(kind)
        assert isinstance(value, int)
        return value

    def many(self, kind: str, count: int) -> tuple[Value, ...]:
        """Returns the next ``count`` values; checks the room before building them."""
        size = KINDS[kind].size
        at = self.skip(size * count)
        return tuple(read_value(self.data, at + i * size, kind) for i in range(count))

    def integers(self, kind: str, count: int) -> tuple[int, ...]:
        at = self.skip(KINDS[kind].size * count)
        code = KINDS[kind].code.removeprefix("<")
        numbers: tuple[int, ...] = struct.unpack_from(f"<{count}{code}", self.data, at)
        return numbers

    def locators(self, count: int) -> tuple[RelFileLocator, ...]:
        at = self.skip(12 * count)
        numbers = struct.unpack_from(f"<{3 * count}I", self.data, at)
        return tuple(RelFileLocator(*numbers[i : i + 3]) for i in range(0, 3 * count, 3))

    def text(self) -> str:
        """Returns the bytes up to a NUL, which is consumed, or to the end."""
        value = read_value(self.data, self.at, "text")
        end = self.data.find(b"\0", self.at)
        self.at = end + 1 if end >= 0 else len(self.data)
        assert isinstance(value, str)
        return value

    def align(self, size: int = 8) -> None:
        self.at = min(self.at + -self.at % size, len(self.data))
