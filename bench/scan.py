"""Counts WAL with ``walstream stats`` and ``pg_waldump --stats``: whole processes, in turn.

The WAL is made by pgbench on a real server, of which pg_waldump must be there (15 or 18)::

    python bench/scan.py --version 18 --megabytes 1024

Prints medians of wall and CPU time and their ratios (theirs / ours; above 1 we are faster), for one
thread and for two, and the time of a scan into columns without a process around it.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.support.servers import PostgresServer
from walstream.scanning.opening import open_wal
from walstream.scanning.output import ColumnsOutput
from walstream.scanning.range_scan import RangeScan

MB = 1 << 20


# The transaction of pgbench, many a call: the same WAL as its own script gives, without a round
# trip for each statement.
TRANSACTIONS = """
CREATE PROCEDURE tpcb_like(transactions int) LANGUAGE plpgsql AS $$
DECLARE
    account int; teller int; branch int; delta int;
BEGIN
    FOR i IN 1 .. transactions LOOP
        account := 1 + random() * 1999999;
        teller := 1 + random() * 199;
        branch := 1 + random() * 19;
        delta := random() * 10000 - 5000;
        UPDATE pgbench_accounts SET abalance = abalance + delta WHERE aid = account;
        UPDATE pgbench_tellers SET tbalance = tbalance + delta WHERE tid = teller;
        UPDATE pgbench_branches SET bbalance = bbalance + delta WHERE bid = branch;
        INSERT INTO pgbench_history (tid, bid, aid, delta, mtime)
            VALUES (teller, branch, account, delta, now());
        COMMIT;
    END LOOP;
END $$
"""


def make_wal(version: int, megabytes: int, target: Path) -> Path:
    """Runs pgbench until there is that much WAL; returns pg_waldump of that version."""
    settings: dict[str, str | int | float | bool] = {
        "wal_keep_size": "64GB",
        "max_wal_size": "64GB",
        "synchronous_commit": False,
    }
    with PostgresServer(version, config=settings) as server:
        pgbench = server.client("pgbench")
        waldump = server.client("pg_waldump")
        if pgbench is None or waldump is None:
            raise SystemExit(f"no pgbench or pg_waldump of PostgreSQL {version}")
        run = [str(pgbench), "-n", server.dsn]
        subprocess.run([*run, "-i", "-q", "-s", "20"], check=True, capture_output=True)
        server.execute(TRANSACTIONS)
        script = target / "calls.sql"
        script.write_text("CALL tpcb_like(2000);\n")
        begin = server.insert_lsn()
        while server.insert_lsn() - begin < megabytes * MB:
            calls = [*run, "-c", "2", "-T", "10", "-f", str(script)]
            subprocess.run(calls, check=True, capture_output=True)
        script.unlink()
        server.stop("fast")
        for path in sorted(server.wal_directory.iterdir()):
            if path.is_file() and len(path.name) == 24 and any(path.read_bytes()[:8]):
                shutil.copyfile(path, target / path.name)
    return waldump


def timed(command: list[str]) -> tuple[float, float]:
    """Returns wall and CPU seconds of a process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    wall = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu


def columns_only(path: Path) -> tuple[float, int]:
    """Returns CPU seconds and records of a scan into columns on one thread."""
    source = open_wal(path)
    began = time.process_time()
    records = 0
    for batch in RangeScan(source, ColumnsOutput).items():
        records += batch.rows
    return time.process_time() - began, records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--version", type=int, default=18, help="PostgreSQL major version")
    parser.add_argument("--megabytes", type=int, default=1024, help="WAL to make")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--wal", type=Path, help="measure these segments instead of making some")
    parser.add_argument("--waldump", type=Path, help="pg_waldump for --wal")
    options = parser.parse_args()
    if (options.wal is None) != (options.waldump is None):
        parser.error("--wal and --waldump go together")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        if options.wal is None:
            waldump = make_wal(options.version, options.megabytes, directory)
        else:
            waldump = options.waldump
            for path in options.wal.iterdir():
                if path.is_file() and len(path.name) == 24:
                    (directory / path.name).symlink_to(path.resolve())
        segments = sorted(path.name for path in directory.iterdir())
        first, last = segments[0], segments[-1]
        ours = [sys.executable, "-m", "walstream", "stats", name, "-j"]
        commands = {
            "pg_waldump --stats": [str(waldump), "--stats", "-p", name, first, last],
            "walstream stats -j1": [*ours, "1"],
            "walstream stats -j2": [*ours, "2"],
        }
        times: dict[str, list[tuple[float, float]]] = {label: [] for label in commands}
        scans = []
        for _ in range(options.repeats):
            for label, command in commands.items():
                times[label].append(timed(command))
            scans.append(columns_only(directory))
        size = sum((directory / segment).stat().st_size for segment in segments)
    records = scans[0][1]
    print(f"PostgreSQL {options.version}, {size / MB:.0f} MB of pgbench WAL, {records} records")
    peer = times["pg_waldump --stats"]
    for label, pairs in times.items():
        wall = statistics.median(pair[0] for pair in pairs)
        cpu = statistics.median(pair[1] for pair in pairs)
        ratio = statistics.median(
            theirs[0] / mine[0] for theirs, mine in zip(peer, pairs, strict=True)
        )
        cpu_ratio = statistics.median(
            theirs[1] / mine[1] for theirs, mine in zip(peer, pairs, strict=True)
        )
        print(
            f"{label:<20} {wall:6.3f} s wall (x{ratio:.2f})  {cpu:6.3f} s CPU (x{cpu_ratio:.2f})  "
            f"{cpu / records * 1e9:5.1f} ns a record"
        )
    scan = statistics.median(pair[0] for pair in scans)
    print(f"{'scan into columns':<20} {scan:6.3f} s CPU  {scan / records * 1e9:5.1f} ns a record")


if __name__ == "__main__":
    main()
