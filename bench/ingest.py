"""Index ingest against PostgreSQL's replay: ``python -m bench.ingest [--megabytes MB]``.

pgbench runs on a new server with no checkpoint after the first, until it has written that much
WAL; then the server is killed. In turns: the server recovers a copy of that data directory (the
time of redo that it logs), and a new index is made of the same WAL. Shown are the medians of wall
time, and their ratio (above 1: ours is faster). Both read WAL from the page cache, and neither
syncs (the server runs with ``fsync=off``, which also leaves out its sync after recovery).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.support.servers import PostgresServer
from walstream.errors import WalError
from walstream.index import postings
from walstream.index.ingest import Ingest, begin_index
from walstream.index.page_index import PageIndex
from walstream.segments.reader import SegmentReader
from walstream.store.base_backup_pages import BasePages
from walstream.wal.model import format_lsn, parse_lsn
from walstream.wal.scan import WalScanner

CONFIG: dict[str, str | int | float | bool] = {"max_wal_size": "64GB", "shared_buffers": "256MB"}


class Took(NamedTuple):
    seconds: float
    cpu: float
    end_lsn: int


def write_wal(server: PostgresServer, megabytes: int, scale: int) -> int:
    """Runs pgbench until there is as much WAL; returns where redo of it begins."""
    pgbench = str(server.client("pgbench"))
    subprocess.run([pgbench, "-i", "-q", "-s", str(scale), server.dsn], check=True,
                   capture_output=True)  # fmt: skip
    server.execute("CHECKPOINT")
    redo = server.execute("SELECT redo_lsn FROM pg_control_checkpoint()")[0][0]
    begin = server.flush_lsn()
    while server.flush_lsn() - begin < megabytes << 20:
        subprocess.run([pgbench, "-n", "-c", "4", "-t", "5000", server.dsn], check=True,
                       capture_output=True)  # fmt: skip
    return parse_lsn(str(redo))


def recover(crashed: PostgresServer) -> Took:
    """Starts a copy of a crashed server; returns how long its redo took."""
    with PostgresServer(
        crashed.version,
        segment_size=crashed.segment_size,
        config=CONFIG,
        backup=crashed.data_directory,
    ) as server:
        found = re.search(
            r"redo done at (\S+) system usage: CPU: user: (\S+) s, system: (\S+) s, "
            r"elapsed: (\S+) s",
            server.log_text(),
        )
        if found is None:
            raise SystemExit(f"no recovery in the log of the server:\n{server.log_text()}")
    cpu = float(found[2]) + float(found[3])
    return Took(float(found[4]), cpu, parse_lsn(found[1]))


def ingest(crashed: PostgresServer, start_lsn: int, path: Path) -> Took:
    """Makes a new index of the WAL of a crashed server."""
    archive = SegmentReader(crashed.wal_directory, crashed.segment_size)
    index = PageIndex(path)
    begin_index(index, start_lsn, BasePages(crashed.data_directory).sizes().items())
    end_lsn = archive.end_lsn()
    own = Ingest(index, archive, crashed.version, crashed.segment_size, None)
    started, cpu = time.perf_counter(), time.process_time()
    # WAL ends in zeros, or in what a segment held before.
    with contextlib.suppress(WalError):
        while own.end_of_wal is None and own.read_lsn < end_lsn:
            own.advance(end_lsn)
    took = Took(time.perf_counter() - started, time.process_time() - cpu, own.last_record_end)
    index.close()
    archive.close()
    return took


def count_records(crashed: PostgresServer, start_lsn: int, end_lsn: int) -> int:
    archive = SegmentReader(crashed.wal_directory, crashed.segment_size)
    scanner = WalScanner(crashed.version, crashed.segment_size, start_lsn)
    found = 0
    for lsn in range(start_lsn, end_lsn, 1 << 20):
        scanner.feed_bytes(lsn, archive.read(lsn, min(1 << 20, end_lsn - lsn)))
        while (columns := scanner.poll_columns()) is not None:
            found += columns.count
    archive.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=256, help="of WAL, at least")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=int, default=5, help="of pgbench")
    parser.add_argument("--version", type=int, default=18, help="of the server")
    given = parser.parse_args()
    kernels = "compiled" if postings.__file__.endswith(".so") else "plain Python"
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
          f"kernels: {kernels}")  # fmt: skip
    with (
        tempfile.TemporaryDirectory(prefix="walstream-bench-") as scratch,
        PostgresServer(given.version, config=CONFIG) as server,
    ):
        start_lsn = write_wal(server, given.megabytes, given.scale)
        server.crash()
        found: dict[str, list[Took]] = {"PostgreSQL replay": [], "walstream ingest": []}
        for number in range(given.rounds):
            found["PostgreSQL replay"].append(recover(server))
            found["walstream ingest"].append(
                ingest(server, start_lsn, Path(scratch) / f"index{number}")
            )
        end_lsn = found["walstream ingest"][0].end_lsn
        # The log names the start of the last record.
        replayed = found["PostgreSQL replay"][0].end_lsn
        if not start_lsn < replayed < end_lsn:
            raise SystemExit(f"replay ended at {format_lsn(replayed)}, ingest at "
                             f"{format_lsn(end_lsn)}")  # fmt: skip
        size, records = end_lsn - start_lsn, count_records(server, start_lsn, end_lsn)
        print(f"pgbench -s {given.scale} on PostgreSQL {given.version}: {size / 1e6:.0f} MB, "
              f"{records} records; {given.rounds} rounds, median:")  # fmt: skip
        peer = statistics.median(took.seconds for took in found["PostgreSQL replay"])
        for name, runs in found.items():
            seconds = statistics.median(took.seconds for took in runs)
            cpu = statistics.median(took.cpu for took in runs)
            print(
                f"  {name:18} {seconds:6.2f} s  {records / seconds:9.0f} records/s  "
                f"{size / seconds / 1e6:5.0f} MB/s  CPU {cpu:5.2f} s  ratio {peer / seconds:5.2f}"
            )


if __name__ == "__main__":
    main()
