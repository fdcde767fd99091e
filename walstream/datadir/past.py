"""A store's past: its moments, and what each of them is made from."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import trio

from walstream.errors import LsnNotAvailable, ReadError
from walstream.index.moment import (
    Moment,
    MomentText,
    find_moment,
    time_to_us,
)
from walstream.pages.service import PageService
from walstream.state.cluster import StateSource
from walstream.store.base_backup import BaseBackup
from walstream.store.leases import Lease
from walstream.wal.model import format_lsn


class Past:
    """The moments of one store that was opened for reading.

    Args:
        pages: rebuilds the store's pages.
        backups: its base backups, at least one.
        lease: what keeps gc from them, None for nothing.
    """

    def __init__(
        self, pages: PageService, backups: Sequence[BaseBackup], lease: Lease | None = None
    ) -> None:
        self.pages = pages
        self._lease = lease
        self.backups = sorted(backups, key=lambda backup: backup.stop_lsn)

    async def moment(self, asked: MomentText) -> Moment:
        """Returns the moment that was asked for (``index/moment.py``).

        Raises:
            LsnNotAvailable: there is no such moment, or it cannot be had.
            WalError, StorageError: the index or WAL cannot be read.

        Cancellation: nothing is left behind.
        """
        return await trio.to_thread.run_sync(self._find, asked)

    def _find(self, asked: MomentText) -> Moment:
        first = self.backups[0]
        try:
            # The description was written when the backup was complete: its end lies before.
            described = first.path.with_suffix(".toml").stat().st_mtime
        except OSError as exc:
            raise ReadError(f"cannot read {first.path}: {exc.strerror}", str(first.path)) from exc
        found = find_moment(
            self.pages.index,
            asked,
            first.stop_lsn,
            self.pages.last_valid_lsn,
            first_time_us=time_to_us(datetime.fromtimestamp(described, UTC)),
        )
        self.pages.planner.check_kept(found.lsn)
        return found

    async def keep_only(self, at_lsn: int) -> None:
        """Lets gc have what is not needed for one moment; no other is to be asked for then.

        Raises:
            LsnNotAvailable: as ``source``.
            StorageError: the lease cannot be changed.

        Cancellation: nothing is left behind.
        """
        first_needed = self.source(at_lsn).backup.first_needed_lsn
        if self._lease is not None:
            await trio.to_thread.run_sync(self._lease.narrow, first_needed, at_lsn)

    def source(self, at_lsn: int) -> StateSource:
        """Returns where the state at an LSN is made from: the newest backup that ends before it.

        Raises:
            LsnNotAvailable: before the first backup ends, or gc removed what it is made from.
        """
        fitting = [backup for backup in self.backups if backup.stop_lsn <= at_lsn]
        if not fitting:
            raise LsnNotAvailable(
                f"{format_lsn(at_lsn)} is before the store begins: the earliest moment is "
                f"{format_lsn(self.backups[0].stop_lsn)}"
            )
        pages = self.pages
        pages.planner.check_kept(at_lsn)
        return StateSource(pages.index, pages.archive, fitting[-1], pages.facts.version)
