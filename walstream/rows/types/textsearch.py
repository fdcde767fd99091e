"""tsvector and tsquery as text."""

from __future__ import annotations

from struct import Struct

from walstream.errors import RowDamaged

_I32, _U32, _U16 = Struct("<i"), Struct("<I"), Struct("<H")
_OPERATOR = Struct("<BbhI")
_OPERAND = Struct("<BBB1xII")

WEIGHTS = (b"", b"C", b"B", b"A")
QI_VAL, QI_OPR = 1, 2
OP_NOT, OP_AND, OP_OR, OP_PHRASE = 1, 2, 3, 4
PRIORITY = {OP_OR: 1, OP_AND: 2, OP_PHRASE: 3, OP_NOT: 4}
# More levels than the server's stack takes.
MAX_DEPTH = 5000


def _quoted(lexeme: bytes) -> bytes:
    return b"'%s'" % lexeme.replace(b"\\", b"\\\\").replace(b"'", b"''")


def tsvector_out(value: bytes) -> bytes:
    """Number of entries; entries; lexemes, each with its positions at an even place.

    An entry: bit 0 whether positions follow, 11 bits length, 20 bits place.
    """
    count = _I32.unpack_from(value)[0]
    start = 4 + 4 * count
    if count < 0 or start > len(value):
        raise RowDamaged(f"tsvector of {count} lexemes in {len(value)} bytes")
    texts = []
    for entry in Struct(f"<{count}I").unpack_from(value, 4):
        at = start + (entry >> 12)
        end = at + (entry >> 1 & 0x7FF)
        if end > len(value):
            raise RowDamaged("tsvector: a lexeme goes beyond the end")
        text = _quoted(value[at:end])
        if entry & 1:
            # Even, counted from the beginning of the lexemes.
            end += (end - start) & 1
            number = _U16.unpack_from(value, end)[0]
            positions = Struct(f"<{number}H").unpack_from(value, end + 2)
            text += b":" + b",".join(
                [b"%d%s" % (one & 0x3FFF, WEIGHTS[one >> 14]) for one in positions]
            )
        texts.append(text)
    return b" ".join(texts)


def tsquery_out(value: bytes) -> bytes:
    """Items of 12 bytes in prefix order with the right operand first, then the operands' text."""
    count = _I32.unpack_from(value)[0]
    operands = 4 + 12 * count
    if count < 0 or operands > len(value):
        raise RowDamaged(f"tsquery of {count} items in {len(value)} bytes")
    if count == 0:
        return b""
    return _Query(value, count, operands).text(0, 0, False, 0)


class _Query:
    def __init__(self, value: bytes, count: int, operands: int) -> None:
        self._value = value
        self._count = count
        self._operands = operands

    def text(self, item: int, parent_priority: int, right_of_phrase: bool, depth: int) -> bytes:
        """Returns an item with all below it (infix of tsquery.c)."""
        if not 0 <= item < self._count or depth > MAX_DEPTH:
            raise RowDamaged("tsquery: an operator without its operands")
        at = 4 + 12 * item
        kind = self._value[at]
        if kind == QI_VAL:
            return self._operand(at)
        if kind != QI_OPR:
            raise RowDamaged(f"tsquery: an item of type {kind}")
        _kind, operator, distance, left = _OPERATOR.unpack_from(self._value, at)
        priority = PRIORITY.get(operator)
        if priority is None:
            raise RowDamaged(f"tsquery: operator {operator}")
        brackets = priority < parent_priority or (operator == OP_PHRASE and right_of_phrase)
        if operator == OP_NOT:
            text = b"!" + self.text(item + 1, priority, False, depth + 1)
        else:
            right = self.text(item + 1, priority, operator == OP_PHRASE, depth + 1)
            if left == 0:
                raise RowDamaged("tsquery: an operator without its left operand")
            first = self.text(item + left, priority, False, depth + 1)
            sign = {OP_AND: b"&", OP_OR: b"|"}.get(operator)
            if sign is None:
                sign = b"<->" if distance == 1 else b"<%d>" % distance
            text = b"%s %s %s" % (first, sign, right)
        return b"( %s )" % text if brackets else text

    def _operand(self, at: int) -> bytes:
        _kind, weight, prefix, _crc, packed = _OPERAND.unpack_from(self._value, at)
        start = self._operands + (packed >> 12)
        end = start + (packed & 0xFFF)
        if end > len(self._value):
            raise RowDamaged("tsquery: an operand goes beyond the end")
        text = _quoted(self._value[start:end])
        if prefix or weight:
            text += b":" + (b"*" if prefix else b"")
            for bit, letter in ((8, b"A"), (4, b"B"), (2, b"C"), (1, b"D")):
                text += letter if weight & bit else b""
        return text
