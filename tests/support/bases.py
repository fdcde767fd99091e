"""More base backups of a store than the one that ``walstream run`` takes."""

from __future__ import annotations

from pathlib import Path

import trio

from walstream.receive.hosts import with_first_that_will_do
from walstream.replication.backup import take_base_backup
from walstream.replication.libpq import ReplicationConnection
from walstream.store.base_backup import BackupWriter, BaseBackup


def take_base(store: Path, dsn: str) -> BaseBackup:
    """Takes a base backup of a server into ``base/`` of a store, beside whoever uses it."""
    writer = BackupWriter(store / "base")

    async def take(connection: ReplicationConnection) -> None:
        await take_base_backup(connection, writer)

    async def main() -> None:
        await with_first_that_will_do(dsn, take, receive_timeout_s=60.0)

    trio.run(main)
    assert writer.result is not None
    return writer.result
