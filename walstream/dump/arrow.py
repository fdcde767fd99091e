"""Records of WAL as Arrow tables with a column of descriptions. Needs pyarrow (extra ``sql``)."""

from __future__ import annotations

from array import array

import pyarrow as pa

from walstream.dump.text_lines import LineWriter
from walstream.scanning.arrow import RECORDS, record_batch
from walstream.scanning.output import Batch

WITH_DESCRIPTION = RECORDS.append(pa.field("description", pa.string()))


def described_batch(batch: Batch, version: int, writer: LineWriter) -> pa.RecordBatch:
    """Returns the records with a column of descriptions (schema WITH_DESCRIPTION)."""
    columns, piece = batch.columns, batch.piece
    plain = record_batch(columns, version)
    rows = array("I", range(columns.count))
    ends = array("i", bytes(4 * (len(rows) + 1)))
    writer.text.clear()
    writer.describe_rows(
        rows,
        columns.start_lsn,
        columns.record_at,
        columns.total_length,
        piece,
        columns.side,
        ends,
    )
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(writer.text.value())]
    texts = pa.Array.from_buffers(pa.string(), len(rows), buffers)
    return pa.RecordBatch.from_arrays([*plain.columns, texts], schema=WITH_DESCRIPTION)
