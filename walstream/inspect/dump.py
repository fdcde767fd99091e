"""Writes records: as pg_waldump's text, as JSON lines, as Arrow or Parquet, or as statistics.

A sink takes batches of chosen records. It is made when the first batch comes, since only then the
version of the WAL is known.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Protocol

from walstream.errors import RecordError, StorageError
from walstream.inspect.lines import LineWriter
from walstream.inspect.reading import Batch, Reading
from walstream.inspect.statstable import stats_table
from walstream.inspect.totals import RecordTotals
from walstream.rmgr import describer, fields, operation_name
from walstream.wal.layout import COMPRESSION_NAMES, rmgr_name
from walstream.wal.model import RawRecord, RelFileLocator, XLogRecord, format_lsn
from walstream.wal.record import decode_wal_record

FORKS = ("main", "fsm", "vm", "init")


class Sink(Protocol):
    """What takes records."""

    def write(self, batch: Batch) -> None: ...
    def finish(self) -> None: ...


class TextSink:
    """pg_waldump's lines."""

    def __init__(self, out: IO[bytes], version: int, details: bool) -> None:
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
        self.out = out
        self.reading = reading
        self.per_record = per_record
        self.totals = RecordTotals()

    def write(self, batch: Batch) -> None:
        self.totals.add(batch.columns, batch.rows)

    def finish(self) -> None:
        start = self.reading.first_lsn or 0
        table = stats_table(self.totals, start, self.reading.version, self.per_record)
        self.out.write(table.encode())
        self.out.flush()


def plain(value: Any) -> Any:
    """Returns a field's value as JSON has it: bytes in hexadecimal, tuples as lists."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, RelFileLocator):
        return str(value)
    if isinstance(value, tuple):
        if hasattr(value, "_asdict"):
            return {name: plain(item) for name, item in value._asdict().items()}
        return [plain(item) for item in value]
    return value


def description(record: XLogRecord, version: int) -> str:
    try:
        text = describer(version).describe_bytes(record.data)
    except RecordError as error:
        return f"({error})"
    return text.decode("utf-8", "backslashreplace")


def json_record(record: XLogRecord, version: int) -> dict[str, Any]:
    """Returns a record as docs/dump.md describes it."""
    blocks = []
    for ref in record.blocks:
        tag = ref.tag
        block: dict[str, Any] = {
            "id": ref.id,
            "relation": str(tag.locator),
            "fork": FORKS[tag.fork] if tag.fork < len(FORKS) else str(tag.fork),
            "block": tag.block,
            "will_init": ref.will_init,
            "data_length": len(ref.data),
        }
        if ref.image is not None:
            block["image"] = {
                "length": len(ref.image.data),
                "hole_offset": ref.image.hole_offset,
                "hole_length": ref.image.hole_length,
                "compression": COMPRESSION_NAMES[ref.image.compression],
                "apply": ref.image.apply,
            }
        blocks.append(block)
    fpi = sum(len(ref.image.data) for ref in record.blocks if ref.image is not None)
    try:
        body = {name: plain(value) for name, value in fields(record, version).items()}
    except RecordError as error:
        body = {"error": str(error)}
    return {
        "start_lsn": format_lsn(record.start_lsn),
        "end_lsn": format_lsn(record.end_lsn),
        "prev_lsn": format_lsn(record.prev_lsn),
        "xid": record.xid,
        "rmgr": rmgr_name(record.rmgr_id),
        "operation": operation_name(version, record.rmgr_id, record.info),
        "info": record.info,
        "record_length": record.total_length - fpi,
        "total_length": record.total_length,
        "origin": record.origin,
        "toplevel_xid": record.toplevel_xid,
        "description": description(record, version),
        "fields": body,
        "blocks": blocks,
    }


def records(batch: Batch, version: int) -> Iterator[XLogRecord]:
    """Yields the chosen records of a batch, decoded."""
    columns = batch.columns
    for row in batch.rows:
        raw = RawRecord(columns.start_lsn[row], columns.end_lsn[row], batch.record(row))
        yield decode_wal_record(raw, version)


class JsonSink:
    """One JSON object a line."""

    def __init__(self, out: IO[bytes], version: int) -> None:
        self.out = out
        self.version = version

    def write(self, batch: Batch) -> None:
        import json

        for record in records(batch, self.version):
            value = json_record(record, self.version)
            self.out.write(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
            self.out.write(b"\n")

    def finish(self) -> None:
        self.out.flush()


class ArrowSink:
    """An Arrow IPC stream, or a Parquet file; with a column of descriptions if asked for."""

    def __init__(self, out: IO[bytes], version: int, parquet: bool, described: bool) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        from walstream.inspect import arrow

        self.arrow = arrow
        self.version = version
        self.described = described
        schema = arrow.WITH_DESCRIPTION if described else arrow.RECORDS
        self.writer = (
            pq.ParquetWriter(out, schema, compression="zstd", compression_level=1)
            if parquet
            else pa.ipc.new_stream(out, schema)
        )
        self.parquet = parquet
        self.pending: list[Any] = []
        self.rows = 0

    def write(self, batch: Batch) -> None:
        if not len(batch.rows):
            return
        if self.described:
            texts = [description(record, self.version) for record in records(batch, self.version)]
            made = self.arrow.described_batch(batch, self.version, texts)
        else:
            made = self.arrow.record_batch(batch.columns, self.version, batch.rows)
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
                raise StorageError(
                    f'directory "{directory}" exists but is not empty', str(directory)
                )
        except OSError as error:
            raise StorageError(
                f'could not access directory "{directory}": {error.strerror}', str(directory)
            ) from error

    def write(self, batch: Batch, version: int, timeline: int) -> None:
        from walstream.wal.image import restore_image

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
                except OSError as error:
                    raise StorageError(
                        f"could not write {path}: {error.strerror}", str(path)
                    ) from error


class Dumper:
    """Hands batches on to a sink until ``limit`` records were written (0: no limit).

    Args:
        reading: what the batches come from.
        make_sink: makes the sink for a major version.
        saver: also saves page images.
        on_first: called when the first record was read.
        flush: give out every batch at once, for following.
    """

    def __init__(
        self,
        reading: Reading,
        make_sink: Callable[[int], Sink],
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
        if self.flush and isinstance(sink, TextSink | JsonSink):
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
            self.sink = self.make_sink(self.reading.version)
        return self.sink

    def run(self, batches: Iterator[Batch]) -> None:
        """Writes all batches, and ends the output however they end."""
        try:
            for batch in batches:
                if not self.take(batch):
                    break
        finally:
            self.finish()
