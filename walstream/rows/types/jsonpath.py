"""jsonpath as text (jsonPathToCString): a tree of nodes, each with the place of the next."""

from __future__ import annotations

from struct import Struct

from walstream.errors import RowDamaged
from walstream.rows.types.json import json_string
from walstream.rows.types.numbers import numeric_out
from walstream.rows.varlena import payload, stored_length

_I32, _U32 = Struct("<i"), Struct("<I")
_PAIR = Struct("<ii")

VERSION = 1
LAX = 0x80000000
LAST = 0xFFFFFFFF
MAX_DEPTH = 500

NULL, STRING, NUMERIC, BOOL = 0, 1, 2, 3
NOT, IS_UNKNOWN = 6, 7
PLUS, MINUS = 19, 20
ANY_ARRAY, ANY_KEY, INDEX_ARRAY, ANY, KEY, CURRENT, ROOT, VARIABLE = 21, 22, 23, 24, 25, 26, 27, 28
FILTER, EXISTS = 29, 30
LAST_ITEM, STARTS_WITH, LIKE_REGEX = 40, 41, 42
DECIMAL = 46
# Methods that may have an argument.
WITH_ARGUMENT = (37, 50, 51, 52, 53)

BINARY = {
    4: b"&&",
    5: b"||",
    8: b"==",
    9: b"!=",
    10: b"<",
    11: b">",
    12: b"<=",
    13: b">=",
    14: b"+",
    15: b"-",
    16: b"*",
    17: b"/",
    18: b"%",
    STARTS_WITH: b"starts with",
}
PRIORITIES = {5: 0, 4: 1, **dict.fromkeys((8, 9, 10, 11, 12, 13, STARTS_WITH), 2)}
PRIORITIES |= {14: 3, 15: 3, 16: 4, 17: 4, 18: 4, PLUS: 5, MINUS: 5}
METHODS = {
    31: b"type",
    32: b"size",
    33: b"abs",
    34: b"floor",
    35: b"ceiling",
    36: b"double",
    37: b"datetime",
    38: b"keyvalue",
    43: b"bigint",
    44: b"boolean",
    45: b"date",
    46: b"decimal",
    47: b"integer",
    48: b"number",
    49: b"string",
    50: b"time",
    51: b"time_tz",
    52: b"timestamp",
    53: b"timestamp_tz",
}
REGEX_FLAGS = ((0x01, b"i"), (0x02, b"s"), (0x04, b"m"), (0x08, b"x"), (0x10, b"q"))


def jsonpath_out(value: bytes) -> bytes:
    """Returns a jsonpath as text.

    Raises:
        RowDamaged: it is not built as PostgreSQL builds it.
    """
    header = _U32.unpack_from(value)[0]
    if header & ~LAX != VERSION:
        raise RowDamaged(f"jsonpath: version {header & ~LAX}")
    out: list[bytes] = [] if header & LAX else [b"strict "]
    # Padding is counted from the payload, which lies 4 bytes behind an aligned address.
    _Printer(value, out).item(4, False, True, 0)
    return b"".join(out)


class _Printer:
    """Mirrors printJsonPathItem. Places in a node count from the node's own start."""

    def __init__(self, data: bytes, out: list[bytes]) -> None:
        self._data = data
        self._out = out

    def _node(self, start: int) -> tuple[int, int, int]:
        """Returns type, place of the content and place of the next node (0 for none)."""
        if not 4 <= start < len(self._data):
            raise RowDamaged("jsonpath: a node beyond the end")
        at = (start + 4) & ~3
        following = _I32.unpack_from(self._data, at)[0]
        return self._data[start], at + 4, start + following if following else 0

    def _string(self, at: int) -> bytes:
        length = _I32.unpack_from(self._data, at)[0]
        if not 0 <= length <= len(self._data) - at - 4:
            raise RowDamaged("jsonpath: a string beyond the end")
        return json_string(self._data[at + 4 : at + 4 + length])

    def _argument(self, start: int, place: int, parent: int, depth: int) -> None:
        if place:
            below = self._data[start + place] if 0 < start + place < len(self._data) else 0
            brackets = PRIORITIES.get(below, 6) <= PRIORITIES.get(parent, 6)
            self.item(start + place, False, brackets, depth)

    def item(self, start: int, in_key: bool, brackets: bool, depth: int) -> None:
        """Prints a node and what follows it."""
        while start:
            if depth > MAX_DEPTH:
                raise RowDamaged(f"jsonpath: deeper than {MAX_DEPTH} levels")
            kind, at, following = self._node(start)
            self._print(start, kind, at, in_key, brackets, bool(following), depth + 1)
            if following and following <= start:
                raise RowDamaged("jsonpath: a node that comes again")
            start, in_key, brackets = following, True, True

    def _print(
        self,
        start: int,
        kind: int,
        at: int,
        in_key: bool,
        brackets: bool,
        has_next: bool,
        depth: int,
    ) -> None:
        out, data = self._out, self._data
        dot = b"." if in_key else b""
        if kind == NULL:
            out.append(b"null")
        elif kind == STRING:
            out.append(self._string(at))
        elif kind == KEY:
            out += (dot, self._string(at))
        elif kind == VARIABLE:
            out += (b"$", self._string(at))
        elif kind == NUMERIC:
            text = numeric_out(payload(data[at : at + stored_length(data, at, len(data))]))
            out.append(b"(%s)" % text if has_next else text)
        elif kind == BOOL:
            out.append(b"true" if data[at] else b"false")
        elif kind in BINARY or kind == LIKE_REGEX or kind in (PLUS, MINUS):
            out.append(b"(" if brackets else b"")
            self._operator(start, kind, at, depth)
            out.append(b")" if brackets else b"")
        elif kind in (FILTER, NOT, IS_UNKNOWN, EXISTS):
            opening = {FILTER: b"?(", NOT: b"!(", IS_UNKNOWN: b"(", EXISTS: b"exists ("}[kind]
            out.append(opening)
            self.item(start + _I32.unpack_from(data, at)[0], False, False, depth)
            out.append(b") is unknown" if kind == IS_UNKNOWN else b")")
        elif kind == CURRENT:
            out.append(b"@")
        elif kind == ROOT:
            out.append(b"$")
        elif kind == LAST_ITEM:
            out.append(b"last")
        elif kind == ANY_ARRAY:
            out.append(b"[*]")
        elif kind == ANY_KEY:
            out += (dot, b"*")
        elif kind == INDEX_ARRAY:
            self._subscripts(start, at, depth)
        elif kind == ANY:
            out += (dot, self._levels(at))
        elif kind in METHODS:
            out.append(b".%s(" % METHODS[kind])
            if kind == DECIMAL:
                left, right = _PAIR.unpack_from(data, at)
                if left:
                    self.item(start + left, False, False, depth)
                if right:
                    out.append(b",")
                    self.item(start + right, False, False, depth)
            elif kind in WITH_ARGUMENT and (place := _I32.unpack_from(data, at)[0]):
                self.item(start + place, False, False, depth)
            out.append(b")")
        else:
            raise RowDamaged(f"jsonpath: a node of type {kind}")

    def _operator(self, start: int, kind: int, at: int, depth: int) -> None:
        out, data = self._out, self._data
        if kind in BINARY:
            left, right = _PAIR.unpack_from(data, at)
            self._argument(start, left, kind, depth)
            out.append(b" %s " % BINARY[kind])
            self._argument(start, right, kind, depth)
        elif kind == LIKE_REGEX:
            flags, place = _PAIR.unpack_from(data, at)
            self._argument(start, place, kind, depth)
            out += (b" like_regex ", self._string(at + 8))
            if flags:
                letters = b"".join([letter for bit, letter in REGEX_FLAGS if flags & bit])
                out.append(b' flag "%s"' % letters)
        else:
            out.append(b"+" if kind == PLUS else b"-")
            self._argument(start, _I32.unpack_from(data, at)[0], kind, depth)

    def _subscripts(self, start: int, at: int, depth: int) -> None:
        out, data = self._out, self._data
        count = _I32.unpack_from(data, at)[0]
        if not 0 <= count <= (len(data) - at) // 8:
            raise RowDamaged(f"jsonpath: {count} subscripts")
        out.append(b"[")
        for number in range(count):
            first, last = _PAIR.unpack_from(data, at + 4 + 8 * number)
            out.append(b"," if number else b"")
            self.item(start + first, False, False, depth)
            if last:
                out.append(b" to ")
                self.item(start + last, False, False, depth)
        out.append(b"]")

    def _levels(self, at: int) -> bytes:
        first, last = Struct("<II").unpack_from(self._data, at)
        if first == 0 and last == LAST:
            return b"**"
        words = [b"last" if level == LAST else b"%d" % level for level in (first, last)]
        return b"**{%s}" % (words[0] if first == last else b" to ".join(words))
