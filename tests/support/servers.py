"""Real PostgreSQL clusters of 14 to 18 for the tests: start, stop, crash, promote, back up.

::

    with PostgresServer(16, segment_size=1 << 20, config={"wal_compression": "pglz"}) as server:
        server.execute("CREATE TABLE t (i int)")

A cluster lives in a directory of its own, is a copy of a cached template made by initdb, listens
on a unix socket and on 127.0.0.1, and is killed and removed when the context ends, however it
ends. Servers run as an unprivileged user when the tests run as root. Where the binaries come
from is the business of ``tests/support/binaries.py``, what a cluster is made of that of
``tests/support/clusters.py``.
"""

import contextlib
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, Self

import psycopg
from psycopg.conninfo import make_conninfo

from tests.support.binaries import Binaries, find_binaries, identity_arguments, wheel_client
from tests.support.clusters import (
    SUPERUSER,
    ServerFailed,
    copy_tree,
    directory_for_server,
    give_to_server,
    initdb_options,
    reserved_port,
    roomy_directory,
    run_initdb,
    template,
)

Setting = str | int | float | bool
StopMode = Literal["smart", "fast", "immediate"]

START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 60.0

_STOP_SIGNALS = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}
# Quiet, small and repeatable: nothing happens in the background that a test did not ask for.
# fsync=off does not weaken crash(): a killed process loses nothing that it has written.
_DEFAULTS: Mapping[str, Setting] = {
    "autovacuum": False,
    "checkpoint_timeout": "1h",
    # In the data directory, so that a server that was killed leaves nothing behind.
    "dynamic_shared_memory_type": "mmap",
    "fsync": False,
    "jit": False,
    "listen_addresses": "127.0.0.1",
    "max_connections": 30,
    "max_prepared_transactions": 10,
    "max_replication_slots": 10,
    "max_wal_senders": 10,
    "max_wal_size": "4GB",
    "shared_buffers": "32MB",
    "wal_level": "replica",
}


class PostgresServer:
    """One PostgreSQL cluster and, while it runs, its postmaster."""

    def __init__(
        self,
        version: int,
        *,
        segment_size: int = 16 << 20,
        checksums: bool | None = None,
        config: Mapping[str, Setting] | None = None,
        initdb: Sequence[str] = (),
        unique: bool = False,
        backup: Path | None = None,
        signal_file: Literal["standby.signal", "recovery.signal"] | None = None,
    ) -> None:
        """Describe a cluster; nothing happens before :meth:`start` or ``with``.

        Args:
            version: major version, 14 to 18.
            segment_size: of the WAL, in bytes (of the backup's WAL, where there is one).
            checksums: of the pages; None takes the version's default (on from 18).
            config: lines of postgresql.conf, over this module's defaults.
            initdb: further options of initdb, for example ``--locale=C``.
            unique: run initdb anew, so that the system identifier is this cluster's alone.
                Clusters made without it from the same options share one.
            backup: a plain base backup whose copy becomes the data directory; the options of
                initdb are ignored then.
            signal_file: which signal file to put into the copy of the backup.
        """
        self.version = version
        self.binaries: Binaries = find_binaries(version)
        room = f"{max(80 << 20, 2 * segment_size) >> 20}MB"
        self.config: dict[str, Setting] = {
            **_DEFAULTS,
            "min_wal_size": room,
            **(config or {}),
        }
        self.segment_size = segment_size
        self._initdb = initdb_options(version, segment_size, checksums, initdb)
        self._unique = unique
        self._backup = backup
        self._signal_file = signal_file
        self._stack = contextlib.ExitStack()
        self._postmaster: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self._root: Path | None = None
        self.port = 0

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def root(self) -> Path:
        """The cluster's own directory: holds the data directory, the socket and the log."""
        if self._root is None:
            raise RuntimeError("the cluster does not exist yet: call start() or create()")
        return self._root

    @property
    def data_directory(self) -> Path:
        return self.root / "data"

    @property
    def wal_directory(self) -> Path:
        return self.data_directory / "pg_wal"

    @property
    def dsn(self) -> str:
        """Connection string of the superuser, through the unix socket."""
        return make_conninfo(host=str(self.root), port=self.port, user=SUPERUSER, dbname="postgres")

    @property
    def replication_dsn(self) -> str:
        """Connection string of a physical replication connection, through the unix socket."""
        return make_conninfo(
            host=str(self.root), port=self.port, user=SUPERUSER, replication="true"
        )

    @property
    def running(self) -> bool:
        return self._postmaster is not None and self._postmaster.poll() is None

    def client(self, name: str) -> Path | None:
        """Path of a client program of this major version, or None where nobody ships one."""
        return self.binaries.client(name)

    def log_text(self) -> str:
        """Everything that the server has logged."""
        return (self.root / "log").read_text(errors="replace")

    # Life and death

    def create(self) -> None:
        """Make the cluster's directory, without starting the server."""
        if self._root is not None:
            return
        try:
            self._root = self._stack.enter_context(directory_for_server(roomy_directory()))
            self.port = self._stack.enter_context(reserved_port())
            self._log = self._stack.enter_context((self._root / "log").open("ab"))
            if self._backup is not None:
                copy_tree(self._backup, self.data_directory)
                self._adopt_backup()
            elif self._unique:
                run_initdb(self.binaries, self._initdb, self.data_directory)
            else:
                copy_tree(template(self.binaries, self._initdb), self.data_directory)
        except BaseException:
            self.close()
            raise

    def start(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start the server and wait until it takes connections (or, not hot, until it recovers)."""
        if self.running:
            raise RuntimeError("the server runs already")
        self.create()
        self._write_config()
        command = [str(self.binaries.server / "postgres"), "-D", str(self.data_directory)]
        self._postmaster = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            cwd=self.root,
            start_new_session=True,
            env={**os.environ, "LC_ALL": "C", "TZ": "UTC"},
            **identity_arguments(),
        )
        try:
            self._wait_until_ready(self._postmaster, timeout_s)
        except BaseException:
            self.crash()
            raise

    def stop(self, mode: StopMode = "fast", timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Shut the server down as ``pg_ctl stop -m MODE`` does; kill it when it takes too long."""
        if self._postmaster is None:
            return
        self._postmaster.send_signal(_STOP_SIGNALS[mode])
        try:
            self._postmaster.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.crash()
            raise self._failed(f"no {mode} shutdown within {timeout_s} s") from None
        self._postmaster = None

    def crash(self) -> None:
        """Kill the postmaster and all of its children at one instant, as a power cut would."""
        postmaster, self._postmaster = self._postmaster, None
        if postmaster is None:
            return
        if postmaster.poll() is None:
            postmaster.send_signal(signal.SIGSTOP)  # it starts no further children
            with contextlib.ExitStack() as stack:
                children = [stack.enter_context(_pidfd(pid)) for pid in _children(postmaster.pid)]
                for child in children:
                    _kill(child)
                postmaster.kill()
                postmaster.wait()
                for child in children:
                    if child >= 0:
                        select.select([child], [], [])
        else:
            postmaster.wait()

    def restart(self, mode: StopMode = "fast") -> None:
        self.stop(mode)
        self.start()

    def close(self) -> None:
        """Kill the server and remove everything that it left on the disk."""
        self.crash()
        self._stack.close()
        self._root = None

    def configure(self, **settings: Setting) -> None:
        """Change settings; a running server reads them at once (those that need no restart)."""
        self.config.update(settings)
        if self._root is not None:
            self._write_config()
        if self._postmaster is not None:
            self._postmaster.send_signal(signal.SIGHUP)

    def promote(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """End recovery and wait until the server accepts writes."""
        promoted = self.execute("SELECT pg_promote(true, %s)", [int(timeout_s)])
        if promoted != [(True,)]:
            raise self._failed(f"no promotion within {timeout_s} s")

    # SQL

    def connect(self, **parameters: Any) -> psycopg.Connection[tuple[Any, ...]]:
        """A connection of the superuser, in autocommit mode unless told otherwise."""
        parameters.setdefault("autocommit", True)
        return psycopg.connect(self.dsn, **parameters)

    def execute(
        self, sql: str, parameters: Sequence[object] | None = None, **connection: Any
    ) -> list[tuple[Any, ...]]:
        """Run SQL on a connection of its own; the rows of its last statement, if it returns any."""
        with self.connect(**connection) as session:
            cursor = session.execute(sql.encode(), parameters)
            while cursor.nextset():
                pass
            return cursor.fetchall() if cursor.description else []

    def insert_lsn(self) -> int:
        """The end of the WAL that the server has produced, flushed or not."""
        return self._lsn("pg_current_wal_insert_lsn()")

    def flush_lsn(self) -> int:
        return self._lsn("pg_current_wal_flush_lsn()")

    def switch_wal(self) -> int:
        """End the current WAL segment; the LSN after the switch record."""
        return self._lsn("pg_switch_wal()")

    # Copies

    def base_backup(self, target: Path, *options: str) -> Path:
        """Take a plain base backup with pg_basebackup into ``target``, which must not exist.

        The servers' user does not own it: pass it to ``PostgresServer(backup=...)``, which copies.
        """
        command = [str(wheel_client("pg_basebackup")), "-d", self.dsn, "-D", str(target)]
        command += ["-X", "stream", "-c", "fast", "--no-sync", *options]
        subprocess.run(command, check=True, capture_output=True, text=True)
        return target

    @contextlib.contextmanager
    def standby(self, config: Mapping[str, Setting] | None = None) -> Iterator["PostgresServer"]:
        """A running hot standby of this server, made from a base backup."""
        with tempfile.TemporaryDirectory(prefix="ws-backup-") as scratch:
            backup = self.base_backup(Path(scratch) / "data")
            settings: dict[str, Setting] = {"primary_conninfo": self.dsn, **(config or {})}
            with PostgresServer(
                self.version,
                segment_size=self.segment_size,
                config=settings,
                backup=backup,
                signal_file="standby.signal",
            ) as server:
                yield server

    # Inside

    def _lsn(self, expression: str) -> int:
        rows = self.execute(f"SELECT ({expression} - '0/0'::pg_lsn)::bigint")
        return int(rows[0][0])

    def _write_config(self) -> None:
        settings = {
            **self.config,
            "port": self.port,
            "unix_socket_directories": str(self.root),
        }
        lines = [f"{name} = {_quoted(value)}\n" for name, value in settings.items()]
        (self.data_directory / "postgresql.conf").write_text("".join(lines))

    def _adopt_backup(self) -> None:
        self.data_directory.chmod(0o700)
        (self.data_directory / "postmaster.pid").unlink(missing_ok=True)
        if self._signal_file is not None:
            (self.data_directory / self._signal_file).touch()
        give_to_server(self.data_directory)

    def _wait_until_ready(self, postmaster: subprocess.Popen[bytes], timeout_s: float) -> None:
        # The postmaster's own word, as pg_ctl -w reads it: line 8 of postmaster.pid.
        pid_file = self.data_directory / "postmaster.pid"
        deadline = time.monotonic() + timeout_s
        while True:
            if postmaster.poll() is not None:
                raise self._failed(f"the server ended with status {postmaster.returncode}")
            if time.monotonic() > deadline:
                raise self._failed(f"the server was not ready within {timeout_s} s")
            with contextlib.suppress(FileNotFoundError):
                lines = pid_file.read_text().splitlines()
                ours = len(lines) >= 8 and lines[0] == str(postmaster.pid)
                if ours and lines[7].strip() in ("ready", "standby"):
                    return
            time.sleep(0.005)

    def _failed(self, what: str) -> ServerFailed:
        tail = "\n".join(self.log_text().splitlines()[-30:])
        return ServerFailed(f"PostgreSQL {self.version}: {what}; its log ends with:\n{tail}")


def _quoted(value: Setting) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "'" + str(value).replace("\\", "\\\\").replace("'", "''") + "'"


def _children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in listed.split()]


@contextlib.contextmanager
def _pidfd(pid: int) -> Iterator[int]:
    """A file descriptor of a process, or -1 when it is gone already."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        yield -1
        return
    try:
        yield fd
    finally:
        os.close(fd)


def _kill(pidfd: int) -> None:
    if pidfd >= 0:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
