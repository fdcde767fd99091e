"""Makes a store ready to stream into: identity, slot, base backup; takes another one into it."""

from __future__ import annotations

import logging
from functools import partial

import trio

from walstream.app.full_disk import WaitForSpace, with_space
from walstream.config import RunConfig
from walstream.errors import ServerRefused
from walstream.receive.hosts import with_first_that_will_do
from walstream.replication.backup import take_base_backup
from walstream.replication.libpq import ReplicationConnection
from walstream.replication.upstream import read_upstream
from walstream.status.report import show_backup
from walstream.store.base_backup import (
    BackupWriter,
    BaseBackup,
    list_base_backups,
    remove_unfinished,
)
from walstream.store.base_directory import lock_bases
from walstream.store.file_layer import DirectoryLock
from walstream.store.store import Store, StoreIdentity
from walstream.tasks.supervise import open_bare_nursery
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

    A store whose base backup was interrupted gets a new one, one that was imported its slot. Of
    several addresses the first that will do is taken, as in every session later.

    Raises:
        ConnectionLost, ServerRefused, ProtocolError, StoreError, StorageError.

    Cancellation: an unfinished backup is removed; the slot stays.
    """
    making = _Making(config)
    try:
        await trio.to_thread.run_sync(making.open)
        if not making.backups or making.imported:
            await with_first_that_will_do(
                config.conninfo, making.make, receive_timeout_s=config.receive_timeout_s
            )
    except BaseException:
        if making.store is not None:
            making.store.close()
        raise
    finally:
        making.release()
    assert making.store is not None
    return making.store, making.backups


class _Making:
    """A store that is being made: what there is of it by now."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.store: Store | None = None
        self.lock: DirectoryLock | None = None
        self.backups: list[BaseBackup] = []
        # The store has all that it needs, but never streamed: the slot may not be there.
        self.imported = False

    def open(self) -> None:
        """Opens what is there, in a thread."""
        if Store.exists(self.config.store):
            self.store = Store.open(self.config.store)
            self.backups = list_base_backups(self.store.base_path)
            self.imported = bool(self.backups) and not self.store.status_path.exists()

    def create(self, identity: StoreIdentity, group_access: bool) -> None:
        """Makes the store, or compares it with the server; removes what was left unfinished."""
        if self.store is None:
            path = self.config.store
            self.store = Store.create(path, identity, group_access=group_access)
        else:
            self.store.check(identity)
        # Held until the backup is complete: whatever is unfinished is nobody's.
        self.lock = self.lock or lock_bases(self.store.base_path)
        remove_unfinished(self.store.base_path)

    def release(self) -> None:
        """Lets others make base backups."""
        if self.lock is not None:
            self.lock.release()
            self.lock = None

    async def make(self, connection: ReplicationConnection) -> None:
        """Makes the store from a server, with a base backup of it, as far as it is not there."""
        config = self.config
        identity = await server_identity(connection)
        await with_space(partial(self.create, identity, await _group_access(config, connection)))
        store = self.store
        assert store is not None
        if config.slot is not None:
            await connection.create_physical_slot(config.slot, if_not_exists=True)
        if self.imported:
            return
        await take_backup(connection, store, terminal=config.show_progress)
        self.backups = await trio.to_thread.run_sync(list_base_backups, store.base_path)


async def take_backup(
    connection: ReplicationConnection, store: Store, *, terminal: bool, fast: bool = True
) -> BaseBackup:
    """Takes a base backup of the server into a store, and returns it.

    Only for who holds the lock of ``base/``. A full disk is waited for.

    Args:
        connection: to the server.
        store: where it goes.
        terminal: keeps a line on standard error.
        fast: have the server make its checkpoint at once.

    Raises:
        ConnectionLost, ServerRefused, ProtocolError, StoreError, StorageError.

    Cancellation: the unfinished backup is removed; close the connection.
    """
    log.info("taking a base backup into %s", store.base_path)
    writer = await trio.to_thread.run_sync(
        lambda: BackupWriter(
            store.base_path, file_mode=store.file_mode, wait_for_space=WaitForSpace()
        )
    )
    with StatusLine(terminal) as line:
        async with open_bare_nursery() as nursery:
            nursery.start_soon(show_backup, lambda: writer.bytes_written, line)
            await take_base_backup(connection, writer, fast=fast)
            nursery.cancel_scope.cancel()
    log.info("the base backup is complete: %.0f MB", writer.bytes_written / 1e6)
    assert writer.result is not None
    return writer.result


async def _group_access(config: RunConfig, connection: ReplicationConnection) -> bool:
    """Whether a new store is readable by its group: as the server's data directory is."""
    return config.group_access or await connection.show("data_directory_mode") == "0750"
