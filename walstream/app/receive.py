"""``walstream receive``, and receiving for a program that has a nursery of its own."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import trio
from trio_util import AsyncValue

from walstream.app.intake import Intake, Started, report
from walstream.app.signals import obey_signals
from walstream.app.threads import closing_in_thread
from walstream.app.wal_directory import LockedWalDirectory
from walstream.config import ReceiveConfig
from walstream.errors import ConnectionLost, ServerRefused
from walstream.receive.chunk_sink import ChunkSink
from walstream.receive.hosts import with_first_that_will_do
from walstream.receive.receiver import Receiver
from walstream.receive.sink import WalSink
from walstream.replication.libpq import ReplicationConnection, connect
from walstream.segments.compression import parse_compression
from walstream.store.verifier import default_level
from walstream.store.writer import Writer
from walstream.tasks.supervise import open_bare_nursery
from walstream.tasks.watermark import Watermark
from walstream.wal.model import WalChunk
from walstream.wal.versions import VERSIONS

log = logging.getLogger("walstream")


async def receive(config: ReceiveConfig) -> None:
    """Receives until a signal, ``end_lsn``, or an error that a new connection does not cure.

    The first SIGINT or SIGTERM stops in good order, the second at once; SIGHUP reads the
    connection string again, or connects anew where there is nothing to read.

    Raises:
        ConnectionLost: no server can be reached at all, now or with ``loop`` off.
        WalstreamError: see ``Receiver.run`` and ``Writer.run``.

    Cancellation: what the kernel has is flushed.
    """
    async with _open_intake(config) as opened:
        os.umask(0o027 if opened.file_mode & 0o040 else 0o077)
        intake = opened.intake

        async def reload() -> None:
            if config.reread is None:
                intake.receiver.reconnect()
            else:
                intake.conninfo.value = await trio.to_thread.run_sync(config.reread)

        async with (
            obey_signals(intake.stop, reload, intake.waiting_for),
            open_bare_nursery((ConnectionLost,)) as telling,
        ):
            monitor = intake.monitor()
            telling.start_soon(report, monitor, opened.status_path, config.show_progress)
            await intake.run()
            telling.cancel_scope.cancel()


class Receiving(NamedTuple):
    """A receiver at work: how far it is, and how to end it.

    ``received`` is the end of what arrived, ``flushed`` of what is durable (or was taken): LSNs
    that can be waited for.
    """

    received: Watermark
    flushed: Watermark
    stop: Callable[[], None]
    """Ends the session in good order; ``receive_wal`` then returns."""
    reconnect: Callable[[], None]
    """Ends the session in good order and begins another."""


async def receive_wal(
    conninfo: str,
    to: str | os.PathLike[str] | Callable[[WalChunk], Awaitable[None]],
    *,
    slot: str | None = None,
    start: int | None = None,
    end: int | None = None,
    synchronous: bool = False,
    compression: str = "none",
    status_interval_s: float = 10.0,
    receive_timeout_s: float = 60.0,
    loop: bool = True,
    task_status: trio.TaskStatus[Receiving] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Receives a cluster's WAL into a directory, or gives it to a coroutine of the caller's.

    Run it in a nursery of your own; it reports started when WAL streams, or when it has ended::

        receiving = await nursery.start(receive_wal, "host=db1 user=replicator", Path("wal"))
        await receiving.flushed.wait_for(lsn)
        receiving.stop()

    A directory is kept as ``walstream receive`` keeps it: verified, durable, one writer at a time.
    A coroutine gets each chunk in order, without a gap or a repetition over all reconnections; the
    next comes when it has returned, and ``chunk.data`` is valid until then. What it has returned
    from counts as flushed: with a slot the server may remove it.

    Args:
        conninfo: libpq's connection string or URI; several hosts are tried in order.
        to: an existing directory, or what takes chunks.
        slot: a physical slot that exists.
        start: for a coroutine: the LSN to begin at; default: where the server's WAL ends. A
            directory goes on where it ends.
        end: stop when WAL up to there is flushed.
        synchronous: for a directory: flush at once, as a synchronous standby must.
        compression: for a directory: ``none``, ``gzip``, ``lz4`` or ``zstd``, with ``:LEVEL``.
        status_interval_s, receive_timeout_s, loop: as the options of ``walstream receive``.

    Raises:
        ValueError: no such compression.
        WalstreamError: see ``Receiver.run`` and ``Writer.run``; what the coroutine raises leaves
            as it is.

    Cancellation: a directory: what the kernel has is flushed. A coroutine: whether the last chunk
    was taken is for it to say.
    """
    streaming = trio.Event()
    sink: WalSink
    async with AsyncExitStack() as opened:
        if isinstance(to, str | os.PathLike):
            config = ReceiveConfig(
                conninfo,
                Path(to),
                slot=slot,
                end_lsn=end,
                status_interval_s=status_interval_s,
                receive_timeout_s=receive_timeout_s,
                synchronous=synchronous,
                loop=loop,
                compression=compression,
            )
            intake = (await opened.enter_async_context(_open_intake(config))).intake
            receiver, sink = intake.receiver, intake.writer
            run = partial(intake.run, streaming)
        else:
            sink = ChunkSink(to, start)
            receiver = Receiver(
                AsyncValue(conninfo),
                sink,
                slot=slot,
                status_interval_s=status_interval_s,
                receive_timeout_s=receive_timeout_s,
                end_lsn=end,
                loop=loop,
            )
            run = partial(receiver.run, task_status=Started(streaming))
        async with open_bare_nursery((ConnectionLost,)) as nursery:
            receiving = Receiving(sink.received, sink.flushed, receiver.stop, receiver.reconnect)
            told = False

            def tell() -> None:
                nonlocal told
                if not told:
                    told = True
                    task_status.started(receiving)

            async def tell_when_streaming() -> None:
                await streaming.wait()
                tell()

            nursery.start_soon(tell_when_streaming)
            await run()
            tell()  # all up to ``end`` was there: nothing had to stream
            nursery.cancel_scope.cancel()


class _Opened(NamedTuple):
    intake: Intake
    status_path: Path | None
    file_mode: int


@asynccontextmanager
async def _open_intake(config: ReceiveConfig) -> AsyncIterator[_Opened]:
    """Locks the directory and makes what receives into it; closes both in a thread."""
    verify = config.verify or default_level()
    if config.verify is None and verify != "records":
        log.warning("verifying page headers only: the kernels were not compiled; see --verify")
    compression = parse_compression(config.compression)
    locked = await trio.to_thread.run_sync(LockedWalDirectory, config.directory)
    async with closing_in_thread(locked):
        group = await _look_at_server(config, known=verify != "off")
        mode = locked.file_mode or (0o640 if group else 0o600)
        writer = Writer(
            locked.path,
            synchronous=config.synchronous,
            sync=config.sync,
            verify=verify,
            compression=compression,
            system_id=locked.system_id,
            file_mode=mode,
        )
        intake = Intake(
            config,
            writer,
            report_flush=config.slot is not None or config.synchronous,
            end_lsn=config.end_lsn,
        )
        yield _Opened(intake, config.status_file or locked.status_path, mode)


async def _look_at_server(config: ReceiveConfig, *, known: bool) -> bool:
    """Returns whether the server's data directory is open to its group.

    A server that cannot be reached at all is an error at once, as for pg_receivewal; so is one of
    a version that must be ``known`` and is not.
    """

    async def ask(connection: ReplicationConnection) -> bool:
        if known and connection.server_version not in VERSIONS:
            raise ServerRefused(
                f"PostgreSQL {connection.server_version} is not known (known: "
                f"{VERSIONS[0]} to {VERSIONS[-1]}); --verify=off stores it unread"
            )
        return await connection.show("data_directory_mode") == "0750"

    return await with_first_that_will_do(
        config.conninfo, ask, receive_timeout_s=config.receive_timeout_s
    )


async def change_slot(
    conninfo: str, slot: str, *, create: bool, if_not_exists: bool, receive_timeout_s: float
) -> None:
    """Creates a physical replication slot that keeps WAL from now on, or drops it.

    Raises:
        ConnectionLost, ServerRefused: no connection, or the server does not want to.

    Cancellation: the server may have done it.
    """
    with await connect(conninfo, receive_timeout_s=receive_timeout_s) as connection:
        if create:
            await connection.create_physical_slot(slot, if_not_exists=if_not_exists)
        else:
            await connection.drop_slot(slot)
