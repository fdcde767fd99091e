"""Rows of one table: which relations they come from, its columns, and a scan of its pages."""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from walstream.errors import NameNotFound, NoRows, RowDamaged
from walstream.pages.service import PAGE_ERRORS, Block
from walstream.rows.catalog import HEAP_AM_OID, Attribute, Catalog, Relation
from walstream.rows.heap import TupleLayout, deform, heap_tuples
from walstream.rows.names import qualified
from walstream.rows.outputs import Output, TypeOutputs
from walstream.rows.toast import ToastReader
from walstream.rows.types.containers import array_header
from walstream.rows.varlena import is_external, payload, stored_length, toast_pointer

# What code that reads damaged bytes raises by itself; it becomes RowDamaged.
DECODING_ERRORS = (struct.error, IndexError, ValueError, OverflowError)

KINDS = {
    "r": "table",
    "p": "partitioned table",
    "m": "materialized view",
    "t": "TOAST table",
    "S": "sequence",
    "v": "view",
    "f": "foreign table",
    "i": "index",
    "I": "partitioned index",
    "c": "composite type",
}
WITH_ROWS = ("r", "m", "t", "S")

Values = list[bytes | None]
# Offset of a row -> places of its values that are kept in TOAST, and their pointers.
Outside = dict[int, list[tuple[int, bytes]]]
ChooseBlocks = Callable[[Relation], Awaitable[list[int] | None]]


class Column(NamedTuple):
    """A column of the result; ``output`` prints a payload.

    ``known`` is false for a type that only its extension can print: hexadecimal of the payload.
    """

    name: str
    type_oid: int
    typmod: int
    output: Output
    function: str
    known: bool
    not_null: bool
    generated: str
    identity: str


class Damage(NamedTuple):
    """Rows that could not be read: of a block, or one tuple of it (``offset`` counts from 1)."""

    relation: str
    block: int
    offset: int | None
    reason: str

    def __str__(self) -> str:
        place = f"block {self.block}" + (f" tuple {self.offset}" if self.offset else "")
        return f"{self.relation} {place}: {self.reason}"


class Row(NamedTuple):
    """A row; ``values`` are payloads in the order of the columns, None for NULL."""

    block: int
    offset: int
    values: Values


class _Source(NamedTuple):
    """How a column is taken from the tuples of one relation; ``at`` is -1 where it has none."""

    at: int
    varlena: bool
    missing: bytes | None


class Table:
    """A table and the columns that are wanted of it; ``open_table`` makes one."""

    def __init__(
        self, catalog: Catalog, relation: Relation, columns: list[Column], outputs: TypeOutputs
    ) -> None:
        self.catalog = catalog
        self.relation = relation
        self.columns = columns
        # The columns that are taken from tuples: those shown, then those for the filter.
        self.taken = list(columns)
        self.outputs = outputs
        self.name = qualified(catalog.schema_of(relation), relation.name, catalog.version)
        self.damaged: list[Damage] = []
        # Only rows of which this is true, given the payloads of the columns.
        self.filter: Callable[[Values], bool] | None = None
        self.filter_places: frozenset[int] = frozenset()
        self._toast = ToastReader(catalog)
        self._plans: dict[int, tuple[TupleLayout, list[_Source]]] = {}

    def parts(self) -> list[Relation]:
        """Returns the relations that hold the rows: the table, or the leaves of its partitions."""
        if self.relation.kind != "p":
            return [self.relation]
        found = []
        waiting = [self.relation.oid]
        seen = set()
        while waiting:
            oid = waiting.pop(0)
            if oid in seen:
                continue
            seen.add(oid)
            waiting += self.catalog.children.get(oid, [])
            part = self.catalog.relations.get(oid)
            if part is not None and part.kind in WITH_ROWS:
                found.append(part)
        return sorted(found, key=lambda part: part.oid)

    def sources(self, part: Relation) -> list[_Source]:
        """Returns where each wanted column stands in the tuples of a part: found by name."""
        place = {
            attribute.name: attribute
            for attribute in self.catalog.columns(part)
            if not attribute.dropped
        }
        found = []
        for column in self.taken:
            attribute = place.get(column.name)
            if attribute is None:
                raise RowDamaged(f"partition {part.name} has no column {column.name}")
            varlena = attribute.layout.length == -1
            found.append(_Source(attribute.number - 1, varlena, missing_value(attribute)))
        return found

    async def rows_of_block(self, part: Relation, block: Block) -> list[Row]:
        """Returns the visible rows of a block; what could not be read is added to ``damaged``.

        Cancellation: nothing is left behind.
        """
        name = self._part_name(part)
        if block.page is None:
            self.damaged.append(Damage(name, block.number, None, str(block.error)))
            return []
        found: list[Row] = []
        visible = self.catalog.visibility.visible
        layout, sources = self._plan(part)
        outside: Outside = {}
        try:
            for row in heap_tuples(block.page):
                if part.kind != "S" and not visible(row.xmin, row.xmax, row.infomask):
                    continue
                try:
                    stored = deform(row.data, layout)
                    values = self._values(stored, sources, outside, row.offset)
                except (RowDamaged, *DECODING_ERRORS) as error:
                    self._lost(name, block.number, row.offset, error)
                    continue
                found.append(Row(block.number, row.offset, values))
        except RowDamaged as error:
            self._lost(name, block.number, None, error)
        if not outside and self.filter is None:
            return found
        return await self._completed(name, found, outside)

    async def _completed(self, name: str, rows: list[Row], outside: Outside) -> list[Row]:
        """Returns the rows that the filter wants, with their values that are kept in TOAST.

        Such values are fetched last, for rows that are wanted only.
        """
        kept = []
        wanted = self.filter
        for row in rows:
            waiting = outside.get(row.offset, [])
            undecided = any(place in self.filter_places for place, _stored in waiting)
            try:
                if wanted is not None and not undecided and not wanted(row.values):
                    continue
                for place, stored in waiting:
                    row.values[place] = await self._toast.fetch(toast_pointer(stored))
                if wanted is not None and undecided and not wanted(row.values):
                    continue
            except (RowDamaged, *PAGE_ERRORS, *DECODING_ERRORS) as error:
                self._lost(name, row.block, row.offset, error)
                continue
            del row.values[len(self.columns) :]
            kept.append(row)
        return kept

    def _plan(self, part: Relation) -> tuple[TupleLayout, list[_Source]]:
        known = self._plans.get(part.oid)
        if known is None:
            layout = TupleLayout(one.layout for one in self.catalog.columns(part))
            known = self._plans[part.oid] = (layout, self.sources(part))
        return known

    def _part_name(self, part: Relation) -> str:
        return qualified(self.catalog.schema_of(part), part.name, self.catalog.version)

    def _lost(self, name: str, block: int, offset: int | None, error: Exception) -> None:
        self.damaged.append(Damage(name, block, offset, str(error)))

    def lost_row(self, row: Row, error: Exception) -> None:
        """Notes a row whose values could not be printed."""
        self._lost(self.name, row.block, row.offset, error)

    @staticmethod
    def _values(
        stored: Values,
        sources: Sequence[_Source],
        outside: Outside,
        offset: int,
    ) -> Values:
        values: Values = []
        count = len(stored)
        for place, (at, varlena, missing) in enumerate(sources):
            value = stored[at] if at < count else missing
            if value is None or not varlena:
                values.append(value)
            elif is_external(value):
                outside.setdefault(offset, []).append((place, value))
                values.append(None)
            else:
                values.append(payload(value))
        return values


def missing_value(attribute: Attribute) -> bytes | None:
    """Returns what rows have that are older than the column, as it would be stored.

    Raises:
        RowDamaged: attmissingval is no array of one.
    """
    if attribute.missing is None:
        return None
    try:
        header = array_header(payload(attribute.missing))
        length = attribute.layout.length
        if header.size != 1 or header.bitmap_at:
            raise RowDamaged(f"attmissingval of {attribute.name} has {header.size} elements")
        if length == -1:
            length = stored_length(header.data, header.start, len(header.data))
        return header.data[header.start : header.start + length]
    except struct.error as error:
        raise RowDamaged(f"attmissingval of {attribute.name}: {error}") from error


async def open_table(
    catalog: Catalog,
    relation: Relation,
    outputs: TypeOutputs,
    names: Sequence[str] | None = None,
    *,
    generated: bool = False,
) -> Table:
    """Returns a table with its columns: those named, else all.

    ``generated``: all includes stored generated columns, which COPY leaves out.

    Raises:
        NoRows: it has no rows, or none that WAL tells.
        NameNotFound: no column of that name.
        RowDamaged, WalstreamError: a catalog cannot be read.

    Cancellation: nothing is left behind.
    """
    check_readable(catalog, relation)
    attributes = [one for one in catalog.columns(relation) if not one.dropped]
    if names is None:
        # A virtual column has no value anywhere.
        wanted = [
            one for one in attributes if not one.generated or (generated and one.generated == "s")
        ]
    else:
        place = {attribute.name: attribute for attribute in attributes}
        wanted = []
        for name in names:
            if name not in place:
                raise NameNotFound(
                    f"{relation.name} has no column {name!r}: it has {', '.join(place)}"
                )
            if place[name].generated == "v":
                raise NoRows(f"column {name} is generated when it is read: it is not stored")
            wanted.append(place[name])
    await outputs.load([attribute.type_oid for attribute in wanted])
    columns = []
    for attribute in wanted:
        found = outputs.column(attribute.type_oid)
        columns.append(
            Column(
                attribute.name,
                attribute.type_oid,
                attribute.typmod,
                found.output,
                found.function,
                found.known,
                attribute.not_null,
                attribute.generated,
                attribute.identity,
            )
        )
    return Table(catalog, relation, columns, outputs)


def check_readable(catalog: Catalog, relation: Relation) -> None:
    """Raises NoRows, with the reason, where a relation's rows cannot be had."""
    name = qualified(catalog.schema_of(relation), relation.name, catalog.version)
    kind = KINDS.get(relation.kind, f"relation of kind {relation.kind}")
    if relation.kind not in (*WITH_ROWS, "p"):
        article = "an" if kind[0] in "aeiou" else "a"
        raise NoRows(f"{name} is {article} {kind}: it has no rows of its own")
    if relation.persistence == "u":
        raise NoRows(f"{name} is unlogged: WAL does not tell its rows")
    if relation.persistence == "t":
        raise NoRows(f"{name} is temporary: WAL does not tell its rows")
    if relation.kind in ("r", "m") and relation.access_method != HEAP_AM_OID:
        raise NoRows(f"{name} has access method {relation.access_method}: only heap can be read")


async def scan_table(
    table: Table, handle: Callable[[list[Row]], None], choose: ChooseBlocks | None = None
) -> None:
    """Gives all rows of a table to ``handle``, in the order of a sequential scan.

    ``choose`` may say which blocks are enough for the table's filter.

    Raises:
        what ``handle`` raises.
        RowDamaged, WalstreamError: a catalog contradicts itself. Pages that cannot be read are
            noted in ``table.damaged``.

    Cancellation: nothing is left behind.
    """
    for part in table.parts():
        check_readable(table.catalog, part)
        locator = table.catalog.locator(part)
        if locator is None:
            raise NoRows(f"{part.name} has no file")
        numbers = None if choose is None else await choose(part)
        async with table.catalog.pages.scan(locator, numbers) as batches:
            async for batch in batches:
                for block in batch:
                    rows = await table.rows_of_block(part, block)
                    if rows:
                        handle(rows)
