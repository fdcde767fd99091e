"""Which blocks of a table can hold the rows that a filter wants, asked of a B-tree of that moment.

The index only narrows the blocks down: every version of a row is on the block that the index names
(updates in place, HOT, stay on it), and the filter is applied to all rows of these blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from struct import Struct
from typing import Any
from uuid import UUID

from walstream.rows.btree import BtreeSearch, Compare
from walstream.rows.catalog import Catalog, Index, Relation
from walstream.rows.outputs import BUILTIN
from walstream.rows.where import Comparison

BTREE_AM_OID = 403
INDOPTION_DESC, INDOPTION_NULLS_FIRST = 1, 2

# Types whose order in an index is that of their numbers (or bytes), by output function.
_FORMS = {"int2out": "<h", "int4out": "<i", "int8out": "<q", "oidout": "<I"}


def _reader(function: str) -> Callable[[bytes], Any] | None:
    if function == "uuid_out":
        return bytes
    form = _FORMS.get(function)
    if form is None:
        return None
    layout = Struct(form)
    return lambda stored: layout.unpack(stored)[0]


def _literal(function: str, text: str) -> Any:
    """Returns a literal as the reader gives stored keys, None where it cannot be one."""
    try:
        if function == "uuid_out":
            return UUID(text).bytes
        number = Decimal(text)
        return int(number) if number.is_finite() and number == int(number) else None
    except (InvalidOperation, ValueError):
        return None


def key_compare(read: Callable[[bytes], Any], wanted: Any, options: int) -> Compare:
    """Returns what orders the first column of index items against a key."""
    sign = -1 if options & INDOPTION_DESC else 1
    of_null = -1 if options & INDOPTION_NULLS_FIRST else 1

    def compare(keys: Sequence[bytes | None]) -> int:
        if not keys:
            return -1  # cut off: before everything
        if keys[0] is None:
            return of_null
        found = read(keys[0])
        order = (found > wanted) - (found < wanted)
        return sign * int(order)

    return compare


def _usable(catalog: Catalog, index: Index) -> bool:
    relation = catalog.relations.get(index.oid)
    return (
        relation is not None
        and relation.access_method == BTREE_AM_OID
        and index.valid
        and index.ready
        # Its HOT chains may be broken for some snapshots.
        and not index.check_xmin
        and not index.partial
    )


async def blocks_of_key(
    catalog: Catalog, part: Relation, comparisons: Sequence[Comparison]
) -> list[int] | None:
    """Returns the blocks of a table that can have the rows of a filter, None for any.

    Raises:
        RowDamaged: the index is damaged.
        WalstreamError: a page of it cannot be rebuilt.

    Cancellation: nothing is left behind.
    """
    equal = {one.name: one.literal for one in comparisons if one.operator == "="}
    columns = {one.number: one for one in catalog.columns(part)}
    for index in catalog.indexes.get(part.oid, []):
        column = columns.get(index.keys[0])
        if column is None or column.name not in equal or not _usable(catalog, index):
            continue
        kind = catalog.types.get(column.type_oid)
        function = "" if kind is None else BUILTIN.get(kind.output, "")
        read = _reader(function)
        wanted = None if read is None else _literal(function, equal[column.name])
        relation = catalog.relations[index.oid]
        locator = catalog.locator(relation)
        if read is None or wanted is None or locator is None:
            continue
        layout = [one.layout for one in catalog.columns(relation)]
        search = BtreeSearch(catalog.pages, locator, layout)
        tids = await search.find(key_compare(read, wanted, index.options[0]))
        return sorted({block for block, _offset in tids})
    return None
