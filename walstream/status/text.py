"""What people read of a status: the line of a running receiver, and ``walstream status``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from walstream.status.snapshot import ReceiverStatus
from walstream.wal.model import format_lsn

if TYPE_CHECKING:
    from walstream.status.store import StoreStatus  # the index comes with it
    from walstream.store.drills import DrillReport

# Of WAL on disk: more is told.
INDEX_BEHIND = 64 << 20
STALE_S = 10.0  # a receiver replaces its status file every second
SIZES = ["B", "kB", "MB", "GB", "TB"]  # powers of 1024, as PostgreSQL's settings have them
TIMES = ((86400, "days"), (3600, "h"), (60, "min"))


def progress_lines(status: ReceiverStatus) -> list[str]:
    """Returns a status as one line, in several lengths, the longest first."""
    phase = "waiting for space" if status.waiting_for_space else status.phase
    if not status.timeline or not status.received_lsn:
        return [phase]
    rate, lag = f"{status.bytes_per_second / 1e6:.1f} MB/s", f"{status.lag_bytes / 1e6:.1f} MB"
    flushed = format_lsn(status.flushed_lsn)
    behind = status.flushed_lsn - (status.indexed_lsn or status.flushed_lsn)
    if behind > INDEX_BEHIND:
        lag += f", {behind / 1e6:.0f} MB to be indexed"
    return [
        f"{phase}: timeline {status.timeline}, received {format_lsn(status.received_lsn)}, "
        f"flushed {flushed}, {rate}, lag {lag}",
        f"{phase}: flushed {flushed}, {rate}, lag {lag}",
        f"{phase}: {flushed}, {rate}, lag {lag}",
        f"{flushed}, {rate}, lag {lag}",
    ]


def store_lines(store: StoreStatus, now: float) -> Iterator[tuple[str, str]]:
    """Yields the titles and texts of a store; ``now`` in seconds since 1970."""
    identity = store.identity
    yield "store", store.path
    yield (
        "cluster",
        f"PostgreSQL {identity.version}, system {identity.system_id}, segments of "
        f"{size(identity.segment_size)}, checksums {'on' if identity.checksums else 'off'}",
    )
    for backup in store.base_backups:
        reach = f"{format_lsn(backup.start_lsn)} to {format_lsn(backup.stop_lsn)}"
        yield "base backup", f"{reach}, timeline {backup.timeline}"
    if not store.base_backups:
        yield "base backup", "none yet: let walstream run finish one"
    yield "wal", f"{store.wal_files} files, {size(store.wal_bytes)}"
    if store.indexed_lsn is not None:
        yield "indexed", format_lsn(store.indexed_lsn)
    else:
        yield "indexed", store.index_problem or "nothing yet"
    if store.window is not None:
        from walstream.status.window import window_line  # which is told by what is here

        yield "window", window_line(store.window)
    elif store.window_problem is not None:
        yield "WINDOW", store.window_problem
    if store.drill is not None:
        yield from drill_lines(store.drill, store.good_drill, now)
    if store.receiver is not None:
        yield from receiver_lines(store.receiver, now)


def drill_lines(
    drill: DrillReport, good: DrillReport | None, now: float
) -> Iterator[tuple[str, str]]:
    """Yields what the newest drill found, and when one last passed."""
    ago = duration(now - drill.began.timestamp())
    if drill.passed:
        first = "" if drill.first_query_s is None else f", first query {drill.first_query_s:.1f} s"
        yield "drill", f"passed {ago} ago, at {drill.lsn}{first}"
        return
    failed = ", ".join(check.name for check in drill.checks if check.passed is False)
    last = (
        "none has passed"
        if good is None
        else (f"one passed {duration(now - good.began.timestamp())} ago")
    )
    yield "DRILL FAILED", f"{ago} ago: {failed}; {last}"


def receiver_lines(status: ReceiverStatus, now: float) -> Iterator[tuple[str, str]]:
    """Yields what the status file of a receiver tells."""
    yield "receiver", _phase(status, now - status.updated_at)
    yield "server end", format_lsn(status.server_end_lsn)
    yield "received", f"{format_lsn(status.received_lsn)}, {size(status.bytes_per_second)}/s"
    yield "written", format_lsn(status.written_lsn)
    behind = f"{size(status.lag_bytes)} and {duration(status.lag_seconds)} behind the server"
    yield "flushed", f"{format_lsn(status.flushed_lsn)}, {behind}"
    if status.retained_bytes is not None:
        yield "slot", f"the server retains {size(status.retained_bytes)} for it"
    fsync = f"{status.fsyncs} calls"
    if status.fsyncs:
        last, slowest = status.last_fsync_seconds, status.slowest_fsync_seconds
        fsync += f", last {duration(last)}, slowest {duration(slowest)}"
    yield "fsync", fsync
    if status.retention:
        yield "retention", status.retention
    for child in status.redo_children or ():
        yield "redo child", child
    for hole in status.holes:
        yield "HOLE", hole
    for name in status.set_aside:
        yield "set aside", name
    if status.waiting_for_space:
        yield "DISK FULL", status.waiting_for_space
    if status.last_error:
        when = (
            "" if status.last_error_at is None else f" ({duration(now - status.last_error_at)} ago)"
        )
        yield "last error", status.last_error + when


def _phase(status: ReceiverStatus, silent_s: float) -> str:
    phase = status.phase
    if status.server:
        phase += f" from {status.server}" if phase == "streaming" else f", {status.server}"
    phase += f", timeline {status.timeline}, session {status.sessions}"
    if status.phase == "stopped":
        return phase + f", {duration(silent_s)} ago"
    if silent_s > STALE_S:
        return f"NO NEWS for {duration(silent_s)}, is it running? It was {phase}"
    return phase


def size(count: int) -> str:
    """Returns a number of bytes as people read it, in powers of 1024."""
    from rich.filesize import pick_unit_and_suffix  # not for every start

    unit, suffix = pick_unit_and_suffix(count, SIZES, 1024)
    value = count / unit
    return f"{value:.0f} {suffix}" if value >= 100 else f"{value:.3g} {suffix}"


def duration(seconds: float) -> str:
    """Returns a length of time as people read it: one unit, as coarse as it may be."""
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    for length, unit in TIMES:
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
