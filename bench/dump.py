"""``walstream dump`` against pg_waldump, on pgbench WAL of PostgreSQL 18, interleaved in one run.

    python -m bench.dump [--wal DIRECTORY] [--transactions N] [--rounds N]

Whole processes, output to a file; the best wall time and the CPU time of that run of each. Without
``--wal`` a server is started and pgbench makes the WAL (about 420 bytes a transaction, and images).
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from tests.binaries import find_binaries, wheel_client
from tests.servers import PostgresServer, Setting

OURS = [sys.executable, "-c", "from walstream.cli import main; main()", "dump"]
CONFIG: dict[str, Setting] = {
    "max_wal_size": "16GB",
    "wal_keep_size": "16GB",
    "autovacuum": True,
    "synchronous_commit": False,
}


class Spent(NamedTuple):
    """Seconds of a process."""

    wall_s: float
    cpu_s: float


def make_wal(target: Path, transactions: int) -> None:
    """Fills ``target`` with the segments that pgbench made a server write."""
    with PostgresServer(18, config=CONFIG) as server:
        environment = {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(server.port),
            "PGUSER": "postgres",
            "PGDATABASE": "postgres",
        }
        pgbench = str(wheel_client("pgbench"))
        subprocess.run([pgbench, "-i", "-q", "-s", "10"], env=environment, check=True)
        run = [pgbench, "-M", "prepared", "-c", "2", "-t", str(transactions // 2)]
        subprocess.run(run, env=environment, check=True)
        server.stop()
        for file in server.wal_directory.iterdir():
            if file.is_file() and any(file.read_bytes()[:8]):
                shutil.copy(file, target)


def spend(command: list[str], output: Path) -> Spent:
    with output.open("wb") as out:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL)
        _, _, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - start
    process.returncode = 0
    return Spent(wall_s, usage.ru_utime + usage.ru_stime)


def first_lsn(wal: Path) -> str:
    name = min(path.name for path in wal.iterdir())
    return f"{int(name[8:16], 16):X}/{int(name[16:], 16) << 24:X}"


def common_relation(lines: Path) -> tuple[str, str]:
    """Returns a relation and a transaction that occur in the WAL."""
    relation = xid = ""
    with lines.open() as text:
        for number, line in enumerate(text):
            if "Heap " in line and "INSERT" in line and "rel " in line:
                relation = line.split("rel ")[1].split(" ")[0]
                xid = line.split("tx: ")[1].split(",")[0].strip()
            if number > 200_000:
                break
    return relation, xid


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--wal", type=Path)
    parser.add_argument("--transactions", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    program = find_binaries(18).client("pg_waldump")
    assert program is not None
    with tempfile.TemporaryDirectory() as scratch:
        wal = arguments.wal or Path(scratch) / "wal"
        if arguments.wal is None:
            wal.mkdir()
            make_wal(wal, arguments.transactions)
        peer = [str(program), "-p", str(wal), "-s", first_lsn(wal)]
        own = [*OURS, "-p", str(wal)]
        ours, theirs = Path(scratch) / "ours", Path(scratch) / "theirs"
        spend(peer, theirs)
        with theirs.open("rb") as text:
            records = sum(block.count(b"\n") for block in iter(lambda: text.read(1 << 20), b""))
        size = sum(path.stat().st_size for path in wal.iterdir())
        print(f"{size / 1e6:.0f} MB of WAL, {records} records, best of {arguments.rounds}")
        relation, xid = common_relation(theirs)
        cases = {
            "text": [],
            "text -b": ["-b"],
            "-r Btree": ["-r", "Btree"],
            f"-R {relation} -B 3": ["-R", relation, "-B", "3"],
            f"-x {xid}": ["-x", xid],
            "--stats=record": ["--stats=record"],
        }
        print(f"{'':24}{'pg_waldump':>20}{'walstream dump':>20}{'ratio (CPU)':>16}")
        for name, options in cases.items():
            best: dict[str, Spent] = {}
            for _ in range(arguments.rounds):
                for who, command, output in (("peer", peer, theirs), ("own", own, ours)):
                    spent = spend([*command, *options], output)
                    best[who] = min(best.get(who, spent), spent)
            same = "" if ours.read_bytes() == theirs.read_bytes() else "  OUTPUT DIFFERS"
            cells = "".join(
                f"{f'{best[who].wall_s:.2f} s ({best[who].cpu_s:.2f})':>20}"
                for who in ("peer", "own")
            )
            wall = best["peer"].wall_s / best["own"].wall_s
            cpu = best["peer"].cpu_s / best["own"].cpu_s
            print(f"{name:24}{cells}{f'{wall:.2f} ({cpu:.2f})':>16}{same}")
        for form in ("json", "arrow", "parquet"):
            command = [*own, "--format", form, "-o", str(ours)]
            spent = min(spend(command, theirs) for _ in range(min(arguments.rounds, 2)))
            rate = records / spent.cpu_s / 1e6
            cell = f"{spent.wall_s:.2f} s ({spent.cpu_s:.2f})"
            print(f"{f'--format {form}':44}{cell:>20}{rate:9.2f} M records/s of CPU")


if __name__ == "__main__":
    main()
