"""Makes a store ready to stream into: identity, slot, base backup."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from functools import partial

import trio

from walstream.app.full_disk import WaitForSpace, with_space
from walstream.config import RunConfig
from walstream.errors import (
    ServerRefused,
)
from walstream.progress import show_backup
from walstream.replication.backup import take_base_backup
from walstream.replication.libpq import ReplicationConnection, connect
from walstream.replication.upstream import read_upstream
from walstream.store.base_backup import (
    BackupWriter,
    BaseBackup,
    list_base_backups,
    remove_unfinished,
)
from walstream.store.store import Store, StoreIdentity
from walstream.tasks.supervise import single_error
from walstream.terminal import StatusLine
from walstream.wal.model import BLCKSZ

log = logging.getLogger("walstream")

WAL_LEVELS = ("replica", "logical")


async def server_identity(connection: ReplicationConnection) -> StoreIdentity:
    """Returns what binds a store to the server at the other end.

    Raises:
        ServerRefused: wal_level is too low, or the block size is not 8192 bytes.

    Cancellation: the connection is in the middle of a query: close it.
    """
    upstream = await read_upstream(connection, None)
    level = await connection.show("wal_level")
    if level not in WAL_LEVELS:
        raise ServerRefused(
            f"wal_level is {level}: set wal_level = replica on the server and restart it"
        )
    block_size = int(await connection.show("block_size"))
    if block_size != BLCKSZ:
        raise ServerRefused(f"block_size is {block_size}: walstream reads {BLCKSZ} only")
    return StoreIdentity(
        upstream.system_id,
        upstream.version,
        upstream.segment_size,
        block_size,
        await connection.show("data_checksums") == "on",
        await connection.show("wal_log_hints") == "on",
    )


async def prepare_store(config: RunConfig) -> tuple[Store, list[BaseBackup]]:
    """Opens the store, or makes it: identity, slot, base backup. Returns it locked.

    A store whose base backup was interrupted gets a new one.

    Raises:
        ConnectionLost, ServerRefused, ProtocolError, StoreError, StorageError.

    Cancellation: an unfinished backup is removed; the slot stays.
    """
    with ExitStack() as unfinished:
        store = None
        if Store.exists(config.store):
            store = Store.open(config.store)
            unfinished.callback(store.close)
            backups = list_base_backups(store.base_path)
            if backups:
                unfinished.pop_all()
                return store, backups
        with await connect(
            config.conninfo, receive_timeout_s=config.receive_timeout_s
        ) as connection:
            identity = await server_identity(connection)
            if store is None:
                group_access = await _group_access(config, connection)
                create = partial(Store.create, config.store, identity, group_access=group_access)
                store = await with_space(create)
                unfinished.callback(store.close)
            else:
                store.check(identity)
            remove_unfinished(store.base_path)
            if config.slot is not None:
                await connection.create_physical_slot(config.slot, if_not_exists=True)
            log.info("taking a base backup into %s", store.base_path)
            writer = BackupWriter(
                store.base_path, file_mode=store.file_mode, wait_for_space=WaitForSpace()
            )
            await _take_backup(connection, writer, config.show_progress)
        backups = list_base_backups(store.base_path)
        unfinished.pop_all()
        return store, backups


async def _take_backup(
    connection: ReplicationConnection, writer: BackupWriter, terminal: bool
) -> None:
    with StatusLine(terminal) as line:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(show_backup, lambda: writer.bytes_written, line)
                await take_base_backup(connection, writer)
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise single_error(group) from group
    log.info("the base backup is complete: %.0f MB", writer.bytes_written / 1e6)


async def _group_access(config: RunConfig, connection: ReplicationConnection) -> bool:
    """Whether a new store is readable by its group: as the server's data directory is."""
    return config.group_access or await connection.show("data_directory_mode") == "0750"
