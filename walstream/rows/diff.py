"""What changed in a table between two moments, row by row, and the SQL that takes it back.

Rows are told apart by the primary key; without one the whole row is the key, and equal rows are
counted. Both moments are read through; the rows of the earlier one are kept in memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from walstream.errors import NoRows, RowDamaged
from walstream.rows.formats import row_texts, sql_literal
from walstream.rows.names import quote_identifier
from walstream.rows.table import Column, Damage, Row, Table, scan_table

INSERTED, DELETED, UPDATED = "inserted", "deleted", "updated"

Texts = tuple[bytes | None, ...]

# Types without an operator that tells equal values; what has them is compared as text.
WITHOUT_EQUALITY = (
    "json_out",
    "xml_out",
    "point_out",
    "line_out",
    "lseg_out",
    "box_out",
    "path_out",
    "poly_out",
    "circle_out",
    "jsonpath_out",
    "txid_snapshot_out",
    "pg_snapshot_out",
    "aclitemout",
    "record_out",
    "array_out",
)


class RowChange(NamedTuple):
    """A row that was inserted, deleted or updated; ``old`` and ``new`` are texts."""

    kind: str
    key: Texts
    old: Texts | None
    new: Texts | None


class TableDiff(NamedTuple):
    """The changes of a table. ``key`` are places in ``columns``, all of them without a primary key.

    ``damaged``: rows of either moment that could not be read; the difference is not whole then.
    """

    name: str
    version: int
    columns: list[Column]
    key: list[int]
    has_key: bool
    changes: list[RowChange]
    damaged: list[Damage]

    def changed_columns(self, change: RowChange) -> list[int]:
        """Returns the places of the columns that an update changed."""
        assert change.old is not None and change.new is not None
        return [at for at, old in enumerate(change.old) if old != change.new[at]]


def primary_key(table: Table) -> list[str]:
    """Returns the columns of a table's primary key at its moment; none without one."""
    catalog = table.catalog
    names = {one.number: one.name for one in catalog.columns(table.relation)}
    for index in catalog.indexes.get(table.relation.oid, []):
        if index.primary:
            return [names[number] for number in index.keys[: index.key_count]]
    return []


async def _texts(table: Table) -> list[Texts]:
    found: list[Texts] = []

    def take(rows: list[Row]) -> None:
        for row in rows:
            try:
                found.append(tuple(row_texts(table.columns, row)))
            except RowDamaged as error:
                table.lost_row(row, error)

    await scan_table(table, take)
    return found


async def diff_tables(before: Table, after: Table) -> TableDiff:
    """Returns what changed from one moment of a table to another; both have the same columns.

    Raises:
        NoRows: the columns differ.
        RowDamaged, WalstreamError: a catalog cannot be read.

    Cancellation: nothing is left behind.
    """
    names = [column.name for column in before.columns]
    if names != [column.name for column in after.columns]:
        raise NoRows(f"the columns of {before.name} are not the same at both moments")
    wanted = [name for name in primary_key(before) if name in primary_key(after)]
    has_key = bool(wanted) and wanted == primary_key(before)
    key = [names.index(name) for name in wanted] if has_key else list(range(len(names)))
    olds = await _texts(before)
    news = await _texts(after)
    changes = list(_keyed(olds, news, key) if has_key else _counted(olds, news))
    damaged = before.damaged + after.damaged
    version = before.catalog.version
    return TableDiff(before.name, version, before.columns, key, has_key, changes, damaged)


def _keyed(olds: Sequence[Texts], news: Sequence[Texts], key: list[int]) -> Iterator[RowChange]:
    known = {tuple(row[at] for at in key): row for row in olds}
    for row in news:
        place = tuple(row[at] for at in key)
        old = known.pop(place, None)
        if old is None:
            yield RowChange(INSERTED, place, None, row)
        elif old != row:
            yield RowChange(UPDATED, place, old, row)
    for place, row in known.items():
        yield RowChange(DELETED, place, row, None)


def _counted(olds: Sequence[Texts], news: Sequence[Texts]) -> Iterator[RowChange]:
    counts = Counter(olds)
    for row in news:
        if counts[row]:
            counts[row] -= 1
        else:
            yield RowChange(INSERTED, row, None, row)
    for row, count in counts.items():
        for _ in range(count):
            yield RowChange(DELETED, row, row, None)


class UndoWriter:
    """Makes of a difference the statements that lead back from its later to its earlier moment.

    Each has a guard: a row that was changed again since is left as it is.
    """

    def __init__(self, diff: TableDiff) -> None:
        self._diff = diff
        self._names = [quote_identifier(one.name, diff.version) for one in diff.columns]

    def statements(self) -> Iterator[str]:
        """Yields one statement a line: first what came goes, then changes, then what went comes."""
        changes = self._diff.changes
        for change in changes:
            if change.kind == INSERTED:
                yield self._delete(change)
        for change in changes:
            if change.kind == UPDATED:
                yield self._update(change)
        for change in changes:
            if change.kind == DELETED:
                yield self._insert(change)

    def _equal(self, at: int, text: bytes | None) -> str:
        column, name = self._diff.columns[at], self._names[at]
        if text is None:
            return f"{name} IS NULL"
        literal = sql_literal(column, text)
        if column.function in WITHOUT_EQUALITY:
            return f"{name}::text = {sql_literal(column._replace(function=''), text)}"
        return f"{name} = {literal}"

    def _where(self, row: Texts, further: Sequence[int]) -> str:
        places = dict.fromkeys([*self._diff.key, *further])
        return " AND ".join(self._equal(at, row[at]) for at in places)

    def _delete(self, change: RowChange) -> str:
        assert change.new is not None
        where = self._where(change.new, range(len(change.new)))
        if self._diff.has_key:
            return f"DELETE FROM {self._diff.name} WHERE {where};"
        # Of equal rows only one.
        name = self._diff.name
        return f"DELETE FROM {name} WHERE ctid = (SELECT ctid FROM {name} WHERE {where} LIMIT 1);"

    def _update(self, change: RowChange) -> str:
        assert change.old is not None and change.new is not None
        changed = self._diff.changed_columns(change)
        values = ", ".join(
            f"{self._names[at]} = {sql_literal(self._diff.columns[at], change.old[at])}"
            for at in changed
        )
        where = self._where(change.new, changed)
        return f"UPDATE {self._diff.name} SET {values} WHERE {where};"

    def _insert(self, change: RowChange) -> str:
        assert change.old is not None
        columns = self._diff.columns
        values = [sql_literal(one, text) for one, text in zip(columns, change.old, strict=True)]
        always = " OVERRIDING SYSTEM VALUE" if any(one.identity == "a" for one in columns) else ""
        conflict = ""
        if self._diff.has_key:
            key = ", ".join(self._names[at] for at in self._diff.key)
            conflict = f" ON CONFLICT ({key}) DO NOTHING"
        return (
            f"INSERT INTO {self._diff.name} ({', '.join(self._names)}){always} "
            f"VALUES ({', '.join(values)}){conflict};"
        )
