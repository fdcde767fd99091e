"""Retention of a store, put together: what the index knows, the plan, what is moved and deleted."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from walstream.config import RetentionConfig
from walstream.errors import LsnNotAvailable, SegmentMissing, StoreError
from walstream.index.branch import branch_end
from walstream.index.ends import last_commit, latest_time
from walstream.index.forget import forget
from walstream.index.moment import (
    MomentKind,
    MomentText,
    find_moment,
    time_to_us,
)
from walstream.index.page_index import PageIndex
from walstream.retention.plan import Plan, Policy, make_plan
from walstream.retention.survey import base_sizes, survey
from walstream.retention.tombstones import (
    Summary,
    apply_plan,
    condemn,
    sweep,
    tombstones,
    undo,
)
from walstream.rmgr.clock import POSTGRES_EPOCH
from walstream.segments.files import DirectoryFiles
from walstream.segments.names import segment_number
from walstream.segments.source import SegmentSource
from walstream.status.file import read_status
from walstream.store.base_backup import list_base_backups
from walstream.store.leases import closed_gate
from walstream.store.removed import RemovedWal, read_removed, without
from walstream.store.store import Store
from walstream.wal.timeline import INFINITY

# A file that is renamed while a directory is listed may be missed: it is looked at again.
LOOKS = 3
AGAIN_S = 0.2


class Collected(NamedTuple):
    """What a gc found and did. ``mark``: of what it took out of sight, "" for nothing.

    ``gone`` is the WAL that no undo brings back.
    """

    plan: Plan
    mark: str
    swept: Summary = Summary(0, 0)
    gone: tuple[RemovedWal, ...] = ()


def collect(
    path: Path,
    config: RetentionConfig,
    *,
    apply: bool,
    now: datetime | None = None,
    index: PageIndex | None = None,
    before_apply: Callable[[Plan], None] = lambda _plan: None,
    report: Callable[[int, int], None] = lambda _done, _total: None,
) -> Collected:
    """Plans what of a store goes; with ``apply`` takes it out of sight and deletes what is due.

    Blocks. The store may be in use.

    Args:
        path: the store.
        config: what is to be kept.
        apply: False only plans.
        now: (aware) what windows, holds and grace are counted from.
        index: that of the store where this process has it open.
        before_apply: called with the plan before anything is moved.
        report: called with how many names were deleted, and of how many.

    Raises:
        StoreError: no store; something there is not understood; another gc is at work.
        SegmentMissing: WAL of the window is missing.
        WalError, StorageError: something cannot be read, or not moved.
    """
    now = datetime.now(UTC) if now is None else now
    store = Store.open(path, lock=False)
    if index is not None:
        done = _collect(store, config, apply, now, index, before_apply)
    else:
        with closing(PageIndex(store.index_path, read_only=True)) as opened:
            done = _collect(store, config, apply, now, opened, before_apply)
    return done._replace(swept=sweep(store.path, report=report)) if apply else done


def _collect(
    store: Store,
    config: RetentionConfig,
    apply: bool,
    now: datetime,
    index: PageIndex,
    before_apply: Callable[[Plan], None],
) -> Collected:
    # Readers wait at the gate: nothing slow is done behind it.
    sizes = base_sizes(store)
    with closed_gate(store.path):
        plan = _plan(store, config, now, index, sizes)
        if not apply:
            return Collected(plan, "")
        if plan.going:
            before_apply(plan)
        mark = apply_plan(store, plan, now)
        condemn(store.path, now - timedelta(seconds=config.grace_s))
        return Collected(plan, mark, gone=_gone_for_good(store))


def _gone_for_good(store: Store) -> tuple[RemovedWal, ...]:
    """Returns the WAL that was removed and cannot be taken back."""
    size = store.identity.segment_size
    numbers = (
        segment_number(each.name, size)
        for each in tombstones(store.path)
        if each.path.parent == store.wal_path and not each.swept
    )
    buried = [RemovedWal(n * size, (n + 1) * size) for n in numbers if n is not None]
    return without(read_removed(store.wal_path), buried)


def trim_index(path: Path, gone: Sequence[RemovedWal]) -> int | None:
    """Takes what is gone for good out of the index of a store that is not in use; returns keys.

    None where a process writes to the store: ``walstream run`` does it itself.

    Raises:
        StorageError: the index cannot be read or written.
    """
    try:
        store = Store.open(path)
    except StoreError:
        return None
    with store, closing(PageIndex(store.index_path)) as index:
        return forget(index, gone)


def _plan(
    store: Store,
    config: RetentionConfig,
    now: datetime,
    index: PageIndex,
    sizes: Mapping[Path, int],
) -> Plan:
    latest, protected = _reach(store, index)
    policy = make_policy(store, config, now, index, latest)
    points = config.daily or config.weekly or config.monthly
    times = (lambda lsns: times_at(index, lsns)) if points else None
    for look in range(LOOKS):
        try:
            return make_plan(survey(store, latest, protected, times, now, sizes), policy)
        except (StoreError, SegmentMissing):
            if look == LOOKS - 1:
                raise
        time.sleep(AGAIN_S)
    raise AssertionError


def _reach(store: Store, index: PageIndex) -> tuple[int, int]:
    """Returns the newest moment that can be rebuilt, and from where on nothing is touched."""
    latest = int(index.meta("last_record_end") or 0)
    source = SegmentSource(DirectoryFiles(store.wal_path), None, store.identity.segment_size)
    left = branch_end(index, source.history)
    if left is not None:
        latest = min(latest, left)
    protected = latest
    status = read_status(store.status_path)
    if status is not None:
        for lsn in (status.flushed_lsn, status.slot_restart_lsn):
            protected = min(protected, lsn or INFINITY)
    return latest, protected


def make_policy(
    store: Store, config: RetentionConfig, now: datetime, index: PageIndex, latest_lsn: int
) -> Policy:
    """Returns what was asked for in LSNs.

    A window of time is counted back from now or from the newest time in the index, whichever is
    earlier: a clock of ours that is ahead takes nothing away.
    """
    window = config.keep_from_lsn
    dumps_before = None
    if config.keep_window_s is not None:
        newest = latest_time(index)
        until = min(newest, time_to_us(now)) if newest else time_to_us(now)
        begin_us = until - int(config.keep_window_s * 1e6)
        window = _lsn_at(store, index, begin_us, latest_lsn, now)
        dumps_before = (POSTGRES_EPOCH + timedelta(microseconds=begin_us)).timestamp()
    elif window is not None and (known := times_at(index, [window])[0]) is not None:
        dumps_before = known
    return Policy(
        window, config.keep_size, config.daily, config.weekly, config.monthly, dumps_before
    )


def _lsn_at(store: Store, index: PageIndex, time_us: int, latest_lsn: int, now: datetime) -> int:
    """Returns the first LSN of the moments from a time on; 0 where that is before the store."""
    backups = list_base_backups(store.base_path)
    first = min((backup.stop_lsn for backup in backups), default=0)
    asked = MomentText("the window", MomentKind.TIME, time_us)
    try:
        return find_moment(index, asked, first, latest_lsn, now).lsn
    except LsnNotAvailable:
        return 0


def times_at(index: PageIndex, lsns: Sequence[int]) -> list[float | None]:
    """Returns when the newest commit before each LSN was (seconds since 1970); None: none was."""
    epoch = POSTGRES_EPOCH.timestamp()
    commits = (last_commit(index, lsn) for lsn in lsns)
    return [None if commit is None else epoch + commit.time_us / 1e6 for commit in commits]


def take_back(path: Path, mark: str | None) -> tuple[str, Summary]:
    """Brings back what a gc took out of sight, and every later one; None: the newest.

    Raises:
        StoreError: no store, or there is nothing of that to take back.
        StorageError: a file cannot be renamed.
    """
    store = Store.open(path, lock=False)
    with closed_gate(store.path):
        return undo(store, mark)


def waiting(path: Path) -> list[str]:
    """Returns the marks of what is out of sight and can be taken back, oldest first.

    Raises:
        StorageError: the store cannot be read.
    """
    return sorted({each.mark for each in tombstones(path) if not each.swept})
