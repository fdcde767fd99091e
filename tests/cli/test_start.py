"""What a command imports before it begins: nothing slow that it does not need.

Held by names, not by time; bench/startup.py measures.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.walgen import SEGMENT, WalWriter
from walstream.segments.names import segment_file_name

NAME = segment_file_name(1, 1, SEGMENT)
SHOW = """
import atexit, os, sys
out = os.dup(1)
def show(): os.write(out, "\\n".join(sys.modules).encode())
atexit.register(show)
leave = os._exit
def end(code):
    show()
    leave(code)
os._exit = end
sys.argv[0] = "walstream"
sys.stdout = open(os.devnull, "w")
from walstream.__main__ import main
main()
"""
# What only programs that wait for many things need, and what waits behind them.
TASKS = ("trio", "asyncio", "psycopg", "rocksdict", "trio_util")
LIBRARY = ("traceback", "tempfile", "tarfile", "zoneinfo", "hashlib", "secrets", "ctypes", "json")
EXTRAS = ("rich", "crc32c", "pyarrow", "lz4", "zstandard", "importlib.metadata", "tomllib")
NOT_CLICK = ("click", "inspect", "dataclasses", "datetime", "uuid", "threading", "logging")


@pytest.fixture
def wal(tmp_path: Path) -> Path:
    path = tmp_path / "wal"
    path.mkdir()
    writer = WalWriter()
    while writer.lsn < 2 * SEGMENT:
        writer.add_of_length(1000)
    (path / NAME).write_bytes(writer.data[:SEGMENT])
    return path


def imported(*arguments: object) -> set[str]:
    """Returns the modules that a command has imported when it ends."""
    words = [sys.executable, "-I", "-S", "-c", f"import sys\nsys.path[:] = {sys.path!r}\n{SHOW}"]
    answer = subprocess.run(
        [*words, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert "Traceback" not in answer.stderr
    found = set(answer.stdout.split())
    assert "walstream.cli" in found
    return found


@pytest.mark.parametrize("name", [NAME, segment_file_name(1, 2, SEGMENT)])
def test_what_a_server_starts_once_a_segment(wal: Path, tmp_path: Path, name: str) -> None:
    forbidden = {*TASKS, *LIBRARY, *EXTRAS, *NOT_CLICK}
    assert not imported("restore-wal", wal, name, tmp_path / "target") & forbidden


def test_archive_push(wal: Path, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    forbidden = {*TASKS, *LIBRARY, *EXTRAS, *NOT_CLICK}
    assert not imported("archive-push", archive, wal / NAME) & forbidden
    assert (archive / NAME).exists()


@pytest.mark.parametrize("arguments", [("dump", "-n", "1"), ("stats",)])
def test_reading_wal(wal: Path, arguments: tuple[str, ...]) -> None:
    found = imported(*arguments, wal)
    assert not found & {*TASKS, *LIBRARY, *EXTRAS, "logging"}
    assert not any(name.startswith(("walstream.store", "walstream.index")) for name in found)


@pytest.mark.parametrize("command", ["receive", "page", "history", "rows", "tables", "status"])
def test_what_is_asked_before_anything_begins(command: str) -> None:
    """A wrong option is told before anything slow is imported."""
    assert not imported(command, "--no-such-option") & {*TASKS, *EXTRAS}


def test_receive(tmp_path: Path) -> None:
    """A server that cannot be reached: nothing of an index, of redo, of a terminal."""
    found = imported("receive", "-D", tmp_path, "-d", f"host={tmp_path}", "--no-loop")
    assert "trio" in found
    assert not found & {"rocksdict", "rich", "crc32c", "tarfile", "pyarrow"}
    forbidden = ("walstream.index", "walstream.redo", "walstream.pages", "walstream.rmgr")
    assert not any(name.startswith(forbidden) for name in found)


def test_the_redo_child() -> None:
    code = "import sys, walstream.redo.child; print('\\n'.join(sys.modules))"
    words = [sys.executable, "-I", "-S", "-c", f"import sys\nsys.path[:] = {sys.path!r}\n{code}"]
    found = set(subprocess.run(words, capture_output=True, text=True, check=True).stdout.split())
    assert not found & {*TASKS, *NOT_CLICK, "pathlib", "subprocess", "hashlib", "json"}
    assert not any(name.startswith(("walstream.rmgr", "walstream.store")) for name in found)


def test_a_page_starts_without_rows() -> None:
    code = "import sys, walstream.app.open; print('\\n'.join(sys.modules))"
    words = [sys.executable, "-c", code]
    found = set(subprocess.run(words, capture_output=True, text=True, check=True).stdout.split())
    assert "trio" in found
    assert not found & {"psycopg", "rich", "crc32c", "asyncio", "importlib.metadata", "fractions"}
    assert "walstream.index.ingest" not in found
    assert not any(name.startswith("walstream.rows") for name in found)
