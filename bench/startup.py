"""What it costs to start each command: ``python bench/startup.py [--rounds N] [--no-store]``.

Each command does the least that it can: a segment of 1 MB, one record, a small store, a server that
refuses the connection. ``python -c pass`` and ``import trio`` run in turn with them; shown are the
least CPU time (user and system, children too) and the least wall time of all rounds, and the ratio
to either. Commands run as the ``walstream`` script runs them, in an environment where packages are
plain files: the import hook of an editable installation costs each start some 10 ms.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import site
import sys
import tempfile
import time
import venv
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.support.running import Running
from tests.support.servers import PostgresServer
from tests.support.walgen import SEGMENT, WalWriter
from walstream.segments.names import segment_file_name

ROOT = Path(__file__).parent.parent
PASS, TRIO = "python -c pass", "import trio"
CHILD = ("--wal-redo", "--pg-version", "18")
SCRIPT = "from walstream.__main__ import main; main()"


def environment(directory: Path) -> str:
    """Returns a Python that finds the packages of this one, and this tree, without a hook."""
    venv.create(directory, with_pip=False)
    packages = next((directory / "lib").glob("python*")) / "site-packages"
    (packages / "paths.pth").write_text("\n".join([str(ROOT), *site.getsitepackages()]) + "\n")
    return str(directory / "bin" / "python")


def segment(directory: Path) -> Path:
    """Writes a segment of records; returns it."""
    directory.mkdir()
    wal = WalWriter()
    while wal.lsn < 2 * SEGMENT:
        wal.add_of_length(1000)
    path = directory / segment_file_name(1, 1, SEGMENT)
    path.write_bytes(wal.data[:SEGMENT])
    return path


def on_wal(scratch: Path) -> dict[str, list[str]]:
    """Returns the commands that need no store."""
    one = segment(scratch / "wal")
    wal, target = str(one.parent), str(scratch / "target")
    absent = segment_file_name(1, 2, SEGMENT)
    refused = ["-D", wal, "-d", "host=127.0.0.1 port=1", "--no-loop"]
    return {
        "--help": ["--help"],
        "dump -n 1": ["dump", wal, "-n", "1"],
        "stats": ["stats", wal],
        "verify": ["verify", wal],
        "restore-wal": ["restore-wal", wal, one.name, target],
        "restore-wal, not there": ["restore-wal", wal, absent, target],
        "archive-push": ["archive-push", wal, str(one)],
        "receive, refused": ["receive", *refused],
    }


def on_store(store: Path, table: str) -> dict[str, list[str]]:
    """Returns the commands that need a store; ``table`` is the path of one's file."""
    name = str(store)
    return {
        "status": ["status", name],
        "history": ["history", name, table, "0"],
        "page": ["page", name, table, "0"],
        "tables": ["tables", name, "--db", "postgres"],
        "rows": ["rows", name, "public.little", "--db", "postgres"],
    }


def make_store(store: Path) -> str:
    """Makes a small store; returns the path of a table's file."""
    with PostgresServer(18, segment_size=SEGMENT) as server:
        running = Running(server.replication_dsn, store)
        running.wait_until_indexed(0)
        server.execute("CREATE TABLE little AS SELECT generate_series(1, 10) AS i")
        path = str(server.execute("SELECT pg_relation_filepath('little')")[0][0])
        running.wait_until_indexed(server.insert_lsn())
        running.end(signal.SIGTERM)
    return path


def run(words: list[str]) -> tuple[float, float, int]:
    """Returns CPU and wall seconds of a command, and its exit code."""
    devnull = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in range(3)]
    started = time.perf_counter()
    pid = os.posix_spawn(words[0], words, os.environ, file_actions=devnull)
    _, status, used = os.wait4(pid, 0)
    wall = time.perf_counter() - started
    return used.ru_utime + used.ru_stime, wall, os.waitstatus_to_exitcode(status)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--no-store", action="store_true", help="leave out what needs PostgreSQL")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="walstream-bench-") as directory:
        scratch = Path(directory)
        python = environment(scratch / "environment")
        commands = on_wal(scratch)
        if not given.no_store:
            commands |= on_store(scratch / "store", make_store(scratch / "store"))
        words = {
            PASS: [python, "-c", "pass"],
            TRIO: [python, "-c", "import trio"],
            "redo child": [python, "-m", "walstream.redo.child", *CHILD],
            **{name: [python, "-c", SCRIPT, *rest] for name, rest in commands.items()},
        }
        cpu = dict.fromkeys(words, float("inf"))
        wall = dict.fromkeys(words, float("inf"))
        codes = {}
        for _ in range(given.rounds):
            for name, command in words.items():
                cpu_s, wall_s, codes[name] = run(command)
                cpu[name], wall[name] = min(cpu[name], cpu_s), min(wall[name], wall_s)
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(
        f"{'least of ' + str(given.rounds):24} {'CPU':>7} {'wall':>10} {'/ pass':>8} {'/ trio':>7}"
    )
    for name in words:
        print(
            f"{name:24} {cpu[name] * 1000:4.0f} ms {wall[name] * 1000:7.0f} ms "
            f"{cpu[name] / cpu[PASS]:8.2f} {cpu[name] / cpu[TRIO]:7.2f}   exit {codes[name]}"
        )


if __name__ == "__main__":
    main()
