"""Heap pages: their tuples, and tuples cut into attributes (htup_details.h, heap_deform_tuple).

Works on pages that may be damaged: what does not fit raises RowDamaged, nothing is read beyond its
tuple. Knows no types: an attribute is what stands there, header included.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from struct import Struct
from typing import NamedTuple

from walstream.errors import RowDamaged
from walstream.rows.varlena import stored_length
from walstream.wal.model import BLCKSZ

PAGE_HEADER = 24
TUPLE_HEADER = 23
LP_NORMAL = 1
LAYOUT_VERSION = 4
SEQUENCE_SPECIAL = 8

HEAP_HASNULL = 0x0001
HEAP_NATTS_MASK = 0x07FF

# Alignment by the letter of attalign and typalign.
ALIGNMENTS = {"c": 1, "s": 2, "i": 4, "d": 8}

_PAGE = Struct("<QHHHHHHI")
_TUPLE = Struct("<III6xHHB")

VARLENA = -1
CSTRING = -2


class HeapTuple(NamedTuple):
    """A tuple as it stands on its page; ``data`` begins with the header."""

    offset: int
    xmin: int
    xmax: int
    infomask: int
    data: bytes


class AttributeLayout(NamedTuple):
    """How an attribute lies in a tuple: attlen (-1 varlena, -2 cstring), alignment in bytes."""

    length: int
    alignment: int


class TupleLayout:
    """How the attributes of a table lie in its tuples.

    ``prefix`` takes those of fixed length at the beginning in one go, where none is NULL;
    ``prefix_bitmap`` is what the null bitmap begins with then.
    """

    def __init__(self, attributes: Iterable[AttributeLayout]) -> None:
        self.attributes = tuple(attributes)
        form, at = "<", 0
        self.prefix_count = 0
        for length, alignment in self.attributes:
            if length <= 0:
                break
            padding = -at % alignment
            form += f"{padding}x{length}s" if padding else f"{length}s"
            at += padding + length
            self.prefix_count += 1
        self.prefix = Struct(form)
        self.prefix_bitmap = (1 << self.prefix_count) - 1


def heap_tuples(page: bytes) -> Iterator[HeapTuple]:
    """Yields the tuples of a heap page in the order of line pointers, as a sequential scan.

    Raises:
        RowDamaged: the page or a line pointer is not what PostgreSQL writes.
    """
    for number, pointer in enumerate(_pointers(page), start=1):
        if pointer >> 15 & 3 == LP_NORMAL:
            yield _tuple(page, number, pointer)
        elif pointer >> 17:
            # Unused, redirecting and dead ones of a heap have no storage.
            raise RowDamaged(f"line pointer {number}: 0x{pointer:08X}")


def heap_tuple_at(page: bytes, offset: int) -> HeapTuple | None:
    """Returns the tuple of a line pointer, or None where it leads to none.

    Raises:
        RowDamaged: see ``heap_tuples``.
    """
    pointers = _pointers(page)
    if not 1 <= offset <= len(pointers) or pointers[offset - 1] >> 15 & 3 != LP_NORMAL:
        return None
    return _tuple(page, offset, pointers[offset - 1])


def _pointers(page: bytes) -> tuple[int, ...]:
    _lsn, _checksum, _flags, lower, upper, special, size_version, _prune = _PAGE.unpack_from(page)
    if upper == 0:
        if any(page[:PAGE_HEADER]):
            raise RowDamaged("page header: pd_upper is 0 on a page that is not new")
        return ()
    if size_version != BLCKSZ | LAYOUT_VERSION:
        raise RowDamaged(f"pd_pagesize_version: expected 0x2004, got 0x{size_version:04X}")
    if not PAGE_HEADER <= lower <= upper <= special <= BLCKSZ:
        raise RowDamaged(f"page header: lower {lower}, upper {upper}, special {special}")
    # A sequence keeps its magic number there, heap pages nothing.
    if special not in (BLCKSZ, BLCKSZ - SEQUENCE_SPECIAL):
        raise RowDamaged(f"pd_special: expected {BLCKSZ} on a heap page, got {special}")
    return Struct(f"<{(lower - PAGE_HEADER) // 4}I").unpack_from(page, PAGE_HEADER)


def _tuple(page: bytes, number: int, pointer: int) -> HeapTuple:
    offset, length = pointer & 0x7FFF, pointer >> 17
    if offset % 8 or offset < PAGE_HEADER or length < TUPLE_HEADER or offset + length > BLCKSZ:
        raise RowDamaged(f"line pointer {number}: offset {offset}, length {length}")
    data = page[offset : offset + length]
    xmin, xmax, _cid, _natts, infomask, _hoff = _TUPLE.unpack_from(data)
    return HeapTuple(number, xmin, xmax, infomask, data)


def deform(data: bytes, layout: TupleLayout, *, leading: bool = False) -> list[bytes | None]:
    """Returns the attributes of a tuple, None for NULL, as far as the tuple has them.

    The list is shorter than ``layout`` where columns were added after the tuple was written.
    ``leading``: the layout is of the first attributes only.

    Raises:
        RowDamaged: an attribute does not fit.
    """
    if len(data) < TUPLE_HEADER:
        raise RowDamaged(f"a tuple of {len(data)} bytes")
    _xmin, _xmax, _cid, infomask2, infomask, at = _TUPLE.unpack_from(data)
    end = len(data)
    natts = infomask2 & HEAP_NATTS_MASK
    has_null = infomask & HEAP_HASNULL
    bitmap = (natts + 7) // 8 if has_null else 0
    if at % 8 or at < TUPLE_HEADER + bitmap or at > end:
        raise RowDamaged(f"t_hoff: expected a multiple of 8 up to {end}, got {at}")
    attributes = layout.attributes
    if natts > len(attributes) and leading:
        natts = len(attributes)
    if natts > len(attributes):
        raise RowDamaged(f"a tuple has {natts} attributes, its table {len(attributes)}")
    values: list[bytes | None] = []
    first = layout.prefix_count
    if (
        natts < first
        or at + layout.prefix.size > end
        or (
            has_null
            and ~int.from_bytes(data[TUPLE_HEADER : TUPLE_HEADER + bitmap], "little")
            & layout.prefix_bitmap
        )
    ):
        first = 0
    else:
        values += layout.prefix.unpack_from(data, at)
        at += layout.prefix.size
    for number in range(first, natts):
        if has_null and not data[TUPLE_HEADER + (number >> 3)] >> (number & 7) & 1:
            values.append(None)
            continue
        length, alignment = attributes[number]
        if length > 0:
            at = (at + alignment - 1) & -alignment
        elif length == VARLENA:
            # A byte that is not 0 begins a short header, which needs no alignment; else padding.
            if at < end and data[at] == 0:
                at = (at + alignment - 1) & -alignment
            length = stored_length(data, at, end)
        else:
            length = data.find(b"\0", at) + 1 - at
            if length <= 0:
                raise RowDamaged("a cstring without its end")
        if at + length > end:
            raise RowDamaged(f"attribute {number + 1} goes beyond the end of its tuple")
        values.append(data[at : at + length])
        at += length
    return values
