"""The application of ``walstream receive``: one cluster's WAL into one directory."""

from __future__ import annotations

import logging
import os

import trio

from walstream.app.intake import Intake, report
from walstream.app.signals import obey_signals
from walstream.app.threads import closing_in_thread
from walstream.app.wal_directory import LockedWalDirectory
from walstream.config import ReceiveConfig
from walstream.errors import ConnectionLost, ServerRefused
from walstream.receive.hosts import with_first_that_will_do
from walstream.replication.libpq import ReplicationConnection, connect
from walstream.segments.compression import parse_compression
from walstream.store.verifier import default_level
from walstream.store.writer import Writer
from walstream.tasks.supervise import open_bare_nursery
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
    verify = config.verify or default_level()
    if config.verify is None and verify != "records":
        log.warning("verifying page headers only: the kernels were not compiled; see --verify")
    locked = await trio.to_thread.run_sync(LockedWalDirectory, config.directory)
    async with closing_in_thread(locked):
        group = await _look_at_server(config, known=verify != "off")
        mode = locked.file_mode or (0o640 if group else 0o600)
        os.umask(0o027 if mode & 0o040 else 0o077)
        writer = Writer(
            locked.path,
            synchronous=config.synchronous,
            sync=config.sync,
            verify=verify,
            compression=parse_compression(config.compression),
            system_id=locked.system_id,
            file_mode=mode,
        )
        intake = Intake(
            config,
            writer,
            report_flush=config.slot is not None or config.synchronous,
            end_lsn=config.end_lsn,
        )
        status_path = config.status_file or locked.status_path

        async def reload() -> None:
            if config.reread is None:
                intake.receiver.reconnect()
            else:
                intake.conninfo.value = await trio.to_thread.run_sync(config.reread)

        async with (
            obey_signals(intake.stop, reload, intake.waiting_for),
            open_bare_nursery((ConnectionLost,)) as telling,
        ):
            telling.start_soon(report, intake.monitor(), status_path, config.show_progress)
            await intake.run()
            telling.cancel_scope.cancel()


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
