"""Indexes much WAL at once: worker processes make the digests, one writes them in WAL's order.

WAL is cut into parts; a worker begins a little before its part, finds a record there, and digests
those that end within the part. Batches are cut where ingest cuts them, so the index comes out the
same, key by key. The last record before a part says whether the worker began on the same chain as
the index ended; where it did not (a record longer than the lead), or something was wrong, ingest
reads that part itself, and says what it finds.
"""

from __future__ import annotations

import os
import signal
import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import NamedTuple

from walstream.errors import WalstreamError
from walstream.index.digest import Digest, Digester
from walstream.index.ingest import READ_SIZE, Ingest
from walstream.segments.reader import SegmentReader
from walstream.wal.scan import WalScanner

# Multiples of READ_SIZE.
PART = 16 << 20
LEAD = 1 << 20
# So many parts pay for the start of the workers.
MIN_PARTS = 16


class WalFiles(NamedTuple):
    """Where WAL is, and whose."""

    path: Path
    segment_size: int
    version: int
    system_id: int | None


class Part(NamedTuple):
    """The digests of the records that end in ``(begin, end]``; the last record before them.

    ``digests`` is None where they could not be made; ``before`` is (end LSN, start LSN).
    """

    begin: int
    end: int
    before: tuple[int, int]
    digests: list[Digest] | None


def digest_part(files: WalFiles, begin: int, end: int) -> Part:
    """Returns the digests of a part, in a worker process. Never raises what WAL is to blame for."""
    none = Part(begin, end, (0, 0), None)
    lead = begin - LEAD
    scanner = WalScanner(
        files.version,
        files.segment_size,
        lead,
        find_record=True,
        system_identifier=files.system_id,
    )
    digester = Digester(files.version)
    before, at, taken = (0, 0), lead, 0
    digests: list[Digest] = []
    try:
        archive = SegmentReader(files.path, files.segment_size)
        try:
            while at < end:
                piece = archive.read(at, READ_SIZE)
                scanner.feed_bytes(at, piece)
                at += READ_SIZE
                while (columns := scanner.poll_columns()) is not None:
                    row = bisect_right(columns.end_lsn, begin, 0, columns.count)
                    if row:
                        before = (columns.end_lsn[row - 1], columns.start_lsn[row - 1])
                        digester.lists.go_on_at(*before)
                        taken = before[0]
                    digester.lists.load(columns, piece)
                    while row < columns.count:
                        row = digester.add(columns, piece, row)
                        if digester.barrier:
                            digests.append(digester.take())
                            taken = digester.last_end
                if digester.last_end > taken:
                    digests.append(digester.take())
                    taken = digester.last_end
        finally:
            archive.close()
    except WalstreamError:
        return none
    if scanner.end_of_wal is not None:
        return none
    return Part(begin, end, before, digests)


def ingest_parts(
    ingest: Ingest, files: WalFiles, upto_lsn: int, workers: int, report: Callable[[int], None]
) -> None:
    """Indexes WAL up to the last whole part before ``upto_lsn``; the rest is left to ``advance``.

    ``report`` is called with the LSN that was come to.

    Raises:
        WalError, StorageError: see ``Ingest.advance``.
    """
    first = -(-(ingest.read_lsn + LEAD) // PART) * PART
    bounds = [(begin, begin + PART) for begin in range(first, upto_lsn - PART + 1, PART)]
    if workers < 2 or len(bounds) < MIN_PARTS:
        return
    if not _advance(ingest, first, report):
        return
    behind = False  # the ingest, of what was written
    with closing(_digested(files, bounds, workers)) as parts:
        for part in parts:
            position = (ingest.last_record_end, ingest.last_record_start)
            if part.digests is None or part.before != position:
                if behind:
                    ingest.resume()
                behind = False
                if not _advance(ingest, part.end, report):
                    return
            else:
                for digest in part.digests:
                    ingest.write(digest)
                behind = True
                report(part.end)
    if behind:
        ingest.resume()


def _advance(ingest: Ingest, upto_lsn: int, report: Callable[[int], None]) -> bool:
    """Indexes up to an LSN; returns whether WAL goes on there."""
    while ingest.read_lsn < upto_lsn and ingest.end_of_wal is None:
        ingest.advance(upto_lsn)
        report(ingest.read_lsn)
    return ingest.end_of_wal is None


def _digested(
    files: WalFiles, bounds: list[tuple[int, int]], workers: int
) -> Generator[Part, None, None]:
    """Yields the parts in order; those of a pool that broke are for ingest itself."""
    waiting: deque[tuple[tuple[int, int], Future[Part]]] = deque()
    rest = iter(bounds)
    with ProcessPoolExecutor(workers, get_context("spawn"), _begin_worker) as pool:
        try:
            while True:
                while len(waiting) < 2 * workers and (part := next(rest, None)) is not None:
                    waiting.append((part, pool.submit(digest_part, files, *part)))
                if not waiting:
                    return
                bound, future = waiting.popleft()
                yield future.result()
        except BrokenProcessPool:
            yield from (Part(*one, (0, 0), None) for one in bounds[bounds.index(bound) :])
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _begin_worker() -> None:
    """Leaves Ctrl-C to the parent, and ends with it, however that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
