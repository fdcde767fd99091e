"""What grows with a cluster's age: ``python -m bench.growth [--count N]``.

Generated WAL and indexes, no server. Each line shows one cost with a small history and with one
of N steps (100,000 by default): relations made and dropped, truncations of one table, changes of
its size, WAL segments in a directory, databases made and dropped beside many forks. What is bounded
stays about the same; the ratio is in the last column.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from struct import pack

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.support.walgen import SEGMENT, Block, WalWriter, record_body
from walstream.index import keys
from walstream.index.changes import Changes
from walstream.index.digest import Digest, Operation
from walstream.index.ingest import Ingest, begin_index
from walstream.index.page_index import Batch, PageIndex, SizeChange, SizeKind
from walstream.rmgr.database import DatabaseDrop
from walstream.segments.names import segment_file_name
from walstream.segments.reader import SegmentReader
from walstream.wal.model import BufferTag, RelFileLocator

TABLE = RelFileLocator(1663, 5, 16384)
SMALL = 100


class Memory:
    """WAL in memory."""

    def __init__(self, wal: WalWriter) -> None:
        self.start_lsn = wal.start_lsn
        self.data = bytes(wal.data)

    def read(self, lsn: int, length: int) -> bytes:
        return self.data[lsn - self.start_lsn : lsn - self.start_lsn + length]


def microseconds(work: Callable[[], object], times: int = 200) -> float:
    work()
    started = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - started) / times * 1e6


def relations_dropped(count: int) -> WalWriter:
    """Returns WAL in which so many relations are made and dropped."""
    wal = WalWriter()
    for number in range(count):
        rel = (1663, 5, 20000 + number)
        wal.add(2, 0x10, 7, record_body(18, (), pack("<IIII", *rel, 0)))
        wal.add(11, 0, 7, record_body(18, [Block(0, BufferTag(*rel, 0, 0))]))
        # Drops one relation, with a hundred invalidation messages.
        end = pack("<QIIIII", 1, 0x04 | 0x08, 1, *rel) + pack("<I", 100) + bytes(1600)
        wal.add(1, 0x80, 7, record_body(18, (), end, long_main=True))
    return wal


def drops(scratch: Path, count: int) -> float:
    """Returns the microseconds of ingest for a relation that is made and dropped."""
    wal = relations_dropped(count)
    index = PageIndex(scratch / f"drops{count}")
    begin_index(index, SEGMENT, [])
    source = Memory(wal)
    own = Ingest(index, source, 18, SEGMENT, None)
    started = time.perf_counter()
    while own.read_lsn < wal.lsn:
        own.advance(wal.lsn)
    took = time.perf_counter() - started
    index.close()
    return took / count * 1e6


def remembered(scratch: Path, count: int) -> float:
    """Returns the kB that ingest holds after relations were made and dropped."""
    wal = relations_dropped(count)
    index = PageIndex(scratch / f"remembered{count}")
    begin_index(index, SEGMENT, [])
    source = Memory(wal)
    tracemalloc.start()
    own = Ingest(index, source, 18, SEGMENT, None)
    while own.read_lsn < wal.lsn:
        own.advance(wal.lsn)
    gc.collect()
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    index.close()
    return held / 1e3


def table_with(scratch: Path, kind: SizeKind, count: int) -> PageIndex:
    index = PageIndex(scratch / f"{kind.name}{count}")
    for first in range(1, count + 1, 1000):
        batch = Batch()
        for lsn in range(first, min(first + 1000, count + 1)):
            batch.sizes.append((TABLE, 0, SizeChange(lsn, kind, 10 + lsn)))
        index.write(batch)
    return index


def truncations(scratch: Path, count: int) -> float:
    index = table_with(scratch, SizeKind.TRUNCATE, count)
    took = microseconds(lambda: index.voided(BufferTag(*TABLE, 0, 3)))
    index.close()
    return took


def relations(scratch: Path, count: int) -> float:
    index = table_with(scratch, SizeKind.EXTEND, count)
    took = microseconds(lambda: list(index.relations()))
    index.close()
    return took


def segments(scratch: Path, count: int) -> float:
    path = scratch / f"wal{count}"
    path.mkdir()
    for number in range(1, count + 1):
        (path / segment_file_name(1, number, SEGMENT)).touch()
    last = path / segment_file_name(1, count, SEGMENT)
    last.write_bytes(bytes(SEGMENT))
    archive = SegmentReader(path, SEGMENT)
    other = path / "archive_status"

    def read_after_a_change() -> None:
        other.touch()
        other.unlink()
        archive.read(count * SEGMENT, 8)

    took = microseconds(read_after_a_change)
    archive.close()
    return took


def databases(scratch: Path, count: int) -> float:
    index = PageIndex(scratch / f"databases{count}")
    changes = Changes(index)
    nothing = Digest([], 0, b"", 0, b"", [], [], 0, 1, 1)
    growth = (keys.GROWTH.pack(1663, 5, 16384 + n, 0, 1, 1) for n in range(min(count, 60_000)))
    index.write(changes.batch(nothing._replace(growth=b"".join(growth))))
    dropped = nothing._replace(
        growth=keys.GROWTH.pack(1663, 6, 16384, 0, 1, 1),
        operations=[Operation(1, DatabaseDrop(6, (1663,)))],
    )
    took = microseconds(lambda: changes.batch(dropped))
    index.close()
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    count = parser.parse_args().count
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"{'':44}{SMALL:>12}{count:>12}   ratio")
    with tempfile.TemporaryDirectory(prefix="walstream-bench-") as directory:
        scratch = Path(directory)
        rows = [
            (
                "relations dropped: kB that ingest holds then",
                remembered(scratch, SMALL),
                remembered(scratch, count),
            ),
            ("relations dropped: us each", drops(scratch, SMALL), drops(scratch, count)),
        ]
        for name, measure in (("truncations: us to plan block 3", truncations),
                              ("size changes: us to list the relations", relations),
                              ("segments: us to read after a change", segments)):  # fmt: skip
            rows.append((name, measure(scratch, SMALL), measure(scratch, count)))
        rows.append(
            (
                "forks: us to drop another database",
                databases(scratch, SMALL),
                databases(scratch, count),
            )
        )
    for name, before, after in rows:
        print(f"{name:44}{before:12.1f}{after:12.1f}  {after / before:6.1f}")


if __name__ == "__main__":
    main()
