"""The catalogs whose columns must be known beforehand: pg_attribute, which has those of all others,
and pg_database and pg_authid, which come before any database is chosen.

A column is ``name:length`` and the letter of its alignment, -1 for varlena.
"""

from __future__ import annotations

from typing import NamedTuple

from walstream.rows.heap import ALIGNMENTS, AttributeLayout, TupleLayout

PG_ATTRIBUTE_OID = 1249
PG_DATABASE_OID = 1262
PG_AUTHID_OID = 1260

_ATTRIBUTE_14 = (
    "attrelid:4i attname:64c atttypid:4i attstattarget:4i attlen:2s attnum:2s attndims:4i "
    "attcacheoff:4i atttypmod:4i attbyval:1c attalign:1c attstorage:1c attcompression:1c "
    "attnotnull:1c atthasdef:1c atthasmissing:1c attidentity:1c attgenerated:1c attisdropped:1c "
    "attislocal:1c attinhcount:4i attcollation:4i attacl:-1i attoptions:-1i attfdwoptions:-1i "
    "attmissingval:-1d"
)
_ATTRIBUTE_16 = (
    "attrelid:4i attname:64c atttypid:4i attlen:2s attnum:2s attcacheoff:4i atttypmod:4i "
    "attndims:2s attbyval:1c attalign:1c attstorage:1c attcompression:1c attnotnull:1c "
    "atthasdef:1c atthasmissing:1c attidentity:1c attgenerated:1c attisdropped:1c attislocal:1c "
    "attinhcount:2s attstattarget:2s attcollation:4i attacl:-1d attoptions:-1i attfdwoptions:-1i "
    "attmissingval:-1d"
)
_ATTRIBUTE_17 = (
    "attrelid:4i attname:64c atttypid:4i attlen:2s attnum:2s attcacheoff:4i atttypmod:4i "
    "attndims:2s attbyval:1c attalign:1c attstorage:1c attcompression:1c attnotnull:1c "
    "atthasdef:1c atthasmissing:1c attidentity:1c attgenerated:1c attisdropped:1c attislocal:1c "
    "attinhcount:2s attcollation:4i attstattarget:2s attacl:-1d attoptions:-1i attfdwoptions:-1i "
    "attmissingval:-1d"
)
_ATTRIBUTE_18 = _ATTRIBUTE_17.replace("attcacheoff:4i ", "")

_DATABASE_14 = (
    "oid:4i datname:64c datdba:4i encoding:4i datcollate:64c datctype:64c datistemplate:1c "
    "datallowconn:1c datconnlimit:4i datlastsysoid:4i datfrozenxid:4i datminmxid:4i "
    "dattablespace:4i"
)
_DATABASE_15 = (
    "oid:4i datname:64c datdba:4i encoding:4i datlocprovider:1c datistemplate:1c datallowconn:1c "
    "datconnlimit:4i datfrozenxid:4i datminmxid:4i dattablespace:4i"
)
_DATABASE_17 = _DATABASE_15.replace("datallowconn:1c", "datallowconn:1c dathasloginevt:1c")

_ATTRIBUTE = {
    14: _ATTRIBUTE_14,
    15: _ATTRIBUTE_14,
    16: _ATTRIBUTE_16,
    17: _ATTRIBUTE_17,
    18: _ATTRIBUTE_18,
}
_DATABASE = {
    14: _DATABASE_14,
    15: _DATABASE_15,
    16: _DATABASE_15,
    17: _DATABASE_17,
    18: _DATABASE_17,
}


class FixedColumns(NamedTuple):
    """Names and layout of the first columns of a catalog; what follows is not of interest."""

    names: list[str]
    layout: TupleLayout


def _columns(text: str) -> FixedColumns:
    names, layout = [], []
    for column in text.split():
        name, _, form = column.partition(":")
        names.append(name)
        layout.append(AttributeLayout(int(form[:-1]), ALIGNMENTS[form[-1]]))
    return FixedColumns(names, TupleLayout(layout))


def attribute_columns(version: int) -> FixedColumns:
    """Returns the columns of pg_attribute of a major version."""
    return _columns(_ATTRIBUTE[version])


def authid_columns() -> FixedColumns:
    """Returns the first columns of pg_authid, which are the same in all versions."""
    return _columns("oid:4i rolname:64c rolsuper:1c")


def database_columns(version: int) -> FixedColumns:
    """Returns the columns of pg_database of a major version up to dattablespace."""
    return _columns(_DATABASE[version])
