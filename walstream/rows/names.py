"""Names of functions, operators, relations, types as the reg* types print them.

They depend on the search path of whoever prints; here it is pg_catalog, then public.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from struct import Struct
from typing import Any

from walstream.rows.bootstrap import PG_AUTHID_OID
from walstream.rows.catalog import Catalog
from walstream.text import encode

_U32 = Struct("<I")
_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")

PG_PROC_OID, PG_OPERATOR_OID, PG_TS_CONFIG_OID = 1255, 2617, 3602
PG_TS_DICT_OID, PG_COLLATION_OID = 3600, 3456
SEARCH_PATH = ("pg_catalog", "public")

# Words that are quoted as identifiers: every keyword that is not "unreserved".
_KEYWORDS_14 = """
    all analyse analyze and any array as asc asymmetric authorization between bigint binary bit
    boolean both case cast char character check coalesce collate collation column concurrently
    constraint create cross current_catalog current_date current_role current_schema
    current_time current_timestamp current_user dec decimal default deferrable desc distinct do
    else end except exists extract false fetch float for foreign freeze from full grant greatest
    group grouping having ilike in initially inner inout int integer intersect interval into is
    isnull join lateral leading least left like limit localtime localtimestamp national natural
    nchar none normalize not notnull null nullif numeric offset on only or order out outer
    overlaps overlay placing position precision primary real references returning right row
    select session_user setof similar smallint some substring symmetric table tablesample then
    time timestamp to trailing treat trim true union unique user using values varchar variadic
    verbose when where window with xmlattributes xmlconcat xmlelement xmlexists xmlforest
    xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable
    """
KEYWORDS = frozenset(_KEYWORDS_14.split())
KEYWORDS_16 = frozenset(
    ("json_array", "json_arrayagg", "json_object", "json_objectagg", "system_user")
)
KEYWORDS_17 = frozenset(
    (
        "json",
        "json_exists",
        "json_query",
        "json_scalar",
        "json_serialize",
        "json_table",
        "json_value",
        "merge_action",
    )
)

# format_type: the SQL names of builtin types.
SQL_TYPES = {
    16: "boolean",
    20: "bigint",
    21: "smallint",
    23: "integer",
    114: "json",
    700: "real",
    701: "double precision",
    1042: "character",
    1043: "character varying",
    1083: "time without time zone",
    1114: "timestamp without time zone",
    1184: "timestamp with time zone",
    1186: "interval",
    1266: "time with time zone",
    1560: "bit",
    1562: "bit varying",
    1700: "numeric",
}
ARRAY_OUT_OID = 751


def quote_identifier(name: str, version: int) -> str:
    """Returns a name as it must stand in SQL of a major version (quote_identifier)."""
    keyword = (
        name in KEYWORDS
        or (version >= 16 and name in KEYWORDS_16)
        or (version >= 17 and name in KEYWORDS_17)
    )
    if _PLAIN.fullmatch(name) and not keyword:
        return name
    return '"' + name.replace('"', '""') + '"'


def type_name(catalog: Catalog, oid: int) -> str:
    """Returns the name of a type (format_type_be); its number where it does not exist."""
    found = catalog.types.get(oid)
    if found is None:
        return str(oid)
    if found.element and found.output == ARRAY_OUT_OID:
        return type_name(catalog, found.element) + "[]"
    if oid in SQL_TYPES:
        return SQL_TYPES[oid]
    schema = catalog.namespaces.get(found.namespace, "")
    visible = schema in SEARCH_PATH and not any(
        other.name == found.name and catalog.namespaces.get(other.namespace) == "pg_catalog"
        for other in (catalog.types.values() if schema != "pg_catalog" else ())
    )
    return qualified(None if visible else schema, found.name, catalog.version)


def qualified(schema: str | None, name: str, version: int) -> str:
    """Returns ``schema.name`` quoted where needed; the name alone for None."""
    quoted = quote_identifier(name, version)
    return quoted if schema is None else f"{quote_identifier(schema, version)}.{quoted}"


class RegOutputs:
    """The output functions of the reg* types; ``load`` reads the catalogs that they need."""

    def __init__(self, catalog: Catalog, roles: dict[int, str]) -> None:
        self._catalog = catalog
        self._roles = roles
        self._functions: dict[int, dict[str, Any]] = {}
        self._operators: dict[int, dict[str, Any]] = {}
        self._by_name: dict[tuple[str, str], list[dict[str, Any]]] = {}
        self._named: dict[str, dict[int, tuple[str, int]]] = {}

    async def load(self) -> None:
        """Reads pg_proc, pg_operator and the other catalogs with names.

        Raises:
            RowDamaged, WalstreamError: a catalog cannot be read.

        Cancellation: half loaded; not to be used.
        """
        catalog = self._catalog
        of_functions = ("oid", "proname", "pronamespace", "proargtypes")
        for row in await catalog.rows_of(PG_PROC_OID, of_functions):
            row["schema"] = catalog.namespaces.get(row["pronamespace"], "")
            row["arguments"] = row["proargtypes"]
            self._functions[row["oid"]] = row
            self._by_name.setdefault(("function", row["proname"]), []).append(row)
        of_operators = ("oid", "oprname", "oprnamespace", "oprleft", "oprright")
        for row in await catalog.rows_of(PG_OPERATOR_OID, of_operators):
            row["schema"] = catalog.namespaces.get(row["oprnamespace"], "")
            row["arguments"] = (row["oprleft"], row["oprright"])
            self._operators[row["oid"]] = row
            self._by_name.setdefault(("operator", row["oprname"]), []).append(row)
        for function, oid, prefix in (
            ("regconfigout", PG_TS_CONFIG_OID, "cfg"),
            ("regdictionaryout", PG_TS_DICT_OID, "dict"),
            ("regcollationout", PG_COLLATION_OID, "coll"),
        ):
            names = ("oid", f"{prefix}name", f"{prefix}namespace")
            self._named[function] = {
                row["oid"]: (row[names[1]], row[names[2]])
                for row in await catalog.rows_of(oid, names)
            }
        self._named["regclassout"] = {
            oid: (relation.name, relation.namespace) for oid, relation in catalog.relations.items()
        }
        if not self._roles:
            rows = await catalog.rows_of(PG_AUTHID_OID, ("oid", "rolname"))
            self._roles.update({row["oid"]: row["rolname"] for row in rows})

    def output(self, function: str) -> Callable[[bytes], bytes] | None:
        """Returns the output function of that name, None for none of the reg* types'."""
        plain: dict[str, Callable[[int], str]] = {
            "regprocout": self._regproc,
            "regprocedureout": self._regprocedure,
            "regoperout": self._regoper,
            "regoperatorout": self._regoperator,
            "regtypeout": lambda oid: type_name(self._catalog, oid),
            "regroleout": lambda oid: self._quoted(self._roles.get(oid), oid),
            "regnamespaceout": lambda oid: self._quoted(self._catalog.namespaces.get(oid), oid),
        }
        shown = plain.get(function)
        if shown is None and function in self._named:
            objects = self._named[function]
            first: dict[str, int] = {}
            order = {schema: place for place, schema in enumerate(SEARCH_PATH)}

            def place_of(oid: int) -> int:
                schema = self._catalog.namespaces.get(objects[oid][1], "")
                return order.get(schema, len(order))

            for oid in sorted(objects, key=place_of):
                if place_of(oid) < len(order):
                    first.setdefault(objects[oid][0], oid)

            def shown(oid: int) -> str:
                if oid not in objects:
                    return str(oid)
                name, namespace = objects[oid]
                schema = self._catalog.namespaces.get(namespace, "")
                visible = first.get(name) == oid
                return qualified(None if visible else schema, name, self._catalog.version)

        if shown is None:
            return None
        of_zero = b"0" if function in ("regoperout", "regoperatorout") else b"-"
        chosen = shown

        def output(value: bytes) -> bytes:
            oid = _U32.unpack(value)[0]
            return encode(chosen(oid)) if oid else of_zero

        return output

    def _quoted(self, name: str | None, oid: int) -> str:
        return str(oid) if name is None else quote_identifier(name, self._catalog.version)

    def _candidates(self, kind: str, name: str) -> list[dict[str, Any]]:
        """Returns what the search path shows of that name; the first of each signature."""
        found: dict[tuple[int, ...], dict[str, Any]] = {}
        for schema in SEARCH_PATH:
            for row in self._by_name.get((kind, name), []):
                if row["schema"] == schema:
                    found.setdefault(tuple(row["arguments"]), row)
        return list(found.values())

    def _regproc(self, oid: int) -> str:
        row = self._functions.get(oid)
        if row is None:
            return str(oid)
        alone = self._candidates("function", row["proname"]) == [row]
        return qualified(None if alone else row["schema"], row["proname"], self._catalog.version)

    def _regprocedure(self, oid: int) -> str:
        row = self._functions.get(oid)
        if row is None:
            return str(oid)
        visible = row in self._candidates("function", row["proname"])
        name = qualified(None if visible else row["schema"], row["proname"], self._catalog.version)
        return f"{name}({','.join(type_name(self._catalog, one) for one in row['arguments'])})"

    def _operator(self, row: dict[str, Any], visible: bool) -> str:
        if visible:
            return str(row["oprname"])
        return f"{quote_identifier(row['schema'], self._catalog.version)}.{row['oprname']}"

    def _regoper(self, oid: int) -> str:
        row = self._operators.get(oid)
        if row is None:
            return str(oid)
        return self._operator(row, self._candidates("operator", row["oprname"]) == [row])

    def _regoperator(self, oid: int) -> str:
        row = self._operators.get(oid)
        if row is None:
            return str(oid)
        name = self._operator(row, row in self._candidates("operator", row["oprname"]))
        sides = [type_name(self._catalog, one) if one else "NONE" for one in row["arguments"]]
        return f"{name}({','.join(sides)})"
