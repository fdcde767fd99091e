"""Notices base backups that come to a store, or go, while it is written to."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

import trio

from walstream.app.page_service import base_of, is_indexed
from walstream.errors import StorageError, StoreError, WalError
from walstream.pages.service import PageService
from walstream.segments.files import read_error
from walstream.store.base_backup import BaseBackup, list_base_backups
from walstream.store.base_directory import is_of_history
from walstream.store.removed import Moments, RemovedWal, answerable, read_removed
from walstream.store.store import Store
from walstream.wal.model import format_lsn
from walstream.wal.timeline import TimelineHistory

log = logging.getLogger("walstream")

INTERVAL_S = 2.0
SETTLED_NS = 1_000_000_000


class BaseWatch:
    """Has a page service start from the base backups that are there now, and
    answer for the moments that these and WAL give. One owner.

    Other processes make and remove them, under the lock of ``base/``.

    Args:
        store: where they are.
        pages: whose they are to be.
        history: returns the history of WAL as it is now; called in threads, one at a time.
        backups: those that ``pages`` has already.
    """

    def __init__(
        self,
        store: Store,
        pages: PageService,
        history: Callable[[], TimelineHistory],
        backups: Sequence[BaseBackup],
    ) -> None:
        self._store = store
        self._pages = pages
        self._history = history
        self._backups = list(backups)
        self._seen: tuple[int, TimelineHistory, tuple[RemovedWal, ...]] | None = None
        self._trouble = ""
        self._limiter = trio.CapacityLimiter(1)

    async def run(self) -> None:
        """Looks now and then.

        Cancellation: nothing is left behind.
        """
        while True:
            await trio.sleep(INTERVAL_S)
            await self.look()

    async def look(self) -> None:
        """Looks whether base backups came or went. What cannot be read is told of once.

        Cancellation: waits for the thread; nothing is left behind.
        """
        try:
            await trio.to_thread.run_sync(self._look, limiter=self._limiter)
        except (StoreError, StorageError, WalError) as error:
            if str(error) != self._trouble:
                log.warning("%s; the base backups that were known before still serve", error)
            self._trouble = str(error)
        else:
            self._trouble = ""

    def _look(self) -> None:
        base_path = self._store.base_path
        try:
            changed_ns = base_path.stat().st_mtime_ns
        except OSError as exc:
            raise read_error("look at", base_path, exc) from exc
        history = self._history()
        removed = read_removed(self._store.wal_path)
        if self._seen == (changed_ns, history, removed):
            return
        there = list_base_backups(base_path)
        index = self._pages.index
        backups = [
            backup
            for backup in there
            if is_of_history(backup, history) and is_indexed(index, backup)
        ]
        moments = answerable(backups, removed)
        if backups and (backups != self._backups or moments != self._pages.moments):
            self._take(backups, moments)
        # Another change within the same tick of the clock would not be seen.
        settled = time.time_ns() - changed_ns > SETTLED_NS
        self._seen = (changed_ns, history, removed) if settled else None

    def _take(self, backups: list[BaseBackup], moments: Sequence[Moments]) -> None:
        before = {backup.path: backup for backup in self._backups}
        kept = {base.pages.path: base for base in self._pages.bases}
        bases = []
        for backup in backups:
            same = before.pop(backup.path, None) == backup and backup.path in kept
            if not same:
                log.info("pages may start from the base at %s", format_lsn(backup.start_lsn))
            # One that stays keeps what was proven of it.
            bases.append(kept[backup.path] if same else base_of(self._store, backup))
        for gone in before.values():
            log.info("the base at %s is there no more", format_lsn(gone.start_lsn))
        self._pages.replace_bases(bases, moments)
        self._backups = backups
