"""Takes a base backup over the replication protocol and hands it to whoever keeps it.

Knows the order of events of BASE_BACKUP, not files: ``store/base_backup.py`` is a target.
"""

from __future__ import annotations

from typing import Protocol

import trio

from walstream.replication.backup_stream import (
    ArchiveBegin,
    BackupData,
    BackupEnd,
    BackupEvent,
    BackupStart,
    stream_base_backup,
)
from walstream.replication.libpq import ReplicationConnection

BATCH_BYTES = 1 << 20


class BackupTarget(Protocol):
    """Takes the parts of a backup in order; called in a worker thread, may block."""

    def begin(self, start_lsn: int, timeline: int) -> None: ...
    def archive(self, tablespace: int) -> None: ...
    def manifest(self) -> None: ...
    def data(self, data: bytes | memoryview) -> None: ...
    def finish(self, stop_lsn: int, timeline: int) -> None: ...
    def abandon(self) -> None: ...


async def take_base_backup(
    connection: ReplicationConnection,
    target: BackupTarget,
    *,
    label: str = "walstream",
    fast: bool = True,
) -> BackupEnd:
    """Runs BASE_BACKUP into ``target``; returns where the backup ends.

    Raises:
        ConnectionLost, ServerRefused, ProtocolError: the server's side failed.
        StorageError: the target's side failed.

    Cancellation: ``target.abandon`` removes what was written; close the connection.
    """
    limiter = trio.CapacityLimiter(1)
    batch: list[BackupEvent] = []
    size = 0

    async def take(event: BackupEvent) -> None:  # noqa: ASYNC910
        nonlocal size
        batch.append(event)
        if isinstance(event, BackupData):
            size += len(event.data)
        if size >= BATCH_BYTES or isinstance(event, BackupEnd):
            events = batch.copy()
            batch.clear()
            size = 0
            await trio.to_thread.run_sync(_apply, target, events, limiter=limiter)

    try:
        return await stream_base_backup(connection, take, label, fast=fast)
    except BaseException:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(target.abandon, limiter=limiter)
        raise


def _apply(target: BackupTarget, events: list[BackupEvent]) -> None:
    for event in events:
        if isinstance(event, BackupData):
            target.data(event.data)
        elif isinstance(event, ArchiveBegin):
            target.archive(event.tablespace)
        elif isinstance(event, BackupStart):
            target.begin(event.start_lsn, event.timeline)
        elif isinstance(event, BackupEnd):
            target.finish(event.stop_lsn, event.timeline)
        else:
            target.manifest()
