"""Records of WAL as Arrow tables with a column of descriptions. Needs pyarrow (extra ``sql``)."""

from __future__ import annotations

from array import array

import pyarrow as pa

from walstream.dump.output import Lines
from walstream.scanning.arrow import RECORDS, record_batch

WITH_DESCRIPTION = RECORDS.append(pa.field("description", pa.string()))


def described_batch(lines: Lines) -> pa.RecordBatch:
    """Returns records and what was written about them (schema WITH_DESCRIPTION)."""
    assert lines.batch is not None
    plain = record_batch(lines.batch.columns, lines.batch.version)
    ends = array("i", lines.ends)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(bytes(lines.text))]
    texts = pa.Array.from_buffers(pa.string(), lines.rows, buffers)
    return pa.RecordBatch.from_arrays([*plain.columns, texts], schema=WITH_DESCRIPTION)
