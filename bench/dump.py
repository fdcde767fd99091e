"""``walstream dump`` against pg_waldump, on WAL of pgbench, in turns within one run.

    python -m bench.dump [--version 15|18] [--megabytes N] [--rounds N] [--wal DIRECTORY]

Whole processes, output to a file that is compared; medians of wall and CPU time and their ratios
(theirs / ours; above 1 we are faster). Filters with one thread and with all. Without ``--wal`` a
server makes the WAL as for ``bench/scan.py``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from bench.scan import make_wal
from tests.support.binaries import find_binaries

OURS = [sys.executable, "-m", "walstream", "dump"]
JSON_RECORDS = 1_000_000


class Spent(NamedTuple):
    """Seconds of a process."""

    wall_s: float
    cpu_s: float


def spend(command: list[str], output: Path) -> Spent:
    with output.open("wb") as out:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL)
        _, _, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - start
    process.returncode = 0
    return Spent(wall_s, usage.ru_utime + usage.ru_stime)


def median(runs: list[Spent]) -> Spent:
    walls, cpus = zip(*runs, strict=True)
    return Spent(statistics.median(walls), statistics.median(cpus))


def first_lsn(wal: Path) -> str:
    name = min(path.name for path in wal.iterdir())
    return f"{int(name[8:16], 16):X}/{int(name[16:], 16) << 24:X}"


def common_relation(lines: Path) -> tuple[str, str]:
    """Returns a relation and a transaction that occur in the text of the WAL."""
    relation = xid = ""
    with lines.open() as text:
        for number, line in enumerate(text):
            if "Heap " in line and "INSERT" in line and "rel " in line:
                relation = line.split("rel ")[1].split(" ")[0]
                xid = line.split("tx: ")[1].split(",")[0].strip()
            if number > 1_000_000:
                break
    return relation, xid


def count_lines(text: Path) -> int:
    with text.open("rb") as stream:
        return sum(block.count(b"\n") for block in iter(lambda: stream.read(1 << 20), b""))


def compare(name: str, commands: dict[str, list[str]], rounds: int, scratch: Path) -> None:
    """Prints a line for each command; the first is the peer."""
    runs: dict[str, list[Spent]] = {who: [] for who in commands}
    for _ in range(rounds):
        for who, command in commands.items():
            runs[who].append(spend(command, scratch / who))
    peer, *own = commands
    theirs = median(runs[peer])
    print(f"{name:24}{peer:14}{theirs.wall_s:8.3f} s{theirs.cpu_s:8.3f} s CPU")
    for who in own:
        ours = median(runs[who])
        differs = (scratch / who).read_bytes() != (scratch / peer).read_bytes()
        print(
            f"{'':24}{who:14}{ours.wall_s:8.3f} s{ours.cpu_s:8.3f} s CPU"
            f"  x{theirs.wall_s / ours.wall_s:.2f} (CPU x{theirs.cpu_s / ours.cpu_s:.2f})"
            f"{'  OUTPUT DIFFERS' if differs else ''}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wal", type=Path, help="measure these segments instead of making some")
    parser.add_argument("--version", type=int, default=18, help="PostgreSQL major version")
    parser.add_argument("--megabytes", type=int, default=1024, help="WAL to make")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    program = find_binaries(arguments.version).client("pg_waldump")
    assert program is not None
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        wal = arguments.wal or scratch / "wal"
        if arguments.wal is None:
            wal.mkdir()
            make_wal(arguments.version, arguments.megabytes, wal)
        peer = [str(program), "-p", str(wal), "-s", first_lsn(wal)]
        own = [*OURS, "-p", str(wal)]
        text = scratch / "text"
        spend(peer, text)
        records = count_lines(text)
        relation, xid = common_relation(text)
        text.unlink()
        size = sum(path.stat().st_size for path in wal.iterdir())
        print(f"{size / 1e6:.0f} MB of WAL, {records} records, medians of {arguments.rounds}")
        cases = {
            "-r Standby": ["-r", "Standby"],
            "-r Btree": ["-r", "Btree"],
            f"-R {relation} -B 3": ["-R", relation, "-B", "3"],
            f"-x {xid}": ["-x", xid],
            "--stats=record": ["--stats=record"],
        }
        for case, options in cases.items():
            commands = {
                "pg_waldump": [*peer, *options],
                "dump -j1": [*own, *options, "-j1"],
                "dump": [*own, *options],
            }
            compare(case, commands, arguments.rounds, scratch)
        for case, options in {"text": [], "text -b": ["-b"]}.items():
            commands = {"pg_waldump": [*peer, *options], "dump": [*own, *options]}
            compare(case, commands, min(arguments.rounds, 3), scratch)
        formats = {
            "json": ["--format", "json", "-n", str(JSON_RECORDS)],
            "arrow": ["--format", "arrow"],
            "arrow --describe": ["--format", "arrow", "--describe"],
            "parquet": ["--format", "parquet"],
        }
        for form, options in formats.items():
            target = scratch / "dump"
            command = [*own, *options, "-o", str(target)]
            spent = median([spend(command, text) for _ in range(min(arguments.rounds, 3))])
            count = min(records, JSON_RECORDS) if form == "json" else records
            print(
                f"--format {form:18}{spent.wall_s:8.3f} s{spent.cpu_s:8.3f} s CPU "
                f"{count / spent.wall_s / 1e6:8.2f} M records/s"
                f"{target.stat().st_size / count:8.1f} bytes a record",
                flush=True,
            )
            target.unlink()


if __name__ == "__main__":
    main()
