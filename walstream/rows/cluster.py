"""A cluster as of one LSN: its databases, their catalogs, and tables by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import tzinfo
from typing import NamedTuple

from walstream.errors import NameNotFound
from walstream.pages.service import PageService
from walstream.rows.catalog import Catalog, Database, Relation, read_databases
from walstream.rows.names import qualified
from walstream.rows.outputs import TypeOutputs
from walstream.rows.pages import RelationPages
from walstream.rows.table import Table, open_table
from walstream.rows.visibility import Transactions, Visibility
from walstream.wal.relpath import GLOBAL_TABLESPACE

_PART = re.compile(r'"((?:[^"]|"")+)"|([^".]+)')
# Where a table is looked for that is named without a schema.
DEFAULT_SCHEMAS = ("public", "pg_catalog")
NEAREST = 5


class RelationName(NamedTuple):
    """``[db.][schema.]name`` as it was written; None for what was not."""

    database: str | None
    schema: str | None
    name: str


def parse_name(text: str) -> RelationName:
    """Returns the parts of a name; double quotes protect dots, as in SQL.

    Raises:
        NameNotFound: it is not one to three names with dots between them.
    """
    parts: list[str] = []
    at = 0
    while at <= len(text):
        found = _PART.match(text, at)
        if found is None:
            break
        parts.append(found[1].replace('""', '"') if found[1] else found[2])
        at = found.end()
        if at == len(text):
            if len(parts) <= 3:
                database, schema, name = [None, None, *parts][-3:]
                assert name is not None
                return RelationName(database, schema, name)
            break
        if text[at] != ".":
            break
        at += 1
    raise NameNotFound(f"invalid name {text!r}: expected [database.][schema.]table")


class Found(NamedTuple):
    """A relation by its name, and the catalog of its database."""

    catalog: Catalog
    relation: Relation


class ClusterAt:
    """All that can be read of a cluster at ``lsn`` (all records that end at or before it)."""

    def __init__(
        self,
        service: PageService,
        lsn: int,
        transactions: Transactions,
        relation_maps: dict[tuple[int, int], bytes],
        zone: tzinfo | None = None,
    ) -> None:
        self.lsn = lsn
        self.version = service.facts.version
        self.pages = RelationPages(service, lsn)
        self.visibility = Visibility(transactions)
        self._maps = relation_maps
        self._zone = zone
        self._databases: list[Database] | None = None
        self._catalogs: dict[int, Catalog] = {}
        self._outputs: dict[int, TypeOutputs] = {}

    async def databases(self) -> list[Database]:
        """Returns the databases by name.

        Raises:
            RowDamaged, WalstreamError: pg_database cannot be read.

        Cancellation: nothing is left behind.
        """
        if self._databases is None:
            shared = self._maps.get((GLOBAL_TABLESPACE, 0), b"")
            self._databases = await read_databases(
                self.pages, self.visibility, shared, self.version
            )
        return self._databases

    async def catalog(self, name: str) -> Catalog:
        """Returns the catalog of a database.

        Raises:
            NameNotFound: no such database then.
            RowDamaged, WalstreamError: its catalogs cannot be read.

        Cancellation: nothing is left behind.
        """
        databases = await self.databases()
        database = next((one for one in databases if one.name == name), None)
        if database is None:
            names = ", ".join(one.name for one in databases)
            raise NameNotFound(f"there is no database {name!r}: there are {names}")
        return await self._load(database)

    async def _load(self, database: Database) -> Catalog:
        known = self._catalogs.get(database.oid)
        if known is not None:
            return known
        own = self._maps.get((database.tablespace, database.oid))
        if own is None:
            raise NameNotFound(f"database {database.name} has no relation map")
        maps = (self._maps.get((GLOBAL_TABLESPACE, 0), b""), own)
        catalog = Catalog(self.pages, self.visibility, database, maps, self.version)
        await catalog.load()
        self._catalogs[database.oid] = catalog
        return catalog

    async def default_catalogs(self, name: str | None) -> list[Catalog]:
        """Returns the catalog of the database of that name, or of all that people work in.

        Raises:
            NameNotFound, RowDamaged, WalstreamError: see ``catalog``.

        Cancellation: nothing is left behind.
        """
        if name is not None:
            return [await self.catalog(name)]
        databases = await self.databases()
        return [
            await self._load(one)
            for one in databases
            if one.allows_connections and not one.is_template
        ]

    async def find(self, text: str, database: str | None = None) -> Found:
        """Returns the relation of a name: exact, else in lower case as SQL would take it.

        Without a database all of them are looked through.

        Raises:
            NameNotFound: none, or several databases have it.
            RowDamaged, WalstreamError: catalogs cannot be read.

        Cancellation: nothing is left behind.
        """
        asked = parse_name(text)
        catalogs = await self.default_catalogs(asked.database or database)
        for lowered in (False, True):
            name = asked.name.lower() if lowered else asked.name
            schemas: Sequence[str] = DEFAULT_SCHEMAS
            if asked.schema is not None:
                schemas = (asked.schema.lower() if lowered else asked.schema,)
            found: list[Found] = []
            for catalog in catalogs:
                relation = next(
                    (one for schema in schemas if (one := catalog.find(schema, name))), None
                )
                if relation is not None:
                    found.append(Found(catalog, relation))
            # The catalogs themselves are in every database, and mostly the same.
            if len(found) > 1 and asked.database is None:
                names = ", ".join(one.catalog.database.name for one in found)
                raise NameNotFound(
                    f"{text} is in several databases: {names}: put one in front, or use --db"
                )
            if found:
                return found[0]
        raise NameNotFound(self._not_found(text, asked.name, catalogs))

    def _not_found(self, text: str, name: str, catalogs: Sequence[Catalog]) -> str:
        import difflib

        names = {
            qualified(catalog.schema_of(one), one.name, self.version): one.name
            for catalog in catalogs
            for one in catalog.relations.values()
            if one.kind in "rpm" and catalog.schema_of(one) not in ("pg_catalog", "pg_toast")
        }
        near = difflib.get_close_matches(name, set(names.values()), NEAREST, 0.7)
        shown = sorted(full for full, one in names.items() if one in near)
        hint = f": did you mean {', '.join(shown[:NEAREST])}?" if shown else ""
        places = ", ".join(catalog.database.name for catalog in catalogs)
        return f"there is no {text} at that moment in {places or 'any database'}{hint}"

    def outputs(self, catalog: Catalog) -> TypeOutputs:
        """Returns the output functions of a catalog's types."""
        oid = catalog.database.oid
        if oid not in self._outputs:
            self._outputs[oid] = TypeOutputs(catalog, self._zone)
        return self._outputs[oid]

    async def table(
        self,
        text: str,
        database: str | None = None,
        columns: Sequence[str] | None = None,
        *,
        generated: bool = False,
    ) -> Table:
        """Returns a table by name; see ``open_table``.

        Raises:
            NameNotFound, NoRows, RowDamaged, WalstreamError: see ``find`` and ``open_table``.

        Cancellation: nothing is left behind.
        """
        found = await self.find(text, database)
        outputs = self.outputs(found.catalog)
        return await open_table(
            found.catalog, found.relation, outputs, columns, generated=generated
        )
