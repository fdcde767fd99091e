"""Runs ``walstream dump`` and pg_waldump on WAL of a server, for the tests of the former."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.binaries import find_binaries

SEGMENT = 1 << 20


COMMAND = [sys.executable, "-c", "from walstream.cli import main; main()", "dump"]


def ours(
    *arguments: object, stdin: bytes | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, check=False, cwd=cwd)


def theirs(version: int, *arguments: object) -> subprocess.CompletedProcess[bytes]:
    program = find_binaries(version).client("pg_waldump")
    assert program is not None
    command = [str(program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=False)


def is_zero(path: Path) -> bool:
    return not any(path.read_bytes()[:8])


def segments(wal: Path) -> list[str]:
    return sorted(path.name for path in wal.iterdir())


def lsn_in(wal: Path, number: int, offset: int = 0) -> str:
    """An LSN within the segment of that number, counted from the first."""
    name = segments(wal)[number]
    return f"{int(name[8:16], 16):X}/{int(name[16:], 16) * SEGMENT + offset:X}"


def damaged_copy(wal: Path, target: Path) -> list[str]:
    for name in segments(wal):
        shutil.copy(wal / name, target)
    return segments(wal)
