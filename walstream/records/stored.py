"""The records of WAL that is stored, one after another.

``read_wal`` is the front door for a program that wants a few fields of some records. Whoever wants
columns of very many takes ``walstream.scan``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import IO

from walstream.records.match import Position, position, record_match
from walstream.rmgr.record import WalRecord
from walstream.scanning.ending import raise_ending
from walstream.scanning.opening import open_range
from walstream.scanning.output import Batch, records_output
from walstream.scanning.range_scan import RangeScan, default_threads
from walstream.scanning.stream_scan import StreamScan
from walstream.scanning.wal_range import WalRange
from walstream.store.leases import lease_on
from walstream.wal.match import RecordMatch
from walstream.wal.model import RelFileLocator


def read_wal(
    source: str | os.PathLike[str] | IO[bytes],
    start: Position | None = None,
    end: Position | None = None,
    *,
    timeline: int | None = None,
    rmgr: str | Iterable[str] | None = None,
    xid: int | None = None,
    relation: str | RelFileLocator | None = None,
    block: int | None = None,
    threads: int | None = None,
) -> Iterator[WalRecord]:
    """Yields the records of WAL in order, each one with every check passed.

    Args:
        source: a store, a data directory, a directory or tar archive of segments, one segment, or
            a binary file object that gives WAL from the start of a page on. Segments may be
            ``.partial`` or compressed (.gz, .lz4, .zst).
        start: the first record is the first that begins there or later; default: all there is.
        end: the last record is the last that ends there or before; default: the end of WAL.
        timeline: the timeline to follow, through its ancestors; default: the newest.
        rmgr, xid, relation, block: what a record must be of; relation as ``base/5/16384``,
            ``1663/5/16384`` or a locator. With ``relation``, ``block`` is one of its blocks.
        threads: how many may look for chosen records; default: all CPUs. Without a condition one
            reads.

    Raises:
        ValueError: an LSN, a resource manager or a relation that is none, or ``block`` alone.
        StorageError: nothing is there, or a file cannot be read.
        WalError: the WAL is damaged, or ends within a record (``lsn``: behind the last good one);
            after all good records before that were given.
        SegmentMissing: WAL goes on behind a segment that is not there.
    """
    wanted = WalRange(position(start), position(end))
    match = record_match(rmgr, xid, relation, block)
    return _records(source, wanted, match, timeline, threads or default_threads())


def _records(
    source: str | os.PathLike[str] | IO[bytes],
    wanted: WalRange,
    match: RecordMatch,
    timeline: int | None,
    threads: int,
) -> Iterator[WalRecord]:
    if not isinstance(source, str | os.PathLike):
        stream = StreamScan(records_output, wanted, match)
        yield from _of_batches(stream.from_pipe(source))
        ending = stream.ending
    else:
        with lease_on(Path(source)):
            segments, wanted = open_range(Path(source), wanted, timeline)
            with closing(segments):
                if match.everything:
                    # To make objects of all of it takes longer than to read it.
                    threads = 1
                scan = RangeScan(segments, records_output, wanted, match, threads=threads)
                yield from _of_batches(scan.items())
        ending = scan.ending
    if ending is not None:
        raise_ending(ending)


def _of_batches(batches: Iterator[Batch]) -> Iterator[WalRecord]:
    for batch in batches:
        start_lsn, end_lsn = batch.columns.start_lsn, batch.columns.end_lsn
        for row in range(batch.rows):
            yield WalRecord(start_lsn[row], end_lsn[row], batch.record(row), batch.version)
