"""walstream receive against pg_receivewal: ``python bench/receive.py [--backlog MB] [--rounds N]``.

1. A backlog of WAL over a local connection, each with a slot of its own and the same durability
   (fsync at segment ends), in turns; wall time from the start of the process to its end, CPU time
   and memory of the process. Both need some time to start: that is measured too, and shown. What
   the disk allows is shown beside: ``dd conv=fdatasync`` of as many bytes. ``--directory`` is where
   the segments go: a disk that bounds both, or /dev/shm, which does not.
2. With ``--tps SECONDS``: pgbench with each as the synchronous standby of the server.

Shown are ours, the peer's, and their ratio (above 1: ours is faster).
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.support.servers import PostgresServer, Setting
from walstream.wal.model import format_lsn

MB = 1 << 20
FILL = (
    "INSERT INTO fill SELECT i, repeat(chr(97 + i % 26), 60 + i % 200) "
    "FROM generate_series(1, 200000) i"
)


class Run(NamedTuple):
    seconds: float
    cpu: float
    rss_mb: float


def command(tool: str, server: PostgresServer, directory: Path, *options: str) -> list[str]:
    if tool == "pg_receivewal":
        start = [str(server.client("pg_receivewal"))]
    else:
        start = [sys.executable, "-m", "walstream", "receive"]
    return [*start, "-d", server.dsn, "-D", str(directory), *options]


def run(arguments: list[str]) -> Run:
    started = time.perf_counter()
    pid = os.posix_spawn(arguments[0], arguments, os.environ)
    _, status, usage = os.wait4(pid, 0)
    seconds = time.perf_counter() - started
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"{' '.join(arguments)}: exit code {os.waitstatus_to_exitcode(status)}")
    return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def disk_seconds(directory: Path, size: int) -> float:
    """Returns how long the disk takes for so many bytes, in one piece and with one flush."""
    target = directory / "dd"
    started = time.perf_counter()
    subprocess.run(
        ["dd", "if=/dev/zero", f"of={target}", "bs=1M", f"count={size // MB}", "conv=fdatasync"],
        check=True,
        capture_output=True,
    )
    seconds = time.perf_counter() - started
    target.unlink()
    return seconds


def only_start(tool: str, server: PostgresServer) -> list[str]:
    """What starts and ends without receiving: shows what of the time is not throughput."""
    if tool == "pg_receivewal":
        return [str(server.client("pg_receivewal")), "--version"]
    modules = "trio, walstream.cli.receive, walstream.store.writer, walstream.receive.receiver"
    return [sys.executable, "-c", f"import {modules}"]


def backlog(megabytes: int, rounds: int, tools: list[tuple[str, list[str]]], scratch: Path) -> None:
    slots = rounds * (len(tools) + 1) + 4
    config: dict[str, Setting] = {"max_wal_size": "64GB", "max_replication_slots": slots}
    with PostgresServer(18, config=config) as server:
        names = [f"bench_{i}" for i in range(rounds * len(tools))]
        for name in names:
            server.execute("SELECT pg_create_physical_replication_slot(%s, true)", [name])
        begin = server.flush_lsn()
        server.execute("CREATE TABLE fill (i int, x text); CREATE INDEX ON fill (i)")
        while server.flush_lsn() - begin < megabytes * MB:
            server.execute(FILL)
        end = server.flush_lsn()
        server.switch_wal()  # pg_receivewal stops only when it is past its end position
        server.execute("CHECKPOINT")
        size = (end - begin) / 1e9
        found: dict[str, list[Run]] = {name: [] for name, _ in tools}
        starts: dict[str, list[float]] = {name: [] for name, _ in tools}
        disk: list[float] = []
        for _ in range(rounds):
            disk.append(disk_seconds(scratch, end - begin))
            for name, options in tools:
                tool = name.split()[0]
                target = scratch / "wal"
                target.mkdir()
                stop = ["--endpos", format_lsn(end), "-n", "-S", names.pop()]
                found[name].append(run(command(tool, server, target, *options, *stop)))
                shutil.rmtree(target)
                starts[name].append(run(only_start(tool, server)).seconds)
        print(
            f"backlog of {size:.2f} GB, {rounds} rounds, median (dd conv=fdatasync: "
            f"{statistics.median(disk):.2f} s):"
        )
        peer = statistics.median(r.seconds for r in found[tools[0][0]])
        for name, _ in tools:
            runs = found[name]
            seconds = statistics.median(r.seconds for r in runs)
            start = statistics.median(starts[name])
            print(
                f"  {name:32} {seconds:6.2f} s  {size / seconds * 1000:6.0f} MB/s  "
                f"ratio {peer / seconds:5.2f}  (start {start:.2f} s)  "
                f"CPU {statistics.median(r.cpu for r in runs) / size:5.2f} s/GB  "
                f"RSS {max(r.rss_mb for r in runs):4.0f} MB"
            )


def cpu_seconds(pid: int) -> float:
    """Returns the CPU time that a running process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def tps(seconds: int, rounds: int, clients: int, scratch: Path) -> None:
    with PostgresServer(18, config={"fsync": True, "max_wal_size": "16GB"}) as server:
        pgbench = server.client("pgbench")
        subprocess.run([str(pgbench), "-i", "-q", "-s", "10", server.dsn], check=True,
                       capture_output=True)  # fmt: skip
        found: dict[str, list[float]] = {"pg_receivewal": [], "walstream": []}
        cpu: dict[str, list[float]] = {tool: [] for tool in found}
        for number in range(rounds):
            for tool in found:
                target = scratch / f"sync_{tool}_{number}"
                target.mkdir()
                slot = f"sync_{tool}_{number}"
                server.execute("SELECT pg_create_physical_replication_slot(%s, true)", [slot])
                arguments = command(tool, server, target, "--synchronous", "-S", slot, "-s", "1")
                receiver = subprocess.Popen(arguments, stdin=subprocess.DEVNULL)
                try:
                    server.configure(synchronous_standby_names="*", synchronous_commit="on")
                    while not server.execute(
                        "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"
                    ):
                        time.sleep(0.05)
                    cpu_before = cpu_seconds(receiver.pid)
                    out = subprocess.run(
                        [str(pgbench), "-n", "-N", "-c", str(clients), "-j", "1",
                         "-T", str(seconds), server.dsn],
                        check=True, capture_output=True, text=True,
                    ).stdout  # fmt: skip
                    match = re.search(r"tps = ([\d.]+)", out)
                    assert match is not None
                    found[tool].append(float(match[1]))
                    used = cpu_seconds(receiver.pid) - cpu_before
                    cpu[tool].append(used / (found[tool][-1] * seconds) * 1e6)
                finally:
                    server.configure(synchronous_standby_names="")
                    receiver.send_signal(signal.SIGINT)
                    receiver.wait()
        print(
            f"synchronous standby, pgbench -N -c {clients}, {seconds} s, {rounds} rounds, median:"
        )
        peer = statistics.median(found["pg_receivewal"])
        for tool, values in found.items():
            middle = statistics.median(values)
            print(
                f"  {tool:32} {middle:7.0f} tps  ratio {middle / peer:4.2f}  "
                f"CPU {statistics.median(cpu[tool]):4.0f} us a transaction"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backlog", type=int, default=1024, help="MB of WAL; 0: leave it out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tps", type=int, default=0, help="seconds of pgbench; 0: leave it out")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--directory", help="where the segments go; default: the temporary one")
    given = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory(prefix="walstream-bench-", dir=given.directory) as scratch:
        if given.backlog:
            tools: list[tuple[str, list[str]]] = [
                ("pg_receivewal", []),
                ("walstream --verify=records", ["--verify=records"]),
                ("walstream --verify=headers", ["--verify=headers"]),
                ("walstream --verify=off", ["--verify=off"]),
            ]
            backlog(given.backlog, given.rounds, tools, Path(scratch))
        if given.tps:
            tps(given.tps, given.rounds, given.clients, Path(scratch))


if __name__ == "__main__":
    main()
