"""Records of WAL as Arrow tables: the schema, and columns turned into record batches.

Nothing is looked at record by record: the arrays of ``RecordColumns`` become Arrow buffers as they
are, names come in by dictionaries. Needs pyarrow (extra ``sql``).
"""

from __future__ import annotations

from array import array
from functools import cache

import pyarrow as pa
import pyarrow.compute as pc

from walstream.rmgr import operation_name
from walstream.rmgr.rmgrlist import rmgr_name
from walstream.wal.columns import RecordColumns

_TYPES = {"B": pa.uint8(), "H": pa.uint16(), "I": pa.uint32(), "Q": pa.uint64()}
NAMES = pa.dictionary(pa.int16(), pa.string())

BLOCK = pa.struct(
    [
        ("id", pa.uint8()),
        ("spc", pa.uint32()),
        ("db", pa.uint32()),
        ("rel", pa.uint32()),
        ("fork", pa.uint8()),
        ("block", pa.uint32()),
        ("flags", pa.uint8()),
        ("data_length", pa.uint16()),
        ("image", pa.uint8()),
        ("image_length", pa.uint16()),
        ("hole_offset", pa.uint16()),
        ("hole_length", pa.uint16()),
    ]
)

RECORDS = pa.schema(
    [
        ("start_lsn", pa.uint64()),
        ("end_lsn", pa.uint64()),
        ("prev_lsn", pa.uint64()),
        ("xid", pa.uint32()),
        ("rmgr", NAMES),
        ("operation", NAMES),
        ("rmgr_id", pa.uint8()),
        ("info", pa.uint8()),
        ("total_length", pa.uint32()),
        ("fpi_length", pa.uint32()),
        ("main_length", pa.uint32()),
        ("blocks", pa.list_(BLOCK)),
    ]
)
# How Parquet keeps them. LSNs ascend: as differences they take a seventh of the room, and of the
# time, that a dictionary takes. Dictionaries are for names alone; the others are small numbers.
PARQUET = {
    "compression": "zstd",
    "compression_level": 1,
    "use_dictionary": ["rmgr", "operation"],
    "column_encoding": dict.fromkeys(("start_lsn", "end_lsn", "prev_lsn"), "DELTA_BINARY_PACKED"),
}


def column(values: array[int]) -> pa.Array:
    """Returns an array as Arrow sees it, in place."""
    kind = _TYPES[values.typecode]
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])


@cache
def rmgr_names() -> pa.Array:
    return pa.array([rmgr_name(i) for i in range(256)], pa.string())


@cache
def operation_names(version: int) -> pa.Array:
    """Returns the names of all (resource manager, ``info >> 4``) of a version."""
    return pa.array(
        [operation_name(version, i >> 4, (i & 15) << 4) for i in range(4096)], pa.string()
    )


def block_column(columns: RecordColumns) -> pa.Array:
    """Returns the lists of block references."""
    kinds = (
        columns.block_id, columns.spc, columns.db, columns.rel, columns.fork, columns.block,
        columns.flags, columns.data_length, columns.image, columns.image_length,
        columns.hole_offset, columns.hole_length,
    )  # fmt: skip
    values = pa.StructArray.from_arrays([column(kind) for kind in kinds], fields=list(BLOCK))
    begins = pc.cast(column(columns.block_begin), pa.int32())
    offsets = pa.concat_arrays([begins, pa.array([columns.block_count], pa.int32())])
    return pa.ListArray.from_arrays(offsets, values)


def record_batch(columns: RecordColumns, version: int) -> pa.RecordBatch:
    """Returns columns by the schema RECORDS."""
    rmgr = column(columns.rmgr)
    info = column(columns.info)
    rmgr_index = pc.cast(rmgr, pa.int16())
    # Scalars of the same types, or all would be done in 64 bits.
    operation = pc.add(
        pc.multiply(rmgr_index, pa.scalar(16, pa.int16())),
        pc.cast(pc.shift_right(info, pa.scalar(4, pa.uint8())), pa.int16()),
    )
    return pa.RecordBatch.from_arrays(
        [
            column(columns.start_lsn),
            column(columns.end_lsn),
            column(columns.prev_lsn),
            column(columns.xid),
            pa.DictionaryArray.from_arrays(rmgr_index, rmgr_names()),
            pa.DictionaryArray.from_arrays(operation, operation_names(version)),
            rmgr,
            info,
            column(columns.total_length),
            column(columns.fpi_length),
            column(columns.main_length),
            block_column(columns),
        ],
        schema=RECORDS,
    )
