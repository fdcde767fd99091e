"""Compiles the templates of operations (op.py) into the instructions that program.py runs.

What they are is in ``instructions.py``.
"""

from __future__ import annotations

import re

from walstream.rmgr.instructions import (
    ARRAY,
    BITS,
    BLOCK_NUMBER,
    CHOICE,
    DOUBLE,
    END,
    FULLXID,
    HEX2,
    LITERAL,
    LOCATOR,
    LSN,
    NAME,
    NEEDS_DATA,
    PRUNE,
    SIGNED,
    TEXT,
    TID,
    TIME,
    UNSIGNED,
)
from walstream.rmgr.layout import KINDS, Field, Layout
from walstream.rmgr.op import BIT_NAMES, VALUE_NAMES

Instruction = tuple[int, int, int, int, int, int]

_PLACE = re.compile(r"\{([^{}]*)\}")
_EXPRESSION = re.compile(r"(?P<name>\w*)(?:&(?P<mask>\d+))?(?::(?P<how>.*))?", re.DOTALL)
_SIGNED = {"i8", "i32", "i64", "time"}
# Kinds that are several numbers: (how, place, size) of each.
_SEVERAL = {
    "tid": ((BLOCK_NUMBER, 0, 4), (UNSIGNED, 4, 2)),
    "pair": ((UNSIGNED, 0, 2), (UNSIGNED, 2, 2)),
    "member": ((UNSIGNED, 0, 4), (UNSIGNED, 4, 4)),
    "lock": ((UNSIGNED, 0, 4), (UNSIGNED, 4, 4), (UNSIGNED, 8, 4)),
    "state": ((UNSIGNED, 0, 4), (UNSIGNED, 4, 1)),
}
_BY_KIND = {
    "lsn": LSN,
    "fullxid": FULLXID,
    "locator": LOCATOR,
    "tid": TID,
    "time": TIME,
    "text": TEXT,
    "f64": DOUBLE,
}


class Pool:
    """The literal bytes of all templates, each kept once."""

    def __init__(self) -> None:
        self.data = bytearray()
        self._places: dict[bytes, int] = {}

    def add(self, text: str) -> tuple[int, int]:
        """Returns position and length of ``text``."""
        raw = text.encode()
        if raw not in self._places:
            self._places[raw] = len(self.data)
            self.data += raw
        return self._places[raw], len(raw)


def compile_template(text: str, layout: Layout, pool: Pool) -> list[Instruction]:
    """Returns the instructions for a template, END included."""
    code: list[Instruction] = []
    at = 0
    for match in _PLACE.finditer(text):
        if match.start() > at:
            code.append((LITERAL, 0, *pool.add(text[at : match.start()]), 0, 0))
        code += place(match[1], layout, pool)
        at = match.end()
    if at < len(text):
        code.append((LITERAL, 0, *pool.add(text[at:]), 0, 0))
    return [*code, (END, 0, 0, 0, 0, 0)]


def place(expression: str, layout: Layout, pool: Pool) -> list[Instruction]:
    """Returns the instructions for what stands between braces."""
    match = _EXPRESSION.fullmatch(expression)
    assert match is not None, expression
    how = match["how"] or ""
    if how == "block0":
        return [(NEEDS_DATA, 0, 0, 0, 0, 0)]
    if how == "prune":
        return [(PRUNE, 0, 0, 0, 0, 0)]
    field = layout[match["name"]]
    size = KINDS[field.kind].size
    if how == "[]":
        counter = layout[field.counted_by]
        counter_size = KINDS[counter.kind].size
        return [(ARRAY, field.offset, size, counter.offset, counter_size, 0)]
    if how == "number":
        return numbers(field, pool)
    if how == "02X":
        return [(HEX2, field.offset, 0, 0, 0, 0)]
    if "|" in how:
        yes, no = how.split("|")
        mask = int(match["mask"] or 0xFF)
        # A choice is followed by its two literals, of which one is run.
        literals: list[Instruction] = [
            (LITERAL, 0, *pool.add(yes), 0, 0),
            (LITERAL, 0, *pool.add(no), 0, 0),
        ]
        return [(CHOICE, field.offset, mask, 0, 0, 0), *literals]
    if how.startswith("@"):
        names: tuple[str, ...] = VALUE_NAMES[how[1:]]
        known: list[Instruction] = [(LITERAL, 0, *pool.add(name), 0, 0) for name in (*names, "?")]
        return [(NAME, field.offset, len(names), 0, 0, 0), *known]
    if how:
        style = how[-1]
        names = BIT_NAMES[how[:-1]]
        known = [(LITERAL, 0, *pool.add(name), 0, 0) for name in names]
        return [(BITS, field.offset, len(names), int(style == ","), 0, 0), *known]
    if field.kind in _BY_KIND:
        return [(_BY_KIND[field.kind], field.offset, 0, 0, 0, 0)]
    return [(SIGNED if field.kind in _SIGNED else UNSIGNED, field.offset, size, 0, 0, 0)]


def numbers(field: Field, pool: Pool) -> list[Instruction]:
    """Returns the instructions for a field as a plain number, or a list of numbers."""
    if field.kind == "blockid":
        return [(BLOCK_NUMBER, field.offset, 0, 0, 0, 0)]
    if field.kind not in _SEVERAL:
        what = SIGNED if field.kind in _SIGNED else UNSIGNED
        return [(what, field.offset, KINDS[field.kind].size, 0, 0, 0)]
    code: list[Instruction] = []
    for what, place, size in _SEVERAL[field.kind]:
        code.append((LITERAL, 0, *pool.add(", " if code else "["), 0, 0))
        code.append((what, field.offset + place, size, 0, 0, 0))
    return [*code, (LITERAL, 0, *pool.add("]"), 0, 0)]
