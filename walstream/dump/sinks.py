"""Writes records: as lines, as Arrow or Parquet, or as statistics.

A sink takes what an output gives of chosen records. It is made with the first of it: what it needs
is loaded then, while threads read on.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from typing import IO, Any, Protocol

from walstream.dump.output import Lines
from walstream.errors import RecordError, StoreError, WriteError
from walstream.scanning.output import Batch
from walstream.scanning.scan import Scan
from walstream.wal.model import FORK_NAMES, RawRecord
from walstream.wal.record import decode_wal_record
from walstream.wal.totals import RecordTotals

FORKS = tuple(FORK_NAMES)


class Sink(Protocol):
    """What takes records."""

    def write(self, item: Any, most: int | None) -> int:
        """Writes what an output gave, up to ``most`` records of it; returns how many."""

    def finish(self) -> None:
        """Gives out all that was written; more may follow."""


def count_of(batch: Batch, most: int | None) -> int:
    """Returns how many records of a batch are wanted."""
    return batch.rows if most is None else min(batch.rows, most)


class LinesSink:
    """Lines, as they are."""

    def __init__(self, out: IO[bytes]) -> None:
        self.out = out

    def write(self, lines: Lines, most: int | None) -> int:
        if most is None or lines.rows <= most:
            self.out.write(lines.text)
            return lines.rows
        self.out.write(lines.text[: lines.ends[most]])
        return most

    def finish(self) -> None:
        self.out.flush()


class QuietSink:
    """Nothing: for reading WAL through for its errors alone."""

    def write(self, item: Batch | RecordTotals, most: int | None) -> int:
        return count_of(item, most) if isinstance(item, Batch) else item.records

    def finish(self) -> None:
        return


class StatsSink:
    """``--stats``: the table of pg_waldump at the end."""

    def __init__(self, out: IO[bytes], scan: Scan[Any], per_record: bool) -> None:
        self.out = out
        self.scan = scan
        self.per_record = per_record
        self.totals = RecordTotals()

    def write(self, item: Batch | RecordTotals, most: int | None) -> int:
        if isinstance(item, RecordTotals):
            self.totals.add_totals(item)
            return item.records
        count = count_of(item, most)
        self.totals.add(item.columns, count)
        return count

    def finish(self) -> None:
        from walstream.stats.waldump_table import stats_table

        start = self.scan.first_lsn or 0
        table = stats_table(self.totals, start, self.scan.version, self.per_record)
        self.out.write(table.encode())
        self.out.flush()


class ArrowSink:
    """An Arrow IPC stream, or a Parquet file; with a column of descriptions if asked for."""

    def __init__(self, out: IO[bytes], parquet: bool, described: bool) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        from walstream.dump.arrow import WITH_DESCRIPTION, described_batch
        from walstream.scanning.arrow import PARQUET, RECORDS, record_batch

        self.described_batch, self.record_batch = described_batch, record_batch
        schema = WITH_DESCRIPTION if described else RECORDS
        self.writer = (
            pq.ParquetWriter(out, schema, **PARQUET) if parquet else pa.ipc.new_stream(out, schema)
        )
        self.parquet = parquet
        self.pending: list[Any] = []
        self.rows = 0

    def write(self, item: Batch | Lines, most: int | None) -> int:
        if isinstance(item, Lines):
            made = self.described_batch(item)
        else:
            made = self.record_batch(item.columns, item.version)
        if most is not None:
            made = made.slice(0, most)
        self.pending.append(made)
        self.rows += made.num_rows
        # A row group of Parquet should be large; a stream goes out as it comes.
        if not self.parquet or self.rows >= 1 << 18:
            self._flush()
        return int(made.num_rows)

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

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        try:
            directory.mkdir(parents=True, exist_ok=True)
            if any(directory.iterdir()):
                raise StoreError(f'directory "{directory}" exists but is not empty', str(directory))
        except OSError as error:
            raise WriteError(
                f'could not access directory "{directory}": {error.strerror}', str(directory)
            ) from error

    def write(self, item: Batch | Lines, count: int, timeline: int) -> None:
        """Saves the images of the first ``count`` records; their bytes must be there."""
        from walstream.wal.image import restore_image
        from walstream.wal.reason import in_record

        batch = item.batch if isinstance(item, Lines) else item
        assert batch is not None
        columns = batch.columns
        for row in range(count):
            if not columns.fpi_length[row]:
                continue
            raw = RawRecord(columns.start_lsn[row], columns.end_lsn[row], batch.record(row))
            record = decode_wal_record(raw, batch.version)
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
    """Hands what comes on to a sink until ``limit`` records were written (0: no limit).

    Args:
        scan: what it comes from.
        make_sink: makes the sink, when the first is there.
        limit: records at most.
        saver: also saves page images.
        flush: give out everything at once, for following.
    """

    def __init__(
        self,
        scan: Scan[Any],
        make_sink: Callable[[], Sink],
        limit: int = 0,
        saver: ImageSaver | None = None,
        flush: bool = False,
    ) -> None:
        self.scan = scan
        self.make_sink = make_sink
        self.limit = limit
        self.saver = saver
        self.flush = flush
        self.sink: Sink | None = None
        self.written = 0

    def take(self, item: Any) -> bool:
        """Writes what an output gave; returns whether more is wanted."""
        sink = self._begin()
        count = sink.write(item, self.limit - self.written if self.limit else None)
        if self.saver is not None:
            self.saver.write(item, count, self.scan.timeline)
        self.written += count
        if self.flush:
            sink.finish()
        return not self.limit or self.written < self.limit

    def finish(self) -> None:
        """Ends the output."""
        if self.scan.first_lsn is not None:
            self._begin()
        if self.sink is not None:
            self.sink.finish()

    def _begin(self) -> Sink:
        if self.sink is None:
            self.sink = self.make_sink()
        return self.sink

    def run(self, items: Generator[Any, None, None]) -> None:
        """Writes all that comes, and ends the output however it ends."""
        try:
            with closing(items):
                for item in items:
                    if not self.take(item):
                        break
        finally:
            self.finish()
