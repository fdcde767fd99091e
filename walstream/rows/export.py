"""One export: a table by name, its filter, its format, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple, Protocol

from walstream.errors import NoRows, RowDamaged
from walstream.pages.service import PAGE_ERRORS
from walstream.rows.catalog import Relation
from walstream.rows.cluster import ClusterAt
from walstream.rows.formats import (
    LineWriter,
    copy_line,
    csv_line,
    insert_line,
    json_line,
)
from walstream.rows.lookup import blocks_of_key
from walstream.rows.table import DECODING_ERRORS, Damage, Row, Table, scan_table
from walstream.rows.tabular import TableWriter
from walstream.rows.where import Comparison, Filter, parse_where
from walstream.text import encode


class ExportRequest(NamedTuple):
    """What is asked for; ``columns`` None is all that COPY would write."""

    table: str
    database: str | None = None
    columns: Sequence[str] | None = None
    where: str | None = None
    format: str = "copy"
    header: bool = False


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What was written, what was lost, and what the reader should know."""

    name: str
    count: int
    damaged: list[Damage]
    notes: list[str]


class Writer(Protocol):
    """Takes rows; ``count`` is how many were written, ``notes`` what the reader should know."""

    count: int

    @property
    def notes(self) -> list[str]: ...

    def write(self, rows: Sequence[Row]) -> None: ...

    def finish(self) -> None: ...


def make_writer(table: Table, out: BinaryIO, request: ExportRequest) -> Writer:
    """Returns the writer of a format."""
    kind = request.format
    if kind == "table":
        return TableWriter(table, out)
    if kind in ("parquet", "arrow"):
        try:
            from walstream.rows.arrow import ArrowWriter
        except ImportError:
            raise NoRows(f"format {kind} needs pyarrow: pip install 'walstream[sql]'") from None

        return ArrowWriter(table, out, kind)
    if kind == "csv":
        if request.header:
            out.write(csv_line([encode(column.name) for column in table.columns]))
        return LineWriter(table, out, csv_line)
    if kind == "json":
        return LineWriter(table, out, json_line(table.columns))
    if kind == "insert":
        return LineWriter(table, out, insert_line(table))
    return LineWriter(table, out, copy_line)


async def filtered_table(
    cluster: ClusterAt, request: ExportRequest, generated: bool = True
) -> tuple[Table, list[Comparison]]:
    """Returns the table of a request with its filter, and what that compares.

    Raises:
        NameNotFound, NoRows, InvalidFilter: the request cannot be answered.
        RowDamaged, WalstreamError: the catalogs cannot be read.

    Cancellation: nothing is left behind.
    """
    name, columns = request.table, request.columns
    table = await cluster.table(name, request.database, columns, generated=generated)
    if request.where is None:
        return table, []
    comparisons = parse_where(request.where)
    shown = [column.name for column in table.columns]
    known = {one.name for one in table.catalog.columns(table.relation) if not one.dropped}
    for place, one in enumerate(comparisons):
        if one.name not in known and one.name.lower() in known:
            comparisons[place] = one._replace(name=one.name.lower())
    further = dict.fromkeys(one.name for one in comparisons if one.name not in shown)
    table = await cluster.table(name, request.database, [*shown, *further], generated=generated)
    bound = Filter(comparisons, table.columns)
    table.filter, table.filter_places = bound.passes, bound.places
    table.columns = table.columns[: len(shown)]
    return table, comparisons


async def export_rows(cluster: ClusterAt, request: ExportRequest, out: BinaryIO) -> ExportResult:
    """Writes the rows of a table to ``out``.

    Raises:
        NameNotFound, NoRows, InvalidFilter: the request cannot be answered.
        RowDamaged, WalstreamError: the catalogs cannot be read.
        OSError: from ``out``.

    Cancellation: what was written stays written.
    """
    generated = request.format not in ("copy", "csv", "insert")
    table, comparisons = await filtered_table(cluster, request, generated)
    writer = make_writer(table, out, request)
    notes = notes_on(table)

    async def choose(part: Relation) -> list[int] | None:
        try:
            return await blocks_of_key(table.catalog, part, comparisons)
        except (RowDamaged, *PAGE_ERRORS, *DECODING_ERRORS) as error:
            notes.append(f"an index of {part.name} cannot be used, so all is read: {error}")
            return None

    await scan_table(table, writer.write, choose if comparisons else None)
    writer.finish()
    return ExportResult(table.name, writer.count, table.damaged, notes + writer.notes)


def notes_on(table: Table) -> list[str]:
    """Returns what is not as one may think: columns that cannot be printed, further tables."""
    notes = [
        f"column {column.name} is of a type that only its extension can print: "
        "its bytes come in hexadecimal"
        for column in table.columns
        if not column.known
    ]
    children = table.catalog.children.get(table.relation.oid, [])
    if children and table.relation.kind == "r":
        names = [
            table.catalog.relations[oid].name for oid in children if oid in table.catalog.relations
        ]
        notes.append(
            f"rows of tables that inherit from {table.name} are not included: {', '.join(names)}"
        )
    return notes
