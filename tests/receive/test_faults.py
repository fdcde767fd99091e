"""A bad network, a silent server, a full disk, TLS: the session ends or waits, WAL stays right."""

from __future__ import annotations

import errno
import filecmp
import os
import random
import signal
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio
from psycopg.conninfo import make_conninfo
from trio_util import AsyncValue

from tests.support.servers import PostgresServer
from walstream.errors import ConnectionLost, NoSpace, WriteError
from walstream.receive.receiver import Receiver
from walstream.replication.libpq import connect
from walstream.store import write_queue
from walstream.store.file_layer import FileLayer
from walstream.store.writer import Writer
from walstream.tasks.supervise import Backoff, leaves

T = TypeVar("T")
MB = 1 << 20
TABLE = "CREATE TABLE IF NOT EXISTS t (i int, x text);"
WORK = TABLE + "INSERT INTO t SELECT i, repeat('x', 50) FROM generate_series(1, 20000) i"


async def in_thread(function: Callable[..., T], *args: object) -> T:
    return await trio.to_thread.run_sync(function, *args)


def tcp(server: PostgresServer, port: int | None = None, **more: Any) -> str:
    return make_conninfo(
        host="127.0.0.1", port=port or server.port, user="postgres", dbname="postgres", **more
    )


@asynccontextmanager
async def receiving(
    conninfo: str,
    directory: Path,
    files: FileLayer | None = None,
    *,
    synchronous: bool = False,
    **options: Any,
) -> AsyncIterator[tuple[Receiver, Writer]]:
    writer = Writer(directory, files=files, synchronous=synchronous)
    options.setdefault("backoff", Backoff(0.01, 0.05))
    options.setdefault("report_flush", synchronous)
    receiver = Receiver(AsyncValue(conninfo), writer, **options)
    async with trio.open_nursery() as nursery:
        await nursery.start(writer.run)
        await nursery.start(receiver.run)
        yield receiver, writer
        receiver.stop()
        writer.close()


def assert_same(directory: Path, server: PostgresServer) -> None:
    complete = [path for path in directory.iterdir() if len(path.name) == 24]
    assert complete
    for path in complete:
        assert filecmp.cmp(path, server.wal_directory / path.name, shallow=False), path.name


class Proxy:
    """Forwards TCP in pieces; cuts each connection after ``limits.pop()`` bytes from the server."""

    def __init__(self, port: int, limits: list[int], rng: random.Random) -> None:
        self.limits = limits
        self.connections = 0
        self._server_port = port
        self._rng = rng

    async def run(self, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        task_status.started(listeners[0].socket.getsockname()[1])
        await trio.serve_listeners(self._serve, listeners)

    async def _serve(self, client: trio.SocketStream) -> None:
        self.connections += 1
        limit = self.limits.pop() if self.limits else 1 << 60
        server = await trio.open_tcp_stream("127.0.0.1", self._server_port)
        async with client, server, trio.open_nursery() as nursery:
            nursery.start_soon(self._pump, client, server, 1 << 60, nursery.cancel_scope)
            nursery.start_soon(self._pump, server, client, limit, nursery.cancel_scope)

    async def _pump(
        self, source: trio.SocketStream, sink: trio.SocketStream, limit: int, end: trio.CancelScope
    ) -> None:
        try:
            while limit > 0:
                size = min(limit, self._rng.choice((1, 7, 25, 1000, 70000)))
                data = await source.receive_some(size)
                if not data:
                    break
                limit -= len(data)
                await sink.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        end.cancel()


@pytest.mark.parametrize("synchronous", [False, True])
async def test_a_network_that_cuts_anywhere(tmp_path: Path, synchronous: bool) -> None:
    """Cut within every part of a message: start-up, headers, XLogData, and in the middle of WAL."""
    rng = random.Random(3)
    # Start-up takes some 700 bytes; each later cut is one byte further into the stream.
    limits = [*range(400, 1600, 25), *(rng.randrange(2000, 600_000) for _ in range(12))]
    rng.shuffle(limits)
    with PostgresServer(18, segment_size=MB) as server:
        proxy = Proxy(server.port, limits, rng)
        async with trio.open_nursery() as nursery:
            port = await nursery.start(proxy.run)
            async with receiving(tcp(server, port), tmp_path, synchronous=synchronous) as (
                receiver,
                writer,
            ):
                for _ in range(2):
                    await in_thread(server.execute, WORK)
                end = await in_thread(server.switch_wal)
                with trio.fail_after(120):
                    await writer.received.wait_for(end)
                    await writer.flush()
                assert receiver.state.sessions > 3
            nursery.cancel_scope.cancel()
        assert proxy.connections > 20
        assert_same(tmp_path, server)


@pytest.mark.parametrize("synchronous", [False, True])
async def test_a_silent_server_is_left_and_found_again(tmp_path: Path, synchronous: bool) -> None:
    with PostgresServer(18, segment_size=MB) as server:
        pid = 0
        async with receiving(
            tcp(server),
            tmp_path,
            receive_timeout_s=1.0,
            connect_timeout_s=1.0,
            synchronous=synchronous,
        ) as (receiver, writer):
            rows = await in_thread(server.execute, "SELECT pid FROM pg_stat_replication")
            pid = rows[0][0]
            os.kill(pid, signal.SIGSTOP)
            try:
                with trio.fail_after(50):
                    await receiver.disconnected.wait()
                assert "no message from the server for 1 s" in receiver.state.last_error
            finally:
                os.kill(pid, signal.SIGCONT)
            await in_thread(server.execute, WORK)
            end = await in_thread(server.switch_wal)
            with trio.fail_after(50):
                await writer.received.wait_for(end)
        assert_same(tmp_path, server)


async def test_an_idle_server_is_pinged_not_left(tmp_path: Path) -> None:
    with PostgresServer(18, segment_size=MB, config={"wal_sender_timeout": 0}) as server:
        async with receiving(tcp(server), tmp_path, receive_timeout_s=1.0) as (receiver, _):
            with trio.move_on_after(4):
                await receiver.disconnected.wait()
            assert receiver.state.sessions == 1
            assert receiver.state.phase == "streaming"


class FullDisk(FileLayer):
    """A disk that is full for as long as ``full`` is set."""

    full = False

    def _check(self) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def allocate(self, fd: int, size: int) -> None:
        self._check()
        super().allocate(fd, size)

    def write(self, fd: int, buffers: Sequence[bytes | memoryview], offset: int) -> int:
        self._check()
        return super().write(fd, buffers, offset)


@pytest.mark.parametrize("synchronous", [False, True])
async def test_a_full_disk_pauses_while_heartbeats_flow(tmp_path: Path, synchronous: bool) -> None:
    disk = FullDisk()
    with PostgresServer(18, segment_size=MB, config={"wal_sender_timeout": "1s"}) as server:
        async with receiving(
            tcp(server),
            tmp_path,
            files=disk,
            status_interval_s=0.3,
            report_flush=True,
            synchronous=synchronous,
        ) as (receiver, writer):
            await in_thread(server.execute, WORK)
            disk.full = True
            before = writer.flushed.value
            for _ in range(20):
                await in_thread(server.execute, WORK)
            end = await in_thread(server.switch_wal)
            with trio.move_on_after(4):  # four times wal_sender_timeout
                await receiver.disconnected.wait()
            assert writer.state.waiting_for_space
            assert receiver.state.sessions == 1
            assert writer.flushed.value <= end
            disk.full = False
            with trio.fail_after(60):
                await writer.received.wait_for(end)
                await writer.flush()
            assert writer.flushed.value > before
            assert receiver.state.sessions == 1
            assert not writer.state.waiting_for_space
        assert_same(tmp_path, server)


async def test_a_full_disk_lets_a_server_shut_down_and_a_person_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_queue, "FULL_DISK_PATIENCE_S", 0.5)
    disk = FullDisk()
    with (
        PostgresServer(18, segment_size=MB) as server,
        pytest.RaisesGroup(NoSpace, flatten_subgroups=True),
        trio.fail_after(120),
    ):
        async with receiving(tcp(server), tmp_path, files=disk, report_flush=True) as (
            receiver,
            writer,
        ):
            disk.full = True
            for _ in range(6):
                await in_thread(server.execute, WORK)
            await in_thread(server.stop)
            assert writer.state.waiting_for_space
            await receiver.disconnected.wait()


class SlowDisk(FileLayer):
    """A disk whose next fdatasync, once ``slow`` is set, lasts until ``go_on`` is."""

    def __init__(self) -> None:
        self.slow = False
        self.began = threading.Event()
        self.go_on = threading.Event()

    def fdatasync(self, fd: int) -> None:
        if self.slow:
            self.began.set()
            self.go_on.wait(60)
        super().fdatasync(fd)


SENT_AND_FLUSHED = (
    "SELECT (sent_lsn - '0/0'::pg_lsn)::bigint, (flush_lsn - '0/0'::pg_lsn)::bigint "
    "FROM pg_stat_replication"
)


@pytest.mark.parametrize("synchronous", [False, True])
async def test_heartbeats_flow_while_a_flush_blocks(tmp_path: Path, synchronous: bool) -> None:
    """Also those that the server asks for: the status interval is longer than its patience."""
    disk = SlowDisk()
    with PostgresServer(18, segment_size=MB, config={"wal_sender_timeout": "1s"}) as server:
        async with receiving(
            tcp(server), tmp_path, files=disk, synchronous=synchronous, report_flush=True
        ) as (receiver, writer):
            await in_thread(server.execute, WORK)
            with trio.fail_after(50):
                await writer.received.wait_for(await in_thread(server.flush_lsn))
                await writer.flush()
            disk.slow = True
            await in_thread(server.execute, "INSERT INTO t VALUES (1, 'waits')")
            written = await in_thread(server.flush_lsn)
            with trio.fail_after(50):
                await writer.received.wait_for(written)
                writer.request_flush()
                await in_thread(disk.began.wait)
            before = writer.flushed.value
            with trio.move_on_after(4):  # four times wal_sender_timeout
                await receiver.disconnected.wait()
            assert receiver.state.sessions == 1
            assert writer.flushed.value == before < written
            ((sent, flushed),) = await in_thread(server.execute, SENT_AND_FLUSHED)
            assert sent >= written > before >= flushed
            await in_thread(server.execute, "INSERT INTO t VALUES (2, 'is received meanwhile')")
            with trio.fail_after(50):
                await writer.received.wait_for(await in_thread(server.flush_lsn))
            disk.slow = False
            disk.go_on.set()
            with trio.fail_after(50):
                await writer.flush()
            assert writer.flushed.value > written
            assert receiver.state.sessions == 1
            end = await in_thread(server.switch_wal)
            with trio.fail_after(50):
                await writer.received.wait_for(end)
                await writer.flush()
        assert_same(tmp_path, server)


class SlowCompletion(FileLayer):
    """The fsyncs of a full segment last until ``go_on`` is set; then they fail if they are to."""

    def __init__(self) -> None:
        self.fails = False
        self.began = threading.Event()
        self.go_on = threading.Event()

    def fsync(self, fd: int) -> None:
        if threading.current_thread().name.startswith("walstream fsync"):
            self.began.set()
            self.go_on.wait(60)
            if self.fails:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().fsync(fd)


def wal_files(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir() if not path.name.endswith(".tmp")}


async def test_the_next_segment_is_written_while_one_is_made_durable(tmp_path: Path) -> None:
    """It is not reported, and not seen, before; heartbeats flow all the time."""
    disk = SlowCompletion()
    with PostgresServer(18, segment_size=MB, config={"wal_sender_timeout": "1s"}) as server:
        async with receiving(
            tcp(server), tmp_path, files=disk, report_flush=True, status_interval_s=0.3
        ) as (receiver, writer):
            switch = await in_thread(server.switch_wal)
            boundary = switch + -switch % MB
            await in_thread(server.execute, TABLE)
            with trio.fail_after(50):
                await in_thread(disk.began.wait)
                await in_thread(server.execute, "INSERT INTO t VALUES (1, 'x')")
                written = await in_thread(server.flush_lsn)
                await writer.written.wait_for(written)
            names = wal_files(tmp_path)
            with trio.move_on_after(3):  # three times wal_sender_timeout
                await receiver.disconnected.wait()
            assert receiver.state.sessions == 1
            assert writer.flushed.value < boundary < written
            assert wal_files(tmp_path) == names
            assert len([name for name in names if name.endswith(".partial")]) == 1
            disk.go_on.set()
            with trio.fail_after(50):
                await writer.flush()
            assert writer.flushed.value >= written
            for _ in range(3):
                await in_thread(server.execute, WORK)
            end = await in_thread(server.switch_wal)
            with trio.fail_after(50):
                await writer.received.wait_for(end)
                await writer.flush()
        assert_same(tmp_path, server)
        assert not list(tmp_path.glob("*.tmp"))


async def test_a_segment_that_cannot_be_made_durable_ends_it_all(tmp_path: Path) -> None:
    """Also where nothing more arrives; what was written behind it is never told of or seen."""
    disk = SlowCompletion()
    disk.fails = True
    with PostgresServer(18, segment_size=MB) as server:
        with pytest.raises(ExceptionGroup) as caught:  # noqa: ASYNC401
            async with receiving(tcp(server), tmp_path, files=disk) as (_, writer):
                await in_thread(server.switch_wal)
                await in_thread(server.execute, TABLE)
                with trio.fail_after(50):
                    await in_thread(disk.began.wait)
                    await writer.written.wait_for(await in_thread(server.flush_lsn))
                names = wal_files(tmp_path)
                disk.go_on.set()
                await trio.sleep_forever()
        assert [type(leaf) for leaf in leaves(caught.value)] == [WriteError]
        assert writer.flushed.value < writer.written.value
        assert wal_files(tmp_path) == names
        # The next process takes no notice of what was begun ahead, and removes it.
        assert list(tmp_path.glob("*.partial.tmp"))
        async with receiving(tcp(server), tmp_path) as (_, writer):
            assert not list(tmp_path.glob("*.partial.tmp"))
            await in_thread(server.execute, WORK)
            end = await in_thread(server.switch_wal)
            with trio.fail_after(50):
                await writer.received.wait_for(end)
                await writer.flush()
        assert_same(tmp_path, server)


class FailingSync(FileLayer):
    """Its fdatasync fails once, when ``failing`` is set; then it says that all is well."""

    failing = True

    def fdatasync(self, fd: int) -> None:
        if self.failing:
            self.failing = False
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().fdatasync(fd)


@pytest.mark.parametrize("synchronous", [False, True])
async def test_a_failed_fsync_is_fatal(tmp_path: Path, synchronous: bool) -> None:
    """It is not tried again: the kernel would say that what it lost is on disk."""
    disk = FailingSync()
    with PostgresServer(18, segment_size=MB) as server:
        disk.failing = False
        with pytest.raises(ExceptionGroup) as caught:  # noqa: ASYNC401
            async with receiving(tcp(server), tmp_path, files=disk, synchronous=synchronous) as (
                _,
                writer,
            ):
                await in_thread(server.execute, TABLE)
                with trio.fail_after(50):
                    await writer.received.wait_for(await in_thread(server.flush_lsn))
                    await writer.flush()
                flushed = writer.flushed.value
                disk.failing = True
                await in_thread(server.execute, "INSERT INTO t VALUES (1, 'x')")
                with trio.fail_after(50):
                    while True:
                        writer.request_flush()
                        await writer.flushed.wait_past(writer.received.value)
        assert [type(leaf) for leaf in leaves(caught.value)] == [WriteError]
        assert not disk.failing
        assert writer.flushed.value == flushed


@pytest.mark.parametrize("synchronous", [False, True])
async def test_a_new_connection_string_takes_effect_at_once(
    tmp_path: Path, synchronous: bool
) -> None:
    with PostgresServer(18, segment_size=MB) as server:
        conninfo = AsyncValue(tcp(server, application_name="before"))
        writer = Writer(tmp_path, synchronous=synchronous)
        receiver = Receiver(conninfo, writer, report_flush=synchronous)
        names = "SELECT application_name FROM pg_stat_replication"
        async with trio.open_nursery() as nursery:
            await nursery.start(writer.run)
            await nursery.start(receiver.run)
            assert await in_thread(server.execute, names) == [("before",)]
            conninfo.value = tcp(server, application_name="after")
            await in_thread(server.execute, WORK)
            end = await in_thread(server.switch_wal)
            with trio.fail_after(50):
                await writer.received.wait_for(end)
            assert await in_thread(server.execute, names) == [("after",)]
            receiver.stop()
            writer.close()
        assert "terminated" not in server.log_text()
        assert "unexpected EOF" not in server.log_text()
        assert_same(tmp_path, server)


async def test_the_next_host_is_tried_and_the_role_of_the_server_counts(tmp_path: Path) -> None:
    with PostgresServer(18, segment_size=MB) as server:
        conninfo = make_conninfo(
            host="127.0.0.1,localhost", port=f"1,{server.port}", user="postgres",
            target_session_attrs="read-write",
        )  # fmt: skip
        with await connect(conninfo) as connection:
            assert connection.name == f"localhost:{server.port}"
        wrong = make_conninfo(conninfo, target_session_attrs="standby")
        with pytest.raises(ConnectionLost, match="standby"):
            await connect(wrong)
        either = make_conninfo(conninfo, target_session_attrs="prefer-standby")
        with await connect(either) as connection:
            assert await connection.segment_size() == MB


# Debian's server and npm's are built with OpenSSL; the wheel's is not.
@pytest.mark.pg_versions(15)
@pytest.mark.parametrize("synchronous", [False, True])
async def test_tls_with_certificates(pg_version: int, synchronous: bool, tmp_path: Path) -> None:
    wal = tmp_path / "wal"
    wal.mkdir()
    certificate = tmp_path / "server.crt"
    with PostgresServer(pg_version, segment_size=MB) as server:
        key = server.data_directory / "server.key"
        await trio.run_process(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
             "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
             "-keyout", key, "-out", certificate],
            capture_stderr=True,
        )  # fmt: skip
        owner = server.data_directory.stat()
        stored = server.data_directory / "server.crt"
        stored.write_bytes(certificate.read_bytes())
        for path in (key, stored):
            path.chmod(0o600)
            if os.getuid() == 0:
                os.chown(path, owner.st_uid, owner.st_gid)
        server.configure(ssl=True)
        await in_thread(server.restart)
        conninfo = tcp(server, sslmode="verify-full", sslrootcert=str(certificate))
        async with receiving(conninfo, wal, synchronous=synchronous) as (receiver, writer):
            for _ in range(3):
                await in_thread(server.execute, WORK)
            end = await in_thread(server.switch_wal)
            with trio.fail_after(50):
                await writer.received.wait_for(end)
                await writer.flush()
            assert await in_thread(
                server.execute,
                "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_replication USING (pid)",
            ) == [(True,)]
            assert receiver.state.sessions == 1
        assert_same(wal, server)
