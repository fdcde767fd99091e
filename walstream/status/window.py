"""What can be restored to, and what would be lost now: one value, read from a store's own files."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from walstream.errors import ReadError, StoreError
from walstream.index.branch import branch_end
from walstream.index.ends import ends, latest_time
from walstream.index.page_index import PageIndex
from walstream.segments.reader import SegmentReader
from walstream.status.file import read_status
from walstream.status.snapshot import ReceiverStatus
from walstream.status.text import STALE_S, duration, size
from walstream.store.base_backup import BaseBackup, list_base_backups
from walstream.store.base_directory import of_history
from walstream.store.holds import Hold, list_holds
from walstream.store.removed import Moments, answerable, read_removed, unexplained
from walstream.store.segment_directory import scan_directory
from walstream.store.start_plan import find_holes
from walstream.store.store import Store
from walstream.wal.model import POSTGRES_EPOCH_S, format_lsn

# So many events are looked through for a commit; a server that is idle has few others.
EVENTS = 10_000


class Loss(NamedTuple):
    """How far what is on disk is behind the server; ``size`` in bytes.

    ``news``: the receiver has said so just now; otherwise it is at least that.
    """

    size: int
    seconds: float
    news: bool

    @classmethod
    def of(cls, status: ReceiverStatus | None, now: float) -> Loss | None:
        """Returns what a receiver's status says, None where there is none."""
        if status is None or not status.flushed_lsn:
            return None
        silent = max(0.0, now - status.updated_at)
        news = silent <= STALE_S and status.phase == "streaming"
        return cls(status.lag_bytes, status.lag_seconds + (0.0 if news else silent), news)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The moments of a store that can be had, as of ``taken_at`` (seconds since 1970).

    ``earliest_lsn`` to ``latest_lsn``: every moment between can be rebuilt; both None where there
    is none yet. ``earliest_time``: of the first commit after the earliest; ``latest_time``: the
    newest time of a commit, by the server's clock. ``kept``: moments before, which a hold or the
    retention keeps. ``loss``: what would be lost if the server burnt then; None where no receiver
    says. ``holes``: WAL ``[begin, end)`` that is missing between what is there. ``verified_lsn``:
    up to where every record was checked when it was indexed.
    """

    taken_at: float
    earliest_lsn: int | None
    latest_lsn: int | None
    earliest_time: float | None
    latest_time: float | None
    kept: tuple[Moments, ...]
    loss: Loss | None
    holes: tuple[tuple[int, int], ...]
    verified_lsn: int
    base_lsn: int
    base_age_s: float
    holds: tuple[Hold, ...]


def read_window(path: Path) -> Window:
    """Returns the window of a store, next to whoever writes to it. Blocks.

    Raises:
        StoreError: it is no store, has no base backup, or its index cannot be read now.
        WalError, StorageError: it cannot be read.
    """
    store = Store.open(path, lock=False)
    with closing(PageIndex(store.index_path, read_only=True)) as index:
        return take_window(store, index)


def take_window(store: Store, index: PageIndex, now: float | None = None) -> Window:
    """Returns the window of a store whose index is open. Blocks.

    Raises:
        StoreError: it has no base backup; what is there is malformed.
        WalError, StorageError: it cannot be read.
    """
    now = time.time() if now is None else now
    backups = list_base_backups(store.base_path)
    if not backups:
        raise StoreError(
            f"store {store.path} has no base backup yet: let walstream run finish one",
            str(store.path),
        )
    removed = read_removed(store.wal_path)
    segment_size = store.identity.segment_size
    with closing(SegmentReader(store.wal_path, segment_size)) as archive:
        history = archive.current_history()
        backups = of_history(backups, history)
        # What is before the beginning of the index has a hole behind it.
        start = int(index.meta("start_lsn") or 0)
        indexed = [each for each in backups if each.first_needed_lsn >= start]
        moments = answerable(indexed, removed)
        end = int(index.meta("last_record_end") or 0)
        left = branch_end(index, history)
        end = end if left is None else min(end, left)
        main = moments[-1] if moments and moments[-1].to_lsn is None else None
        there = main is not None and main.from_lsn <= end
        earliest = main.from_lsn if main is not None and there else None
        first = newest_time = None
        if earliest is not None:
            first = _first_commit(index, earliest)
            newest_time = latest_time(index) or None
    held = {
        (each.timeline, each.segment_number)
        for each in scan_directory(store.wal_path, segment_size)
    }
    holes = unexplained(find_holes(held, history, end, segment_size), removed)
    newest = max(backups, key=lambda each: each.stop_lsn)
    loss = Loss.of(read_status(store.status_path), now)
    return Window(
        taken_at=now,
        earliest_lsn=earliest,
        latest_lsn=end if there else None,
        earliest_time=_seconds(first),
        latest_time=_seconds(newest_time),
        kept=tuple(each for each in moments if each is not main),
        loss=loss,
        holes=tuple((hole.begin, hole.end) for hole in holes),
        verified_lsn=end,
        base_lsn=newest.start_lsn,
        base_age_s=max(0.0, now - _made_at(newest)),
        holds=tuple(
            hold
            for hold in list_holds(store.path)
            if not hold.expired(datetime.fromtimestamp(now, UTC))
        ),
    )


def _made_at(backup: BaseBackup) -> float:
    path = backup.path.with_suffix(".toml")
    try:
        return path.stat().st_mtime
    except OSError as exc:
        raise ReadError(f"look at {path}: {exc.strerror}", str(path)) from exc


def _seconds(time_us: int | None) -> float | None:
    return None if time_us is None else POSTGRES_EPOCH_S + time_us / 1e6


def _first_commit(index: PageIndex, after_lsn: int) -> int | None:
    """Returns the time of the first commit after an LSN, None where none is near."""
    near = islice(ends(index, after_lsn), EVENTS)
    return next((end.time_us for end in near if end.committed), None)


def window_table(window: Window) -> dict[str, object]:
    """Returns what ``window --json`` prints. LSNs and times are text."""
    loss = window.loss
    return {
        "earliest_lsn": _lsn(window.earliest_lsn),
        "earliest_time": _time(window.earliest_time),
        "latest_lsn": _lsn(window.latest_lsn),
        "latest_time": _time(window.latest_time),
        "kept": [{"from": _lsn(each.from_lsn), "to": _lsn(each.to_lsn)} for each in window.kept],
        "loss_bytes": loss and loss.size,
        "loss_seconds": loss and round(loss.seconds, 3),
        "loss_is_news": loss is not None and loss.news,
        "holes": [{"from": _lsn(begin), "to": _lsn(end)} for begin, end in window.holes],
        "verified_lsn": _lsn(window.verified_lsn),
        "base_lsn": _lsn(window.base_lsn),
        "base_age_seconds": round(window.base_age_s, 3),
        "holds": [
            {
                "name": hold.name,
                "from": _lsn(hold.from_lsn),
                "to": _lsn(hold.to_lsn),
                "until": hold.until.isoformat(),
                "reason": hold.reason,
            }
            for hold in window.holds
        ],
    }


def _lsn(lsn: int | None) -> str | None:
    return None if lsn is None else format_lsn(lsn)


def _time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(" ", "milliseconds")


def _moment(lsn: int, seconds: float | None, what: str) -> str:
    return format_lsn(lsn) + ("" if seconds is None else f" ({what} {_time(seconds)})")


def window_line(window: Window) -> str:
    """Returns the window as one line of ``walstream status``."""
    if window.earliest_lsn is None or window.latest_lsn is None:
        return "no moment can be had yet: the index has not reached the end of a base backup"
    text = f"{format_lsn(window.earliest_lsn)} to {format_lsn(window.latest_lsn)}"
    if window.earliest_time is not None and window.latest_time is not None:
        text += f", {_time(window.earliest_time)} to {_time(window.latest_time)}"
    if window.kept:
        text += f", {len(window.kept)} kept before"
    if window.holes:
        text += f", {len(window.holes)} HOLES"
    return f"{text}; lost if the server burnt now: {_loss_text(window)}"


def _loss_text(window: Window) -> str:
    loss = window.loss
    if loss is None:
        return "not known, no receiver says"
    least = "" if loss.news else "at least "
    return f"{least}{size(loss.size)}, {least}{duration(loss.seconds)}"


def window_lines(window: Window) -> Iterator[tuple[str, str]]:
    """Yields the titles and texts of ``walstream window``."""
    if window.earliest_lsn is None or window.latest_lsn is None:
        yield "window", window_line(window)
    else:
        yield (
            "earliest",
            _moment(window.earliest_lsn, window.earliest_time, "first commit after it"),
        )
        yield "latest", _moment(window.latest_lsn, window.latest_time, "last commit")
    for each in window.kept:
        yield "kept before", str(each)
    yield "lost now", f"if the server burnt: {_loss_text(window)}"
    for begin, end in window.holes:
        yield "HOLE", f"{format_lsn(begin)} to {format_lsn(end)}"
    yield "verified", f"up to {format_lsn(window.verified_lsn)}"
    yield "newest base", f"{format_lsn(window.base_lsn)}, {duration(window.base_age_s)} old"
    for hold in window.holds:
        reach = f"{format_lsn(hold.from_lsn)} to {format_lsn(hold.to_lsn)}"
        until = hold.until.isoformat(" ", "seconds")
        yield "hold", f"{hold.name}: {reach}, until {until}: {hold.reason}"


def gauges(window: Window, loss: Loss | None) -> Iterator[tuple[str, str, float]]:
    """Yields what Prometheus is told: name, help, value; LSNs in bytes, times in seconds.

    ``loss`` is that of now: it changes faster than the window is looked at.
    """
    known = (
        ("earliest_lsn", "First moment that can be rebuilt", window.earliest_lsn),
        ("latest_lsn", "Newest moment that can be rebuilt", window.latest_lsn),
        ("earliest_timestamp_seconds", "First commit that can be rebuilt", window.earliest_time),
        ("latest_timestamp_seconds", "Newest commit that can be rebuilt", window.latest_time),
        ("loss_bytes", "WAL of the server that is not on our disk", loss and loss.size),
        ("loss_seconds", "How long that is behind", loss and loss.seconds),
        ("holes", "Stretches of WAL that are missing", len(window.holes)),
        ("verified_lsn", "Up to where every record was checked", window.verified_lsn),
        ("base_age_seconds", "Age of the newest base backup", window.base_age_s),
        ("kept_stretches", "Moments before the window that are kept", len(window.kept)),
        ("holds", "Holds in force", len(window.holds)),
    )
    for name, text, value in known:
        if value is not None:
            yield f"walstream_window_{name}", text, float(value)
