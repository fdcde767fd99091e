"""Chooses the output function of a type, by pg_type as of the moment.

By pg_type.typoutput, as PostgreSQL does, not by the type's name: domains, arrays, enums, composites
and ranges come out right by themselves. A type whose output function is not known here, one of an
extension in C, comes as the hexadecimal of its payload and is marked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import tzinfo
from struct import Struct
from typing import NamedTuple

from walstream.errors import RowDamaged
from walstream.rows.acl import acl_out
from walstream.rows.bootstrap import PG_AUTHID_OID
from walstream.rows.catalog import PG_ENUM_OID, PG_RANGE_OID, Catalog, Type
from walstream.rows.names import RegOutputs
from walstream.rows.types import containers, geometry, numbers, strings, times
from walstream.rows.types.json import jsonb_out
from walstream.rows.types.jsonpath import jsonpath_out
from walstream.rows.types.textsearch import tsquery_out, tsvector_out
from walstream.text import encode

Output = Callable[[bytes], bytes]

_U32 = Struct("<I")

# Output functions that need nothing but the value, by their names in pg_proc.prosrc.
PLAIN: dict[str, Output] = {
    "bit_out": strings.bit_out,
    "boolout": numbers.bool_out,
    "box_out": geometry.box_out,
    "bpcharout": strings.text_out,
    "byteaout": strings.bytea_out,
    "cash_out": numbers.money_out,
    "cidout": numbers.uint4_out,
    "cidr_out": strings.cidr_out,
    "circle_out": geometry.circle_out,
    "cstring_out": strings.cstring_out,
    "date_out": times.date_out,
    "float4out": numbers.float4_out,
    "float8out": numbers.float8_out,
    "inet_out": strings.inet_out,
    "int2out": numbers.int2_out,
    "int2vectorout": containers.vector_out("h"),
    "int4out": numbers.int4_out,
    "int8out": numbers.int8_out,
    "json_out": strings.text_out,
    "jsonb_out": jsonb_out,
    "line_out": geometry.line_out,
    "lseg_out": geometry.lseg_out,
    "macaddr8_out": strings.macaddr_out,
    "macaddr_out": strings.macaddr_out,
    "nameout": strings.name_out,
    "numeric_out": numbers.numeric_out,
    "oidout": numbers.uint4_out,
    "oidvectorout": containers.vector_out("I"),
    "path_out": geometry.path_out,
    "pg_lsn_out": strings.pg_lsn_out,
    "pg_node_tree_out": strings.text_out,
    "pg_snapshot_out": strings.snapshot_out,
    "point_out": geometry.point_out,
    "poly_out": geometry.polygon_out,
    "textout": strings.text_out,
    "tidout": strings.tid_out,
    "time_out": times.time_out,
    "timestamp_out": times.timestamp_out,
    "timetz_out": times.timetz_out,
    "tsqueryout": tsquery_out,
    "tsvectorout": tsvector_out,
    "txid_snapshot_out": strings.snapshot_out,
    "uuid_out": strings.uuid_out,
    "varbit_out": strings.bit_out,
    "varcharout": strings.text_out,
    "xid8out": numbers.uint8_out,
    "xidout": numbers.uint4_out,
    "xml_out": strings.xml_out,
}

# pg_proc.oid of the builtin output functions; the same from 14 to 18.
BUILTIN = {
    31: "byteaout",
    33: "charout",
    35: "nameout",
    39: "int2out",
    41: "int2vectorout",
    43: "int4out",
    45: "regprocout",
    47: "textout",
    49: "tidout",
    51: "xidout",
    53: "cidout",
    55: "oidvectorout",
    118: "point_out",
    120: "lseg_out",
    122: "path_out",
    124: "box_out",
    196: "pg_node_tree_out",
    201: "float4out",
    215: "float8out",
    322: "json_out",
    348: "poly_out",
    437: "macaddr_out",
    461: "int8out",
    751: "array_out",
    887: "cash_out",
    911: "inet_out",
    1032: "aclitemout",
    1045: "bpcharout",
    1047: "varcharout",
    1085: "date_out",
    1144: "time_out",
    1151: "timestamptz_out",
    1161: "interval_out",
    1243: "boolout",
    1313: "timestamp_out",
    1351: "timetz_out",
    1427: "cidr_out",
    1451: "circle_out",
    1491: "line_out",
    1565: "bit_out",
    1580: "varbit_out",
    1702: "numeric_out",
    1799: "oidout",
    2213: "regprocedureout",
    2215: "regoperout",
    2217: "regoperatorout",
    2219: "regclassout",
    2221: "regtypeout",
    2291: "record_out",
    2293: "cstring_out",
    2297: "anyarray_out",
    2894: "xml_out",
    2940: "txid_snapshot_out",
    2953: "uuid_out",
    3230: "pg_lsn_out",
    3505: "enum_out",
    3507: "enum_out",
    3611: "tsvectorout",
    3613: "tsqueryout",
    3737: "regconfigout",
    3772: "regdictionaryout",
    3804: "jsonb_out",
    3835: "range_out",
    4003: "jsonpath_out",
    4085: "regnamespaceout",
    4092: "regroleout",
    4111: "macaddr8_out",
    4194: "regcollationout",
    4232: "multirange_out",
    5056: "pg_snapshot_out",
    5081: "xid8out",
}


class ColumnOutput(NamedTuple):
    """How a column is printed; ``known`` is false where it, or a part of it, is marked bytea."""

    output: Output
    known: bool
    function: str


class TypeOutputs:
    """The output functions of one catalog; ``load`` makes them ready."""

    def __init__(self, catalog: Catalog, zone: tzinfo | None = None) -> None:
        self._catalog = catalog
        self._zone = zone
        self._labels: dict[int, bytes] = {}
        self._subtypes: dict[int, int] = {}
        self._extension_functions: dict[int, str] = {}
        self._roles: dict[int, str] = {}
        self._reg: RegOutputs | None = None
        self._known: dict[int, ColumnOutput] = {}
        self._records: dict[int, list[containers.RecordColumn]] = {}
        self._elements: dict[int, containers.Element] = {}

    async def load(self, type_oids: Sequence[int]) -> None:
        """Reads the further catalogs that these types need.

        Raises:
            RowDamaged, WalstreamError: a catalog cannot be read.

        Cancellation: half loaded; not to be used.
        """
        catalog = self._catalog
        functions = set()
        seen: set[int] = set()
        waiting = list(type_oids)
        if not self._subtypes:
            await self._load_ranges()
        while waiting:
            oid = waiting.pop()
            found = catalog.types.get(oid)
            if oid in seen or found is None:
                continue
            seen.add(oid)
            functions.add(found.output)
            waiting += [found.element, found.base, self._subtypes.get(oid, 0)]
            if found.relation:
                waiting += [one.type_oid for one in catalog.attributes.get(found.relation, [])]
        names = {BUILTIN.get(function) for function in functions}
        if "enum_out" in names:
            rows = await catalog.rows_of(PG_ENUM_OID, ("oid", "enumlabel"))
            self._labels = {row["oid"]: encode(row["enumlabel"]) for row in rows}
        unknown = [function for function in functions if function not in BUILTIN]
        if unknown:
            rows = await catalog.rows_of(1255, ("oid", "prolang", "prosrc"))
            # Written in C inside of the server, as those of citext: language internal is 12.
            self._extension_functions = {
                row["oid"]: row["prosrc"] or "" for row in rows if row["prolang"] == 12
            }
        if "aclitemout" in names or "regroleout" in names or "anyarray_out" in names:
            rows = await catalog.rows_of(PG_AUTHID_OID, ("oid", "rolname"))
            self._roles = {row["oid"]: row["rolname"] for row in rows}
        if any(name is not None and name.startswith("reg") for name in names):
            self._reg = RegOutputs(catalog, self._roles)
            await self._reg.load()

    async def _load_ranges(self) -> None:
        columns = ("rngtypid", "rngsubtype", "rngmultitypid")
        for row in await self._catalog.rows_of(PG_RANGE_OID, columns):
            self._subtypes[row["rngtypid"]] = row["rngsubtype"]
            self._subtypes[row["rngmultitypid"]] = row["rngsubtype"]

    def column(self, type_oid: int) -> ColumnOutput:
        """Returns how values of a type are printed."""
        known = self._known.get(type_oid)
        if known is None:
            known = self._known[type_oid] = self._choose(type_oid)
        return known

    def _choose(self, type_oid: int) -> ColumnOutput:
        found = self._catalog.types.get(type_oid)
        if found is None:
            return ColumnOutput(strings.bytea_out, False, "")
        name = BUILTIN.get(found.output) or self._extension_functions.get(found.output, "")
        output = self._output(name)
        if output is None:
            return ColumnOutput(strings.bytea_out, False, name)
        # Until its parts are known a type counts as unknown: damaged catalogs may have circles.
        self._known[type_oid] = ColumnOutput(output, False, name)
        return ColumnOutput(output, all(self.column(oid).known for oid in self._parts(found)), name)

    def _parts(self, found: Type) -> list[int]:
        """Returns the types that values of a type are put together from."""
        if found.base:
            return [found.base]
        if found.relation:
            attributes = self._catalog.attributes.get(found.relation, [])
            return [one.type_oid for one in attributes if not one.dropped]
        if found.oid in self._subtypes:
            return [self._subtypes[found.oid]]
        return [found.element] if BUILTIN.get(found.output) == "array_out" else []

    def _output(self, name: str) -> Output | None:
        if name in PLAIN:
            return PLAIN[name]
        version = self._catalog.version
        if name == "charout":
            return strings.char_out_raw if version < 15 else strings.char_out
        if name == "timestamptz_out":
            return times.timestamptz_out(self._zone)
        if name == "interval_out":
            return times.interval_out(version)
        if name in ("array_out", "anyarray_out"):
            return containers.array_out(self._element)
        if name == "record_out":
            return containers.record_out(self._record)
        if name == "range_out":
            return containers.range_out(self._subtype)
        if name == "multirange_out":
            return containers.multirange_out(self._subtype)
        if name == "enum_out":
            return self._enum
        if name == "aclitemout":
            return acl_out(version, self._roles)
        if name == "jsonpath_out":
            return jsonpath_out
        return None if self._reg is None else self._reg.output(name)

    def _type(self, oid: int) -> Type:
        found = self._catalog.types.get(oid)
        if found is None:
            raise RowDamaged(f"a value names type {oid}, which does not exist")
        return found

    def _element(self, oid: int) -> containers.Element:
        element = self._elements.get(oid)
        if element is None:
            found = self._type(oid)
            element = self._elements[oid] = containers.Element(
                found.length,
                found.alignment,
                self.column(oid).output,
                encode(found.delimiter),
            )
        return element

    def _subtype(self, oid: int) -> containers.Element:
        subtype = self._subtypes.get(oid)
        if subtype is None:
            raise RowDamaged(f"a value names range type {oid}, which does not exist")
        return self._element(subtype)

    def _record(self, oid: int) -> list[containers.RecordColumn]:
        columns = self._records.get(oid)
        if columns is None:
            found = self._type(oid)
            while found.base:
                found = self._type(found.base)
            columns = self._records[oid] = [
                containers.RecordColumn(
                    attribute.layout,
                    None if attribute.dropped else self.column(attribute.type_oid).output,
                )
                for attribute in self._catalog.attributes.get(found.relation, [])
            ]
        return columns

    def _enum(self, value: bytes) -> bytes:
        label = self._labels.get(_U32.unpack(value)[0])
        if label is None:
            raise RowDamaged(f"an enum value names label {_U32.unpack(value)[0]}, which is none")
        return label
