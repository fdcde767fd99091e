"""A past moment opened: ``python bench/open.py [--scale N] [--wal MB] [--seconds S] [--runs N]``.

A cluster with pgbench tables (scale N, about 15 MB each) is streamed into a store, and pgbench
runs until so many MB of WAL lie behind the base backup. Then, in one run, interleaved:

1. from the command ``walstream psql STORE --at latest`` to its answer, of a cheap query and of one
   that reads all accounts; the median of N runs, and the memory of the process that mounts;
2. the same from a real point-in-time recovery: the base backup copied, WAL fetched by cp, promoted;
3. ``walstream materialize`` of the moment, against the copy and recovery of 2;
4. pgbench for S seconds a time, -S and TPC-B, on the directory of 3 (plain files), on a writable
   opening whose pages were read once (lazy), and on a branch after --hydrate. Shown as a ratio to
   the plain files. All servers run with the same settings.

All files are in the page cache for everyone.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import select
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.support.clusters import directory_for_server
from tests.support.running import WALSTREAM, Running
from tests.support.servers import PostgresServer, Setting

VERSION = 15
BIN = Path("/usr/lib/postgresql/15/bin")
CONFIG: dict[str, Setting] = {
    "max_wal_size": "64GB",
    "wal_keep_size": "64GB",
    "shared_buffers": "256MB",
    "synchronous_commit": False,
    "checkpoint_timeout": "1d",
}
CHEAP = "SELECT count(*) FROM pgbench_branches"
FULL = "SELECT count(*), sum(abalance) FROM pgbench_accounts"


def make(place: Path, scale: int, wal_mb: int) -> Path:
    """Makes a store whose WAL behind the base backup has so many MB."""
    store = place / "store"
    with PostgresServer(VERSION, config=CONFIG) as server:
        pgbench = [str(BIN / "pgbench"), "-d", server.dsn]
        subprocess.run([*pgbench, "-iq", "-s", str(scale)], check=True, capture_output=True)
        server.execute("VACUUM FREEZE")
        server.execute("CHECKPOINT")
        running = Running(server.dsn, store)
        running.wait_until(lambda now: bool(now.get("base_backups")))
        begin = server.insert_lsn()
        while server.insert_lsn() - begin < wal_mb << 20:
            run = [*pgbench, "-n", "-c", "4", "-T", "5"]
            subprocess.run(run, check=True, capture_output=True)
        running.wait_until_indexed(server.flush_lsn())
        assert running.end(signal.SIGTERM) == 0
    archive = place / "archive"
    archive.mkdir(mode=0o755)
    for segment in (store / "wal").glob("0*"):
        copy = archive / segment.name.removesuffix(".partial")
        shutil.copyfile(segment, copy)
        copy.chmod(0o644)
    store.chmod(0o755)  # so that the servers' user gets at a branch without us
    return store


def timed(command: list[object]) -> float:
    start = time.perf_counter()
    subprocess.run([str(word) for word in command], check=True, capture_output=True)
    return time.perf_counter() - start


def psql(store: Path, query: str) -> float:
    return timed([*WALSTREAM, "psql", store, "--bindir", BIN, "--", "-XAtqc", query])


def recover(store: Path) -> float:
    """Returns the seconds from nothing to the first answer of a point-in-time recovery."""
    backup = next(path for path in (store / "base").iterdir() if path.is_dir())
    config: dict[str, Setting] = {
        **CONFIG,
        "restore_command": f"cp {store.parent}/archive/%f %p",
        "recovery_target_timeline": "current",
    }
    start = time.perf_counter()
    with PostgresServer(
        VERSION, config=config, backup=backup, signal_file="recovery.signal"
    ) as server:
        while "database system is ready to accept connections" not in server.log_text():
            time.sleep(0.01)
        server.execute(CHEAP)
        return time.perf_counter() - start


class Opened:
    """A ``walstream open`` in the background."""

    def __init__(self, store: Path, *options: object) -> None:
        self.process = subprocess.Popen(
            [*WALSTREAM, "open", str(store), "--bindir", str(BIN), *map(str, options)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        select.select([self.process.stdout], [], [], 120)
        line = self.process.stdout.readline()
        assert line.startswith("psql "), self.process.communicate()
        self.dsn = line.strip().removeprefix('psql "').removesuffix('"')

    @property
    def memory_mb(self) -> float:
        """What the process itself has resident that is no file (the index and WAL are mapped)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"RssAnon:\s+(\d+)", status)
        assert found is not None
        return int(found[1]) / 1024

    def close(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=300)


def tps(dsn: str, seconds: int, *options: str) -> float:
    done = subprocess.run(
        [str(BIN / "pgbench"), "-n", "-c", "4", "-T", str(seconds), *options, dsn],
        check=True,
        capture_output=True,
        text=True,
    )
    found = re.search(r"tps = ([\d.]+)", done.stdout)
    assert found is not None, done.stdout
    return float(found[1])


@contextlib.contextmanager
def plain(directory: Path, place: Path) -> Iterator[str]:
    """Runs a server on a data directory; gives how to connect."""
    owner = directory.owner()
    socket = place / "socket"
    socket.mkdir(exist_ok=True)
    shutil.chown(socket, owner)
    settings = [f"-cunix_socket_directories={socket}", "-clisten_addresses=", "-cfsync=off"]
    settings += ["-cport=5432"]
    settings += ["-cshared_buffers=128MB", "-chuge_pages=off", f"-chba_file={place}/hba"]
    (place / "hba").write_text("local all all trust\n")
    process = subprocess.Popen(
        [str(BIN / "postgres"), "-D", str(directory), *settings],
        user=owner if os.geteuid() == 0 else None,
        stderr=subprocess.DEVNULL,
    )
    dsn = f"host={socket} user=postgres dbname=postgres"
    try:
        while subprocess.run([str(BIN / "psql"), dsn, "-c", ""], capture_output=True).returncode:
            assert process.poll() is None, "the server ended"
            time.sleep(0.05)
        yield dsn
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def median(values: list[float]) -> str:
    return f"{statistics.median(values):8.2f} s   ({min(values):.2f} to {max(values):.2f})"


def first_queries(store: Path, place: Path, runs: int) -> None:
    cheap, full, pitr, made = [], [], [], []
    for number in range(runs):
        cheap.append(psql(store, CHEAP))
        full.append(psql(store, FULL))
        pitr.append(recover(store))
        directory = place / f"made{number}"
        made.append(timed([*WALSTREAM, "materialize", store, "--at", "latest", "-D", directory]))
        if number:
            shutil.rmtree(directory)
    print(f"psql, cheap query          {median(cheap)}")
    print(f"psql, all accounts         {median(full)}")
    print(f"recovery, cheap query      {median(pitr)}")
    print(f"materialize                {median(made)}")
    ratio = statistics.median(pitr) / statistics.median(cheap)
    print(f"recovery against psql      {ratio:8.1f}")
    print(f"recovery against materialize {statistics.median(pitr) / statistics.median(made):6.1f}")


def compare_speed(store: Path, place: Path, seconds: int, runs: int) -> None:
    found: dict[str, dict[str, list[float]]] = {}

    def measure(where: str, dsn: str) -> None:
        subprocess.run([str(BIN / "psql"), dsn, "-qc", FULL], check=True, capture_output=True)
        for kind, options in (("-S", ("-S",)), ("TPC-B", ())):
            values = found.setdefault(kind, {}).setdefault(where, [])
            values += [tps(dsn, seconds, *options) for _ in range(runs)]

    with plain(place / "made0", place) as dsn:
        measure("plain", dsn)
    opened = Opened(store, "--writable")
    measure("lazy", opened.dsn)
    print(f"memory of the mount        {opened.memory_mb:8.0f} MB")
    opened.close()
    start = time.perf_counter()
    opened = Opened(store, "--name", "bench", "--hydrate")
    description = store / "branches/bench/branch.toml"
    while "hydrated = true" not in description.read_text():
        time.sleep(0.1)
    print(f"hydrated after             {time.perf_counter() - start:8.1f} s")
    opened.close()
    opened = Opened(store, "--name", "bench", "-c", "fsync=off")
    measure("hydrated", opened.dsn)
    opened.close()
    for kind, by_place in found.items():
        base = statistics.median(by_place["plain"])
        for where, values in by_place.items():
            value = statistics.median(values)
            print(f"pgbench {kind:6} {where:9}  {value:8.0f} tps   ratio {value / base:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--scale", type=int, default=20)
    parser.add_argument("--wal", type=int, default=100, help="MB behind the base backup")
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with directory_for_server(Path("/var/tmp")) as place:
        store = make(place, options.scale, options.wal)
        sizes = [path.stat().st_size for path in (store / "base").rglob("*") if path.is_file()]
        wal = sum(path.stat().st_size for path in (store / "wal").iterdir())
        print(f"base backup {sum(sizes) >> 20} MB, WAL {wal >> 20} MB")
        first_queries(store, place, options.runs)
        compare_speed(store, place, options.seconds, min(options.runs, 3))


if __name__ == "__main__":
    main()
