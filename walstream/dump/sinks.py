"""Writes records: as pg_waldump's text, as JSON lines, as Arrow or Parquet, or as statistics.

A sink takes batches of chosen records. It is made when the first batch comes, since only then the
version of the WAL is known; what it needs is loaded then, while threads read on.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Protocol

from walstream.errors import RecordError, StoreError, WriteError
from walstream.scanning.reading import Batch, Reading
from walstream.wal.model import FORK_NAMES, RawRecord, XLogRecord
from walstream.wal.record import decode_wal_record

FORKS = tuple(FORK_NAMES)


class Sink(Protocol):
    """What takes records."""

    def write(self, batch: Batch) -> None: ...
    def finish(self) -> None: ...


class TextSink:
    """pg_waldump's lines."""

    def __init__(self, out: IO[bytes], version: int, details: bool) -> None:
        from walstream.dump.text_lines import LineWriter

        self.out = out
        self.writer = LineWriter(version, details)

    def write(self, batch: Batch) -> None:
        writer = self.writer
        columns = batch.columns
        writer.text.clear()
        writer.write_rows(
            batch.rows,
            columns.start_lsn,
            columns.record_at,
            columns.total_length,
            batch.piece,
            columns.side,
        )
        self.out.write(memoryview(writer.text.store)[: writer.text.used])

    def finish(self) -> None:
        self.out.flush()


class QuietSink:
    """Nothing: for reading WAL through for its errors alone."""

    def write(self, batch: Batch) -> None:
        return

    def finish(self) -> None:
        return


class StatsSink:
    """``--stats``: the table of pg_waldump at the end."""

    def __init__(self, out: IO[bytes], reading: Reading, per_record: bool) -> None:
        from walstream.wal.totals import RecordTotals

        self.out = out
        self.reading = reading
        self.per_record = per_record
        self.totals = reading.totals or RecordTotals()

    def write(self, batch: Batch) -> None:
        self.totals.add(batch.columns, len(batch.rows))

    def finish(self) -> None:
        from walstream.stats.waldump_table import stats_table

        start = self.reading.first_lsn or 0
        table = stats_table(self.totals, start, self.reading.version, self.per_record)
        self.out.write(table.encode())
        self.out.flush()


def records(batch: Batch, version: int) -> Iterator[XLogRecord]:
    """Yields the chosen records of a batch, decoded."""
    columns = batch.columns
    for row in batch.rows:
        raw = RawRecord(columns.start_lsn[row], columns.end_lsn[row], batch.record(row))
        yield decode_wal_record(raw, version)


class JsonSink:
    """One JSON object a line."""

    def __init__(self, out: IO[bytes], version: int) -> None:
        from walstream.dump.json_lines import ObjectWriter

        self.out = out
        self.writer = ObjectWriter(version)

    def write(self, batch: Batch) -> None:
        writer = self.writer
        columns = batch.columns
        writer.text.clear()
        writer.write_rows(
            batch.rows,
            columns.start_lsn,
            columns.end_lsn,
            columns.record_at,
            columns.total_length,
            batch.piece,
            columns.side,
        )
        self.out.write(memoryview(writer.text.store)[: writer.text.used])

    def finish(self) -> None:
        self.out.flush()


class ArrowSink:
    """An Arrow IPC stream, or a Parquet file; with a column of descriptions if asked for."""

    def __init__(self, out: IO[bytes], version: int, parquet: bool, described: bool) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        from walstream.dump.arrow import WITH_DESCRIPTION, described_batch
        from walstream.dump.text_lines import LineWriter
        from walstream.scanning.arrow import PARQUET, RECORDS, record_batch

        self.described_batch, self.record_batch = described_batch, record_batch
        self.version = version
        self.described = described
        schema = WITH_DESCRIPTION if described else RECORDS
        self.lines = LineWriter(version)
        self.writer = (
            pq.ParquetWriter(out, schema, **PARQUET) if parquet else pa.ipc.new_stream(out, schema)
        )
        self.parquet = parquet
        self.pending: list[Any] = []
        self.rows = 0

    def write(self, batch: Batch) -> None:
        if not len(batch.rows):
            return
        if self.described:
            made = self.described_batch(batch, self.version, self.lines)
        else:
            made = self.record_batch(batch.columns, self.version, batch.rows)
        self.pending.append(made)
        self.rows += made.num_rows
        # A row group of Parquet should be large; a stream goes out as it comes.
        if not self.parquet or self.rows >= 1 << 18:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if self.pending:
            self.writer.write_table(pa.Table.from_batches(self.pending))
            self.pending.clear()
            self.rows = 0

    def finish(self) -> None:
        self._flush()
        self.writer.close()


class ImageSaver:
    """``--save-fullpage``: every page image of the records into a file of its own."""

    def __init__(self, directory: Path, reading: Reading) -> None:
        self.directory = directory
        self.reading = reading
        try:
            directory.mkdir(parents=True, exist_ok=True)
            if any(directory.iterdir()):
                raise StoreError(f'directory "{directory}" exists but is not empty', str(directory))
        except OSError as error:
            raise WriteError(
                f'could not access directory "{directory}": {error.strerror}', str(directory)
            ) from error

    def write(self, batch: Batch, version: int, timeline: int) -> None:
        from walstream.wal.image import restore_image
        from walstream.wal.reason import in_record

        images = batch.columns.fpi_length
        rows = array("I", [row for row in batch.rows if images[row]])
        for record in records(batch._replace(rows=rows), version):
            for ref in record.blocks:
                if ref.image is None:
                    continue
                tag = ref.tag
                if tag.fork >= len(FORKS):
                    raise RecordError(f"invalid fork number: {tag.fork}", record.start_lsn)
                name = (
                    f"{timeline:08X}-{record.start_lsn >> 32:08X}-"
                    f"{record.start_lsn & 0xFFFFFFFF:08X}.{tag.spc_oid}.{tag.db_oid}."
                    f"{tag.rel_number}.{tag.block}_{FORKS[tag.fork]}"
                )
                path = self.directory / name
                try:
                    path.write_bytes(restore_image(ref.image))
                except RecordError as error:
                    raise in_record(error, record.start_lsn) from error
                except OSError as error:
                    raise WriteError(
                        f"could not write {path}: {error.strerror}", str(path)
                    ) from error


class Dumper:
    """Hands batches on to a sink until ``limit`` records were written (0: no limit).

    Args:
        reading: what the batches come from.
        make_sink: makes the sink, when the first batch is there.
        saver: also saves page images.
        on_first: called when the first record was read.
        flush: give out every batch at once, for following.
    """

    def __init__(
        self,
        reading: Reading,
        make_sink: Callable[[], Sink],
        limit: int = 0,
        saver: ImageSaver | None = None,
        on_first: Callable[[], None] | None = None,
        flush: bool = False,
    ) -> None:
        self.reading = reading
        self.make_sink = make_sink
        self.limit = limit
        self.saver = saver
        self.on_first = on_first
        self.flush = flush
        self.sink: Sink | None = None
        self.written = 0

    def take(self, batch: Batch) -> bool:
        """Writes a batch; returns whether more is wanted."""
        sink = self._begin()
        if self.limit and self.written + len(batch.rows) > self.limit:
            batch = batch._replace(rows=batch.rows[: self.limit - self.written])
        if len(batch.rows):
            sink.write(batch)
            if self.saver is not None:
                self.saver.write(batch, self.reading.version, self.reading.timeline)
            self.written += len(batch.rows)
        if self.flush:
            sink.finish()
        return not self.limit or self.written < self.limit

    def finish(self) -> None:
        """Ends the output."""
        if self.reading.first_lsn is not None:
            self._begin()
        if self.sink is not None:
            self.sink.finish()

    def _begin(self) -> Sink:
        if self.on_first is not None and self.reading.first_lsn is not None:
            self.on_first()
            self.on_first = None
        if self.sink is None:
            self.sink = self.make_sink()
        return self.sink

    def run(self, batches: Iterator[Batch]) -> None:
        """Writes all batches, and ends the output however they end."""
        try:
            for batch in batches:
                if not self.take(batch):
                    break
        finally:
            self.finish()
