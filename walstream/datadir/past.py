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
from walstream.wal.model import format_lsn


class Past:
    """The moments of one store that was opened for reading.

    Args:
        pages: rebuilds the store's pages.
        backups: its base backups, at least one.
    """

    def __init__(self, pages: PageService, backups: Sequence[BaseBackup]) -> None:
        self.pages = pages
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
        return find_moment(
            self.pages.index,
            asked,
            first.stop_lsn,
            self.pages.last_valid_lsn,
            first_time_us=time_to_us(datetime.fromtimestamp(described, UTC)),
        )

    def source(self, at_lsn: int) -> StateSource:
        """Returns where the state at an LSN is made from: the newest backup that ends before it.

        Raises:
            LsnNotAvailable: before the first backup ends.
        """
        fitting = [backup for backup in self.backups if backup.stop_lsn <= at_lsn]
        if not fitting:
            raise LsnNotAvailable(
                f"{format_lsn(at_lsn)} is before the store begins: the earliest moment is "
                f"{format_lsn(self.backups[0].stop_lsn)}"
            )
        pages = self.pages
        return StateSource(pages.index, pages.archive, fitting[-1], pages.facts.version)
