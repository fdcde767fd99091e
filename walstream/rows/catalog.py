"""The catalogs of one database as of an LSN, read from its own pages with the rules of any table.

pg_attribute is read by its fixed layout; it says what every other catalog looks like.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct
from typing import Any, NamedTuple

from walstream.errors import NameNotFound, RowDamaged
from walstream.rows.bootstrap import (
    PG_ATTRIBUTE_OID,
    PG_AUTHID_OID,
    PG_DATABASE_OID,
    attribute_columns,
    authid_columns,
    database_columns,
)
from walstream.rows.heap import ALIGNMENTS, AttributeLayout, TupleLayout, deform, heap_tuples
from walstream.rows.pages import RelationPages
from walstream.rows.relmap import mapped_files
from walstream.rows.varlena import is_external, payload
from walstream.rows.visibility import Visibility
from walstream.text import decode
from walstream.wal.model import RelFileLocator
from walstream.wal.relpath import GLOBAL_TABLESPACE

PG_CLASS_OID, PG_TYPE_OID, PG_NAMESPACE_OID = 1259, 1247, 2615
PG_INDEX_OID, PG_INHERITS_OID, PG_ENUM_OID, PG_RANGE_OID = 2610, 2611, 3501, 3541
# The role that initdb makes.
BOOTSTRAP_SUPERUSERID = 10
HEAP_AM_OID = 2

# Types that catalogs are made of, by oid.
BOOL, CHAR, NAME, INT8, INT2, INT4, TEXT, OID = 16, 18, 19, 20, 21, 23, 25, 26
FLOAT4, XID, NODE_TREE, INT2VECTOR, OIDVECTOR, REGPROC = 700, 28, 194, 22, 30, 24
REGPROC_TYPES = (OID, XID, REGPROC)

_I16, _I32, _U32, _F32 = Struct("<h"), Struct("<i"), Struct("<I"), Struct("<f")


def _text(stored: bytes) -> Any:
    return None if is_external(stored) else decode(payload(stored))


def _name(stored: bytes) -> str:
    return decode(stored.split(b"\0", 1)[0])


def _vector(form: str) -> Callable[[bytes], tuple[int, ...]]:
    def read(stored: bytes) -> tuple[int, ...]:
        # Behind 4 bytes of header numbers begin at 24.
        data = payload(stored)[20:]
        return Struct(f"<{len(data) // Struct(form).size}{form}").unpack(data)

    return read


# How the columns of catalogs are taken; others stay as they are stored.
READERS: dict[int, Callable[[bytes], Any]] = {
    BOOL: lambda stored: stored != b"\0",
    CHAR: lambda stored: "" if stored == b"\0" else chr(stored[0]),
    NAME: _name,
    INT2: lambda stored: _I16.unpack(stored)[0],
    INT4: lambda stored: _I32.unpack(stored)[0],
    OID: lambda stored: _U32.unpack(stored)[0],
    XID: lambda stored: _U32.unpack(stored)[0],
    REGPROC: lambda stored: _U32.unpack(stored)[0],
    FLOAT4: lambda stored: _F32.unpack(stored)[0],
    TEXT: _text,
    INT2VECTOR: _vector("h"),
    OIDVECTOR: _vector("I"),
}


class Database(NamedTuple):
    """A row of pg_database."""

    oid: int
    name: str
    encoding: int
    allows_connections: bool
    is_template: bool
    tablespace: int


class Attribute(NamedTuple):
    """A row of pg_attribute; ``number`` counts from 1.

    ``missing`` is attmissingval as it is stored: an array of the one value that rows have which
    are older than the column.
    """

    relation: int
    name: str
    type_oid: int
    number: int
    layout: AttributeLayout
    typmod: int
    not_null: bool
    identity: str
    generated: str
    dropped: bool
    missing: bytes | None


class Relation(NamedTuple):
    """A row of pg_class."""

    oid: int
    name: str
    namespace: int
    row_type: int
    access_method: int
    filenode: int
    tablespace: int
    pages: int
    tuples: float
    toast: int
    shared: bool
    persistence: str
    kind: str
    is_partition: bool


class Type(NamedTuple):
    """A row of pg_type."""

    oid: int
    name: str
    namespace: int
    length: int
    by_value: bool
    kind: str
    delimiter: str
    relation: int
    subscript: int
    element: int
    array: int
    output: int
    alignment: int
    base: int
    typmod: int


class Index(NamedTuple):
    """A row of pg_index; ``keys`` are attribute numbers, 0 for an expression."""

    oid: int
    relation: int
    key_count: int
    unique: bool
    primary: bool
    valid: bool
    ready: bool
    check_xmin: bool
    replica_identity: bool
    keys: tuple[int, ...]
    classes: tuple[int, ...]
    options: tuple[int, ...]
    partial: bool


async def read_tuples(
    pages: RelationPages,
    visibility: Visibility,
    locator: RelFileLocator,
    layout: TupleLayout,
    *,
    leading: bool = False,
) -> list[list[bytes | None]]:
    """Returns the visible tuples of a catalog, cut into attributes; ``leading`` as ``deform``.

    Raises:
        RowDamaged: a page or tuple is not what PostgreSQL writes.
        WalstreamError: a page cannot be rebuilt. Without a catalog there are no rows.

    Cancellation: nothing is left behind.
    """
    found = []
    async with pages.scan(locator) as batches:
        async for batch in batches:
            for block in batch:
                if block.page is None:
                    assert block.error is not None
                    raise block.error
                found += [
                    deform(row.data, layout, leading=leading)
                    for row in heap_tuples(block.page)
                    if visibility.visible(row.xmin, row.xmax, row.infomask)
                ]
    return found


async def read_databases(
    pages: RelationPages, visibility: Visibility, shared_map: bytes, version: int
) -> list[Database]:
    """Returns the databases of the cluster.

    Raises:
        RowDamaged, WalstreamError: see ``read_tuples``.

    Cancellation: nothing is left behind.
    """
    columns = database_columns(version)
    filenode = mapped_files(shared_map).get(PG_DATABASE_OID, PG_DATABASE_OID)
    locator = RelFileLocator(GLOBAL_TABLESPACE, 0, filenode)
    found = []
    for values in await read_tuples(pages, visibility, locator, columns.layout, leading=True):
        row = dict(zip(columns.names, values, strict=False))
        found.append(
            Database(
                _U32.unpack(_given(row, "oid"))[0],
                _name(_given(row, "datname")),
                _I32.unpack(_given(row, "encoding"))[0],
                _given(row, "datallowconn") != b"\0",
                _given(row, "datistemplate") != b"\0",
                _U32.unpack(_given(row, "dattablespace"))[0],
            )
        )
    return sorted(found, key=lambda database: database.name)


async def read_superuser(
    pages: RelationPages, visibility: Visibility, shared_map: bytes
) -> str | None:
    """Returns the name of the bootstrap superuser, None where there is no such role.

    Raises:
        RowDamaged, WalstreamError: see ``read_tuples``.

    Cancellation: nothing is left behind.
    """
    filenode = mapped_files(shared_map).get(PG_AUTHID_OID, PG_AUTHID_OID)
    locator = RelFileLocator(GLOBAL_TABLESPACE, 0, filenode)
    layout = authid_columns().layout
    for oid, name, *_ in await read_tuples(pages, visibility, locator, layout, leading=True):
        if oid is not None and name is not None and _U32.unpack(oid)[0] == BOOTSTRAP_SUPERUSERID:
            return _name(name)
    return None


def _given(row: dict[str, bytes | None], name: str) -> bytes:
    value = row.get(name)
    if value is None:
        raise RowDamaged(f"{name} of a catalog is NULL")
    return value


class Catalog:
    """The catalogs of one database at the moment of ``pages``; ``load`` makes one."""

    def __init__(
        self,
        pages: RelationPages,
        visibility: Visibility,
        database: Database,
        maps: tuple[bytes, bytes],
        version: int,
    ) -> None:
        self.pages = pages
        self.visibility = visibility
        self.database = database
        self.version = version
        shared, own = maps
        self._mapped = mapped_files(own)
        self._mapped_shared = mapped_files(shared)
        self.attributes: dict[int, list[Attribute]] = {}
        self.relations: dict[int, Relation] = {}
        self.types: dict[int, Type] = {}
        self.namespaces: dict[int, str] = {}
        self.indexes: dict[int, list[Index]] = {}
        self.children: dict[int, list[int]] = {}
        self._names: dict[tuple[str, str], Relation] = {}
        self._tables: dict[int, list[dict[str, Any]]] = {}

    # -- where relations are

    def locator(self, relation: Relation) -> RelFileLocator | None:
        """Returns the file of a relation, or None where it has none."""
        filenode = relation.filenode
        if filenode == 0:
            mapped = self._mapped_shared if relation.shared else self._mapped
            filenode = mapped.get(relation.oid, 0)
        if filenode == 0:
            return None
        spc_oid = relation.tablespace or self.database.tablespace
        db_oid = 0 if spc_oid == GLOBAL_TABLESPACE else self.database.oid
        return RelFileLocator(spc_oid, db_oid, filenode)

    # -- loading

    async def load(self) -> None:
        """Reads what every question needs.

        Raises:
            RowDamaged, WalstreamError: see ``read_tuples``.

        Cancellation: half loaded; not to be used.
        """
        await self._load_attributes()
        await self._load_relations()
        self.namespaces = {
            row["oid"]: row["nspname"]
            for row in await self.rows_of(PG_NAMESPACE_OID, ("oid", "nspname"))
        }
        for row in await self.rows_of(PG_TYPE_OID, _TYPE_COLUMNS):
            values = [row[name] for name in _TYPE_COLUMNS]
            values[_TYPE_COLUMNS.index("typalign")] = ALIGNMENTS.get(row["typalign"], 1)
            self.types[row["oid"]] = Type(*values)
        for row in await self.rows_of(PG_INDEX_OID, _INDEX_COLUMNS):
            values = [row[name] for name in _INDEX_COLUMNS]
            values[-1] = values[-1] is not None
            self.indexes.setdefault(row["indrelid"], []).append(Index(*values))
        inherits = await self.rows_of(PG_INHERITS_OID, ("inhrelid", "inhparent", "inhseqno"))
        for row in sorted(inherits, key=lambda row: row["inhrelid"]):
            self.children.setdefault(row["inhparent"], []).append(row["inhrelid"])
        for relation in self.relations.values():
            key = (self.namespaces.get(relation.namespace, ""), relation.name)
            self._names[key] = relation

    async def _load_attributes(self) -> None:
        columns = attribute_columns(self.version)
        filenode = self._mapped.get(PG_ATTRIBUTE_OID, PG_ATTRIBUTE_OID)
        locator = RelFileLocator(self.database.tablespace, self.database.oid, filenode)
        rows = await read_tuples(self.pages, self.visibility, locator, columns.layout)
        place = {name: number for number, name in enumerate(columns.names)}
        names = ("attrelid", "attname", "atttypid", "attnum", "attlen", "attalign", "atttypmod")
        flags = ("attnotnull", "attidentity", "attgenerated", "attisdropped", "atthasmissing")
        places = [place[name] for name in names + flags]
        missing_at = place["attmissingval"]
        unsigned, small, integer, char = READERS[OID], READERS[INT2], READERS[INT4], READERS[CHAR]
        for values in rows:
            row = [values[at] for at in places]
            if any(value is None for value in row):
                raise RowDamaged("a row of pg_attribute has NULL where it cannot be")
            (relation, name, type_oid, number, length, align, typmod) = row[:7]
            (not_null, identity, generated, dropped, has_missing) = row[7:]
            missing = values[missing_at] if len(values) > missing_at else None
            attribute = Attribute(
                unsigned(relation),  # type: ignore[arg-type]
                _name(name),  # type: ignore[arg-type]
                unsigned(type_oid),  # type: ignore[arg-type]
                small(number),  # type: ignore[arg-type]
                AttributeLayout(small(length), ALIGNMENTS.get(char(align), 1)),  # type: ignore[arg-type]
                integer(typmod),  # type: ignore[arg-type]
                not_null != b"\0",
                char(identity),  # type: ignore[arg-type]
                char(generated),  # type: ignore[arg-type]
                dropped != b"\0",
                missing if has_missing != b"\0" else None,
            )
            if attribute.number > 0:
                self.attributes.setdefault(attribute.relation, []).append(attribute)
        for attributes in self.attributes.values():
            attributes.sort(key=lambda attribute: attribute.number)

    async def _load_relations(self) -> None:
        # pg_class has no row yet that says where its file is: it is always mapped.
        filenode = self._mapped.get(PG_CLASS_OID, PG_CLASS_OID)
        locator = RelFileLocator(self.database.tablespace, self.database.oid, filenode)
        for row in await self._read(PG_CLASS_OID, locator, _CLASS_COLUMNS):
            relation = Relation(*(row[name] for name in _CLASS_COLUMNS))
            self.relations[relation.oid] = relation

    async def rows_of(self, oid: int, columns: Sequence[str]) -> list[dict[str, Any]]:
        """Returns columns of the visible rows of a catalog; columns it lacks are None.

        Raises:
            NameNotFound: there is no such catalog.
            RowDamaged, WalstreamError: see ``read_tuples``.

        Cancellation: nothing is left behind.
        """
        relation = self.relations.get(oid)
        locator = None if relation is None else self.locator(relation)
        if locator is None:
            raise NameNotFound(f"database {self.database.name} has no catalog with oid {oid}")
        return await self._read(oid, locator, columns)

    async def _read(
        self, oid: int, locator: RelFileLocator, columns: Sequence[str]
    ) -> list[dict[str, Any]]:
        attributes = self.attributes.get(oid, [])
        layout = TupleLayout(attribute.layout for attribute in attributes)
        place = {attribute.name: attribute for attribute in attributes}
        wanted = []
        for name in columns:
            attribute = place.get(name)
            if attribute is not None:
                reader = READERS.get(attribute.type_oid, bytes)
                wanted.append((name, attribute.number - 1, reader))
        empty = dict.fromkeys(columns)
        found = []
        for values in await read_tuples(self.pages, self.visibility, locator, layout):
            row: dict[str, Any] = dict(empty)
            for name, at, reader in wanted:
                stored = values[at] if at < len(values) else None
                row[name] = None if stored is None else reader(stored)
            found.append(row)
        return found

    # -- names

    def find(self, schema: str, name: str) -> Relation | None:
        """Returns a relation by its exact names."""
        return self._names.get((schema, name))

    def schema_of(self, relation: Relation) -> str:
        return self.namespaces.get(relation.namespace, str(relation.namespace))

    def columns(self, relation: Relation) -> list[Attribute]:
        """Returns all attributes of a relation in order, dropped ones included."""
        attributes = self.attributes.get(relation.oid, [])
        if [attribute.number for attribute in attributes] != list(range(1, len(attributes) + 1)):
            raise RowDamaged(f"the columns of {relation.name} in pg_attribute have gaps")
        return attributes


_TYPE_COLUMNS = (
    "oid",
    "typname",
    "typnamespace",
    "typlen",
    "typbyval",
    "typtype",
    "typdelim",
    "typrelid",
    "typsubscript",
    "typelem",
    "typarray",
    "typoutput",
    "typalign",
    "typbasetype",
    "typtypmod",
)
_CLASS_COLUMNS = (
    "oid",
    "relname",
    "relnamespace",
    "reltype",
    "relam",
    "relfilenode",
    "reltablespace",
    "relpages",
    "reltuples",
    "reltoastrelid",
    "relisshared",
    "relpersistence",
    "relkind",
    "relispartition",
)
_INDEX_COLUMNS = (
    "indexrelid",
    "indrelid",
    "indnkeyatts",
    "indisunique",
    "indisprimary",
    "indisvalid",
    "indisready",
    "indcheckxmin",
    "indisreplident",
    "indkey",
    "indclass",
    "indoption",
    "indpred",
)
