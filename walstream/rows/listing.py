"""What tables there are: names, kinds, sizes, columns, as of the moment."""

from __future__ import annotations

from typing import Any, NamedTuple

from walstream.rows.catalog import Attribute, Catalog, Relation
from walstream.rows.cluster import ClusterAt
from walstream.rows.names import qualified, type_name
from walstream.rows.table import KINDS
from walstream.rows.typmod import with_typmod
from walstream.wal.model import BLCKSZ, RelFileLocator
from walstream.wal.relpath import relation_file

LISTED = "rpmfS"
PERSISTENCE = {"u": "unlogged ", "t": "temporary "}
SYSTEM_SCHEMAS = ("pg_catalog", "pg_toast", "information_schema")
UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


class TableDescription(NamedTuple):
    """A table as it is listed; ``size`` is that of its main fork and its TOAST, in bytes."""

    database: str
    schema: str
    name: str
    full_name: str
    kind: str
    tuples: float
    size: int
    locator: RelFileLocator | None
    columns: list[tuple[str, str, bool]]

    @property
    def path(self) -> str:
        return "" if self.locator is None else relation_file(self.locator, 0, 0, "PG")

    @property
    def rows_text(self) -> str:
        return f"{self.tuples:.0f}"

    @property
    def size_text(self) -> str:
        size, unit = float(self.size), 0
        while size >= 10240 and unit + 1 < len(UNITS):
            size, unit = size / 1024, unit + 1
        return f"{size:.0f} {UNITS[unit]}"

    def column_lines(self) -> list[str]:
        width = max((len(name) for name, _type, _not_null in self.columns), default=0)
        return [
            f"{name:{width}}  {kind}{' not null' if not_null else ''}"
            for name, kind, not_null in self.columns
        ]

    def as_json(self, verbose: bool) -> dict[str, Any]:
        found: dict[str, Any] = {
            "database": self.database,
            "schema": self.schema,
            "name": self.name,
            "kind": self.kind,
            "rows": self.tuples,
            "bytes": self.size,
            "file": self.path,
        }
        if verbose:
            found["columns"] = [
                {"name": name, "type": kind, "not_null": not_null}
                for name, kind, not_null in self.columns
            ]
        return found


def column_type(catalog: Catalog, attribute: Attribute) -> str:
    """Returns the type of a column with its modifier, such as ``numeric(10,2)``."""
    name = type_name(catalog, attribute.type_oid)
    return with_typmod(name, attribute.typmod, catalog.version)


def describe(catalog: Catalog, relation: Relation) -> TableDescription:
    """Returns a relation as it is listed."""
    schema = catalog.schema_of(relation)
    locator = catalog.locator(relation)
    blocks = 0
    toast = catalog.relations.get(relation.toast)
    for place in (locator, None if toast is None else catalog.locator(toast)):
        blocks += 0 if place is None else catalog.pages.blocks(place) or 0
    columns = [
        (one.name, column_type(catalog, one), one.not_null)
        for one in catalog.columns(relation)
        if not one.dropped
    ]
    kind = KINDS.get(relation.kind, relation.kind)
    if relation.is_partition and relation.kind == "r":
        kind = "partition"
    return TableDescription(
        catalog.database.name,
        schema,
        relation.name,
        qualified(None, catalog.database.name, catalog.version)
        + "."
        + qualified(schema, relation.name, catalog.version),
        PERSISTENCE.get(relation.persistence, "") + kind,
        relation.tuples,
        blocks * BLCKSZ,
        locator,
        columns,
    )


async def describe_tables(
    cluster: ClusterAt, database: str | None, everything: bool = False
) -> list[TableDescription]:
    """Returns the tables of a database, or of all that people work in, by name.

    ``everything``: the catalogs, TOAST tables, indexes, views and composite types too.

    Raises:
        NameNotFound: no such database.
        RowDamaged, WalstreamError: catalogs cannot be read.

    Cancellation: nothing is left behind.
    """
    found = []
    for catalog in await cluster.default_catalogs(database):
        for relation in catalog.relations.values():
            system = catalog.schema_of(relation) in SYSTEM_SCHEMAS
            if everything or (relation.kind in LISTED and not system):
                found.append(describe(catalog, relation))
    return sorted(found, key=lambda one: (one.database, one.schema, one.name))
