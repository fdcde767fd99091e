"""WAL as tables: ``walstream.scan(path)`` gives Arrow, Polars and DuckDB what ``scan.py`` reads.

Tables: ``records`` (one row a record), ``blocks`` (one a block reference), ``commits`` (one a
commit or abort). Batches are made while they are asked for; conditions on ``start_lsn`` and
``end_lsn`` keep segments that cannot match from being read. Needs pyarrow (extra ``sql``).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from walstream.errors import WalstreamError
from walstream.scanning.arrow import (
    NAMES,
    RECORDS,
    column,
    record_batch,
)
from walstream.scanning.ending import EndKind, raise_ending
from walstream.scanning.opening import open_wal
from walstream.scanning.output import Batch, Piece
from walstream.scanning.range_scan import RangeScan, default_threads
from walstream.scanning.wal_range import stored
from walstream.wal.layout import BKPBLOCK_WILL_INIT, COMPRESSION_NAMES
from walstream.wal.model import FORK_NAMES, POSTGRES_EPOCH_US
from walstream.wal.opcodes import (
    XLOG_XACT_ABORT,
    XLOG_XACT_ABORT_PREPARED,
    XLOG_XACT_COMMIT,
    XLOG_XACT_COMMIT_PREPARED,
    XLOG_XACT_OPMASK,
)

if TYPE_CHECKING:
    import duckdb
    import polars

    from walstream.wal.scan import WalScanner

TABLES = ("records", "blocks", "commits")
_ENDS = {
    XLOG_XACT_COMMIT: "commit",
    XLOG_XACT_ABORT: "abort",
    XLOG_XACT_COMMIT_PREPARED: "commit prepared",
    XLOG_XACT_ABORT_PREPARED: "abort prepared",
}

RECORD_SCHEMA = pa.schema(
    [field for field in RECORDS if field.name != "blocks"] + [pa.field("block_count", pa.uint8())]
)
BLOCK_SCHEMA = pa.schema(
    [
        ("start_lsn", pa.uint64()),
        ("end_lsn", pa.uint64()),
        ("xid", pa.uint32()),
        ("rmgr", NAMES),
        ("operation", NAMES),
        ("block_id", pa.uint8()),
        ("spc", pa.uint32()),
        ("db", pa.uint32()),
        ("rel", pa.uint32()),
        ("fork", NAMES),
        ("block", pa.uint32()),
        ("will_init", pa.bool_()),
        ("data_length", pa.uint16()),
        ("image_length", pa.uint16()),
        ("hole_length", pa.uint16()),
        ("compression", NAMES),
        ("apply_image", pa.bool_()),
    ]
)
COMMIT_SCHEMA = pa.schema(
    [
        ("start_lsn", pa.uint64()),
        ("end_lsn", pa.uint64()),
        ("xid", pa.uint32()),
        ("kind", pa.string()),
        ("time", pa.timestamp("us", "UTC")),
    ]
)
SCHEMAS = {"records": RECORD_SCHEMA, "blocks": BLOCK_SCHEMA, "commits": COMMIT_SCHEMA}


def records_of(batch: Batch) -> pa.RecordBatch:
    """Returns the records of a batch by RECORD_SCHEMA."""
    whole = record_batch(batch.columns, batch.version)
    arrays = [whole.column(field.name) for field in RECORDS if field.name != "blocks"]
    arrays.append(column(batch.columns.blocks))
    return pa.RecordBatch.from_arrays(arrays, schema=RECORD_SCHEMA)


def blocks_of(batch: Batch) -> pa.RecordBatch:
    """Returns the block references of a batch by BLOCK_SCHEMA."""
    columns = batch.columns
    records = record_batch(columns, batch.version)
    of_record = column(columns.block_record)
    image = column(columns.image)
    flags = column(columns.flags)
    forks = pc.min_element_wise(column(columns.fork), pa.scalar(3, pa.uint8()))
    arrays = [records.column(name).take(of_record) for name in BLOCK_SCHEMA.names[:5]]
    arrays += [
        column(columns.block_id),
        column(columns.spc),
        column(columns.db),
        column(columns.rel),
        pa.DictionaryArray.from_arrays(pc.cast(forks, pa.int16()), pa.array(list(FORK_NAMES))),
        column(columns.block),
        pc.not_equal(pc.bit_wise_and(flags, pa.scalar(BKPBLOCK_WILL_INIT, pa.uint8())), 0),
        column(columns.data_length),
        column(columns.image_length),
        column(columns.hole_length),
        pa.DictionaryArray.from_arrays(
            pc.cast(pc.shift_right(image, pa.scalar(4, pa.uint8())), pa.int16()),
            pa.array(COMPRESSION_NAMES),
        ),
        pc.not_equal(pc.bit_wise_and(image, pa.scalar(2, pa.uint8())), 0),
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=BLOCK_SCHEMA)


def commits_of(batch: Batch) -> pa.RecordBatch:
    """Returns the ends of transactions in a batch by COMMIT_SCHEMA."""
    columns, piece = batch.columns, batch.piece
    found: list[list[Any]] = [[], [], [], [], []]
    rmgrs = columns.rmgr.tobytes()
    row = rmgrs.find(1)
    while row >= 0:
        kind = _ENDS.get(columns.info[row] & XLOG_XACT_OPMASK)
        if kind is not None and columns.main_length[row] >= 8:
            at = columns.main_at[row]
            data = piece[at : at + 8] if at >= 0 else columns.side[~at : ~at + 8]
            time_us = int.from_bytes(data, "little", signed=True) + POSTGRES_EPOCH_US
            values = (columns.start_lsn[row], columns.end_lsn[row], columns.xid[row], kind, time_us)
            for cells, value in zip(found, values, strict=True):
                cells.append(value)
        row = rmgrs.find(1, row + 1)
    arrays = [
        pa.array(cells, field.type) for cells, field in zip(found, COMMIT_SCHEMA, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=COMMIT_SCHEMA)


_MAKE = {"records": records_of, "blocks": blocks_of, "commits": commits_of}


class TableOutput:
    """The records as batches of one table, made where they are read."""

    keep_records = detached = sums = False

    def __init__(self, make: Callable[[Batch], pa.RecordBatch]) -> None:
        self._make = make

    def poll(self, scanner: WalScanner, piece: Piece) -> Iterator[pa.RecordBatch]:
        while (columns := scanner.poll_columns()) is not None:
            made = self._make(Batch(columns, columns.count, piece, scanner.version))
            if made.num_rows:
                yield made

    def rest(self) -> Iterator[pa.RecordBatch]:
        return iter(())


class WalScan:
    """WAL of a store, a data directory, a directory of segments or a tar archive, as tables.

    Records that start in ``[start_lsn, end_lsn)``, of ``timeline`` (None: the newest), read by
    ``threads`` (None: all CPUs). Nothing is read before a table is asked for, and each time again.
    """

    def __init__(
        self,
        path: str | Path,
        start_lsn: int = 0,
        end_lsn: int | None = None,
        *,
        timeline: int | None = None,
        threads: int | None = None,
    ) -> None:
        self.path = Path(path)
        self.start_lsn = start_lsn
        self.end_lsn = end_lsn
        self.timeline = timeline
        self.threads = threads or default_threads()
        # What the last pass ended with, for those who read by way of others' errors.
        self.failure: WalstreamError | None = None

    def batches(
        self, table: str = "records", start_lsn: int = 0, end_lsn: int | None = None
    ) -> Generator[pa.RecordBatch, None, None]:
        """Yields a table in batches of up to 8192 records, in the order of WAL.

        Raises:
            WalError: the WAL is damaged.
            StorageError: a file cannot be read, or there is none.
        """
        low = max(self.start_lsn, start_lsn)
        limits = [limit for limit in (self.end_lsn, end_lsn) if limit is not None]
        high = min(limits) if limits else None
        if high is not None and high <= low:
            return

        source = open_wal(self.path, self.timeline)
        try:
            scan = RangeScan(
                source,
                lambda _detached: TableOutput(_MAKE[table]),
                stored(source, low, high),
                threads=self.threads,
                beyond=True,
            )
            with contextlib.closing(scan.items()) as batches:
                yield from batches
            if scan.ending is not None and scan.ending.kind is not EndKind.TRUNCATED:
                raise_ending(scan.ending)
        except WalstreamError as error:
            self.failure = error
            raise
        finally:
            source.close()

    def reader(
        self, table: str = "records", start_lsn: int = 0, end_lsn: int | None = None
    ) -> pa.RecordBatchReader:
        """Returns a table as a stream of Arrow batches; read while it is consumed."""
        return pa.RecordBatchReader.from_batches(
            SCHEMAS[table], self.batches(table, start_lsn, end_lsn)
        )

    def to_arrow(self, table: str = "records") -> pa.Table:
        """Returns a table whole, in memory."""
        return self.reader(table).read_all()

    def to_polars(self, table: str = "records") -> polars.DataFrame:
        """Returns a table as a Polars DataFrame. Needs polars (extra ``polars``)."""
        import polars

        frame = polars.from_arrow(self.to_arrow(table))
        assert isinstance(frame, polars.DataFrame)
        return frame

    def to_dataset(self, table: str = "records") -> WalDataset:
        """Returns a table as an Arrow dataset that reads only what a filter on LSNs leaves."""
        return WalDataset(self, table)

    def to_duckdb(self) -> duckdb.DuckDBPyConnection:
        """Returns a DuckDB connection with the views ``records``, ``blocks`` and ``commits``.

        Macros: ``lsn('0/16B3748')`` is the number, ``lsn_text(n)`` the text.
        """
        import duckdb

        connection = duckdb.connect()
        for table in TABLES:
            connection.register(table, self.to_dataset(table))
        connection.execute(
            "CREATE MACRO lsn(t) AS ('0x' || split_part(t, '/', 1))::UBIGINT * 4294967296"
            " + ('0x' || split_part(t, '/', 2))::UBIGINT"
        )
        connection.execute(
            "CREATE MACRO lsn_text(n) AS printf('%X/%X', (n >> 32)::BIGINT, "
            "(n & 4294967295)::BIGINT)"
        )
        return connection


def scan(
    path: str | Path,
    start_lsn: int = 0,
    end_lsn: int | None = None,
    *,
    timeline: int | None = None,
    threads: int | None = None,
) -> WalScan:
    """Returns the WAL of ``path`` as tables: ``to_arrow()``, ``to_polars()``, ``to_duckdb()``.

    ``path`` is a store, a data directory, a directory of segments or a tar archive; records that
    start in ``[start_lsn, end_lsn)`` count. ``threads`` read segments (all CPUs).
    """
    return WalScan(path, start_lsn, end_lsn, timeline=timeline, threads=threads)


_BOUND = re.compile(r"\(?(start_lsn|end_lsn) (>=|>|<=|<|==) (\d+)")


def lsn_bounds(condition: str) -> tuple[int, int | None]:
    """Returns what of WAL can match an Arrow filter, from its text: ``[start, end)``.

    Only bounds that are joined by ``and`` count; anything else reads everything. The filter is
    applied all the same, so that a bound left out costs time and nothing else.
    """
    low, high = 0, None
    if re.search(r"\b(or|invert|not|is_in|if_else|case_when|coalesce)\b", condition):
        return low, high
    for name, operator, text in _BOUND.findall(condition):
        value = int(text)
        if operator in (">=", ">", "==") and name == "start_lsn":
            low = max(low, value)
        if operator in ("<=", "<", "=="):
            # A record that ends there starts before.
            high = value + 1 if high is None else min(high, value + 1)
    return low, high


class WalTableScanner:
    """One pass over a table, with columns and a filter, as ``pyarrow.dataset.Scanner``.

    Arrow's own would read ahead in threads that outlive a reader which is dropped early, and that
    the end of the interpreter runs into. Here every batch is made when it is asked for.
    """

    def __init__(
        self,
        scan: WalScan,
        table: str,
        columns: Sequence[str] | None,
        condition: ds.Expression | None,
    ) -> None:
        self._scan = scan
        self._table = table
        self._columns = SCHEMAS[table].names if columns is None else list(columns)
        self._condition = condition

    @property
    def dataset_schema(self) -> pa.Schema:
        return SCHEMAS[self._table]

    @property
    def projected_schema(self) -> pa.Schema:
        schema = SCHEMAS[self._table]
        return pa.schema([schema.field(name) for name in self._columns])

    def to_batches(self) -> Generator[pa.RecordBatch, None, None]:
        condition = self._condition
        low, high = lsn_bounds(str(condition)) if condition is not None else (0, None)
        with contextlib.closing(self._scan.batches(self._table, low, high)) as batches:
            for batch in batches:
                if condition is None:
                    yield batch.select(self._columns)
                    continue
                found = pa.Table.from_batches([batch]).filter(condition).select(self._columns)
                yield from found.to_batches()

    def to_reader(self) -> pa.RecordBatchReader:
        return pa.RecordBatchReader.from_batches(self.projected_schema, self.to_batches())

    def to_table(self) -> pa.Table:
        return self.to_reader().read_all()

    def head(self, num_rows: int) -> pa.Table:
        found = []
        with contextlib.closing(self.to_batches()) as batches:
            for batch in batches:
                found.append(batch.slice(0, num_rows))
                num_rows -= found[-1].num_rows
                if num_rows <= 0:
                    break
        return pa.Table.from_batches(found, self.projected_schema)

    def count_rows(self) -> int:
        return sum(batch.num_rows for batch in self.to_batches())


class WalDataset(ds.Dataset):  # type: ignore[misc]
    """One table as an Arrow dataset: what DuckDB and others scan with columns and a filter."""

    def __init__(self, scan: WalScan, table: str) -> None:
        # The base class has no constructor of its own; only ``schema`` and ``scanner`` are used.
        self._scan = scan
        self._table = table

    @property
    def schema(self) -> pa.Schema:
        return SCHEMAS[self._table]

    def scanner(  # type: ignore[override, unused-ignore]
        self,
        columns: Sequence[str] | None = None,
        filter: ds.Expression | None = None,
        **_options: Any,
    ) -> WalTableScanner:
        return WalTableScanner(self._scan, self._table, columns, filter)

    # What the base class would do with a dataset of its own making.
    def filter(self, expression: ds.Expression) -> WalDataset:
        raise NotImplementedError("give the filter to scanner() or to_table()")

    def get_fragments(self, filter: ds.Expression | None = None) -> Iterator[Any]:
        raise NotImplementedError("WAL has no fragments")

    def replace_schema(self, schema: pa.Schema) -> None:
        raise NotImplementedError("the schema of WAL is fixed")
