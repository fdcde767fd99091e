"""Retention beside a running receiver: what can be had is looked at, what is to go goes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import trio

from walstream.app.retention import Collected, collect
from walstream.config import RetentionConfig
from walstream.errors import WalstreamError
from walstream.index.forget import forget
from walstream.index.page_index import PageIndex
from walstream.pages.service import PageService
from walstream.retention.plan import Plan
from walstream.retention.text import size_text
from walstream.status.monitor import Monitor
from walstream.status.window import take_window
from walstream.store.base_backup import list_base_backups
from walstream.store.removed import answerable
from walstream.store.store import Store
from walstream.wal.model import format_lsn

log = logging.getLogger("walstream")

WINDOW_S = 60.0
# The first look: what was received meanwhile is in the index by then, mostly.
FIRST_S = 5.0
# Between two batches that go out of the index: ingest comes first.
PAUSE_S = 0.05


@dataclass(frozen=True, slots=True)
class WatchedStore:
    """The parts of a store that this process writes to."""

    store: Store
    index: PageIndex
    pages: PageService


class RetentionWatch:
    """Looks at a store now and then. One owner.

    Args:
        parts: of the store.
        config: what is to be kept; None: all, only what can be had is looked at.
        monitor: is told of both.
    """

    def __init__(
        self, parts: WatchedStore, config: RetentionConfig | None, monitor: Monitor
    ) -> None:
        self._parts = parts
        self._config = config
        self._monitor = monitor
        self._limiter = trio.CapacityLimiter(1)
        self._trouble: dict[str, str] = {}

    async def run(self) -> None:
        """Looks, until cancelled.

        Cancellation: what is being moved or deleted is finished; the next look goes on.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_window)
            if self._config is not None:
                nursery.start_soon(self._keep_retention, self._config)

    async def _watch_window(self) -> None:
        delay_s = FIRST_S
        while True:
            await trio.sleep(delay_s)
            delay_s = WINDOW_S
            await self._try("window", self._look_at_window)

    def _look_at_window(self) -> None:
        self._monitor.window = take_window(self._parts.store, self._parts.index)

    async def _keep_retention(self, config: RetentionConfig) -> None:
        self._monitor.retention = "not looked yet"
        delay_s = min(FIRST_S, config.every_s)
        while True:
            await trio.sleep(delay_s)
            delay_s = config.every_s
            trouble = await self._try("retention", lambda: self._collect(config))
            if trouble:
                self._monitor.retention = f"NOTHING REMOVED: {trouble}"

    async def _try(self, what: str, work: Callable[[], None]) -> str:
        """Does something in a thread; returns what kept it from being done, told once in the log.

        Neither is a reason to stop receiving.
        """
        try:
            await trio.to_thread.run_sync(work, limiter=self._limiter)
        except WalstreamError as error:
            if self._trouble.get(what) != str(error):
                log.warning("%s: %s", what, error)
            self._trouble[what] = str(error)
            return str(error)
        self._trouble.pop(what, None)
        return ""

    def _collect(self, config: RetentionConfig) -> None:
        parts = self._parts
        before = parts.pages.bases, parts.pages.moments
        try:
            done = collect(
                parts.store.path,
                config,
                apply=True,
                index=parts.index,
                before_apply=self._leave,
            )
        except BaseException:
            # What is gone nevertheless is noticed by whoever watches base backups.
            parts.pages.replace_bases(*before)
            raise
        self._tell(config, done)
        forget(parts.index, done.gone, self._pause)

    def _leave(self, plan: Plan) -> None:
        """Has pages start only from what stays: a page that is being planned is waited for."""
        pages = self._parts.pages
        going = {item.begin for item in plan.going if item.kind == "base"}
        bases = [base for base in pages.bases if base.start_lsn not in going]
        known = {base.start_lsn for base in bases}
        backups = list_base_backups(self._parts.store.base_path)
        moments = answerable([b for b in backups if b.start_lsn in known], plan.removed)
        trio.from_thread.run(pages.leave_bases, bases, moments)

    def _tell(self, config: RetentionConfig, done: Collected) -> None:
        gone = sum(item.size for item in done.plan.going)
        words = f"from {format_lsn(done.plan.window_lsn)} on"
        if done.mark:
            log.info(
                "retention: %s and %s out of sight as %s: walstream gc undo brings it back",
                *(f"{len(done.plan.going)} files", size_text(gone), done.mark),
            )
            words += f", {size_text(gone)} taken away as {done.mark}"
        if done.swept.names:
            log.info("retention: %s deleted", size_text(done.swept.size))
            words += f", {size_text(done.swept.size)} deleted"
        at = datetime.fromtimestamp(time.time(), UTC).isoformat(" ", "seconds")
        self._monitor.retention = f"{words}; looked at {at}, every {config.every_s:.0f} s"

    def _pause(self) -> None:
        trio.from_thread.run(trio.sleep, PAUSE_S)
