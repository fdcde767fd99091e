"""``walstream open`` in the background, as a user starts it."""

from __future__ import annotations

import contextlib
import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from tests.support.running import DEADLINE_S, WALSTREAM


class Opened:
    """A moment that is open."""

    def __init__(self, process: subprocess.Popen[str], dsn: str) -> None:
        self.process = process
        self.dsn = dsn

    def execute(self, sql: str, dbname: str = "postgres") -> list[tuple[Any, ...]]:
        """Returns the rows of a statement in a transaction of its own."""
        with psycopg.connect(self.dsn, dbname=dbname, autocommit=True) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description is not None else []

    def postmaster(self) -> int:
        """The process id of its server."""
        return int(self.execute("SELECT pg_read_file('postmaster.pid')")[0][0].split()[0])

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """Ends it, and returns its exit code."""
        self.process.send_signal(number)
        return self.process.wait(DEADLINE_S)


@contextlib.contextmanager
def opened(store: Path, *options: object) -> Iterator[Opened]:
    """Opens a moment; at the end it is closed in good order, if it still runs."""
    process = subprocess.Popen(
        [*WALSTREAM, "open", str(store), *map(str, options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            ready, _, _ = select.select([process.stdout], [], [], DEADLINE_S)
            line = process.stdout.readline() if ready else ""
            if not line.startswith("psql "):
                process.kill()
                raise AssertionError(f"not opened: {process.stderr.read()}")
            yield Opened(process, line.strip().removeprefix('psql "').removesuffix('"'))
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                assert process.wait(DEADLINE_S) == 0, process.stderr.read()
        finally:
            process.kill()
