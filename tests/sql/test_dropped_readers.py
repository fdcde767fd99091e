"""A reader that is dropped early stops its threads: the process ends, and ends well."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.archives import mixed_wal, write_segments

# Each leaves a pass over WAL where it is, in the way that its name says.
WAYS = {
    "limit": "duck.execute('SELECT * FROM records LIMIT 2').fetchall()",
    "one row": "duck.execute('SELECT * FROM blocks').fetchone()",
    "error in the query": """
try:
    duck.execute("SELECT error('stop') FROM records WHERE xid > 700").fetchall()
except duckdb.Error:
    pass
""",
    "not fetched": "result = duck.execute('SELECT * FROM records, range(3)')",
    "relation": "rows = duck.sql('SELECT * FROM records').limit(3).fetchall()",
    "closed": "duck.execute('SELECT * FROM records'); duck.close()",
    "reader": "reader = scan.reader(); reader.read_next_batch()",
    "two readers": "readers = [scan.reader(), scan.reader('blocks')]; readers[1].read_next_batch()",
    "generator": "batches = scan.batches(); next(batches)",
    "cycle": "a = [scan.batches()]; next(a[0]); a.append(a); del a",
    "collected": "batches = scan.batches(); next(batches); del batches; gc.collect(); alone()",
    "head": "scan.to_dataset().head(3); alone()",
    "interrupt": """
try:
    for _ in scan.batches():
        signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    pass
""",
    "interrupted in SQL": """
threading.Timer(0.05, duck.interrupt).start()
try:
    duck.execute('SELECT count(*) FROM records a, records b, records c').fetchall()
except duckdb.Error:
    pass
""",
    "raised": "next(iter(scan.batches())); done = False\nsys.exit(0)",
    "thread": "threading.Thread(target=lambda: next(scan.batches())).start()",
}

PROGRAM = """
import gc, signal, sys, threading
import duckdb
import walstream

def alone():
    assert threading.active_count() == 1, threading.enumerate()

scan = walstream.scan(sys.argv[1], threads=3)
duck = scan.to_duckdb()
"""


@pytest.fixture(scope="module")
def wal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("wal")
    write_segments(path, mixed_wal(8).close())
    return path


@pytest.mark.parametrize("way", WAYS)
def test_the_process_ends(way: str, wal: Path) -> None:
    command = [sys.executable, "-X", "dev", "-c", PROGRAM + WAYS[way], str(wal)]
    for _ in range(3):
        result = subprocess.run(command, capture_output=True, timeout=120, check=False)
        assert result.returncode == 0, result.stderr.decode()


@pytest.mark.parametrize("form", ["table", "json", "tsv"])
def test_the_command_ends(form: str, wal: Path) -> None:
    query = "SELECT * FROM records LIMIT 2"
    command = [sys.executable, "-m", "walstream", "sql", str(wal), query, "--format", form]
    for _ in range(3):
        result = subprocess.run(command, capture_output=True, timeout=120, check=False)
        assert result.returncode == 0, result.stderr
        assert b"Fatal" not in result.stderr


@pytest.mark.parametrize("delay_s", [0.0, 0.3, 2.0])
def test_ctrl_c_ends_the_command(wal: Path, delay_s: float) -> None:
    """Before DuckDB is at work, while it reads WAL, and in the middle of a join without end."""
    query = "SELECT count(*) FROM records a, records b, records c, records d"
    command = [sys.executable, "-m", "walstream", "sql", str(wal), query]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            wait_for_threads(process.pid)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(delay_s)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == 1
    assert out == b""
    assert err.strip() == b"Aborted!"


def wait_for_threads(pid: int) -> None:
    """Waits until a process has a thread beside its first: DuckDB is loaded."""
    deadline = time.monotonic() + 120
    while len(list(Path(f"/proc/{pid}/task").iterdir())) < 2:
        assert time.monotonic() < deadline, "no thread of DuckDB appeared"
        time.sleep(0.01)
