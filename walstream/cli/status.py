"""``walstream status``: what a store holds and how far it is."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from walstream.cli.arguments import STORE
from walstream.text import readable, to_json

UNITS = ("B", "kB", "MB", "GB", "TB")
STALE_S = 10.0  # a receiver replaces its status file every second


def summary(path: Path) -> dict[str, Any]:
    """Returns what ``status --json`` prints. LSNs are text; sizes are bytes."""
    from walstream.errors import StoreError
    from walstream.index.page_index import PageIndex
    from walstream.store.base_backup import list_base_backups
    from walstream.store.store import Store
    from walstream.wal.model import format_lsn

    store = Store.open(path, lock=False)
    identity = store.identity
    wal_sizes = file_sizes(store.wal_path)
    found: dict[str, Any] = {
        "store": str(store.path),
        "system_id": str(identity.system_id),
        "version": identity.version,
        "segment_size": identity.segment_size,
        "checksums": identity.checksums,
        "wal_files": len(wal_sizes),
        "wal_bytes": sum(wal_sizes),
        "base_backups": [
            {
                "start_lsn": format_lsn(backup.start_lsn),
                "stop_lsn": format_lsn(backup.stop_lsn),
                "timeline": backup.timeline,
            }
            for backup in list_base_backups(store.base_path)
        ],
        "indexed_to": None,
    }
    if (store.index_path / "CURRENT").exists():
        try:
            index = PageIndex(store.index_path, read_only=True)
        except StoreError as error:
            # It is being made, taken back, or must be made again: the rest can be told.
            found["index"] = str(error)
        else:
            end = index.meta("last_record_end")
            found["indexed_to"] = None if end is None else format_lsn(int(end))
            index.close()
    receiver = read_status(store.status_path)
    if receiver is not None:
        found["receiver"] = receiver
    return found


def read_status(path: Path) -> dict[str, Any] | None:
    """Returns what the receiver's status file says, None where there is none that can be read.

    It is replaced without an fsync: after a power cut it may be empty.
    """
    try:
        state = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return state if isinstance(state, dict) else None


def file_sizes(directory: Path) -> list[int]:
    """Returns the size of every file there; a writer may rename them meanwhile."""
    from walstream.segments.files import regular_files

    return [size for _, size in regular_files(directory)]


@click.command()
@click.argument("store", type=STORE)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(store: Path, as_json: bool) -> None:
    """Show what a store holds: cluster, base backups, WAL, and how far it is indexed."""
    found = summary(store)
    if as_json:
        click.echo(to_json(found, indent=2))
        return
    for title, text in lines(found, time.time()):
        click.echo(f"{title:12} {readable(text)}")


def lines(found: dict[str, Any], now: float) -> Iterator[tuple[str, str]]:
    """Yields the titles and texts that people read of a ``summary``; ``now`` in Unix seconds."""
    yield "store", found["store"]
    yield (
        "cluster",
        f"PostgreSQL {found['version']}, system {found['system_id']}, segments of "
        f"{size(found['segment_size'])}, checksums {'on' if found['checksums'] else 'off'}",
    )
    for backup in found["base_backups"]:
        reach = f"{backup['start_lsn']} to {backup['stop_lsn']}, timeline {backup['timeline']}"
        yield "base backup", reach
    if not found["base_backups"]:
        yield "base backup", "none yet: let walstream run finish one"
    yield "wal", f"{found['wal_files']} files, {size(found['wal_bytes'])}"
    yield "indexed", found["indexed_to"] or found.get("index") or "nothing yet"
    if "receiver" in found:
        yield from receiver_lines(found["receiver"], now)


def receiver_lines(state: dict[str, Any], now: float) -> Iterator[tuple[str, str]]:
    """Yields what the status file of a receiver tells."""
    silent = now - state["updated_at"]
    phase = state["phase"]
    if state["server"]:
        phase += f" from {state['server']}" if phase == "streaming" else f", {state['server']}"
    phase += f", timeline {state['timeline']}, session {state['sessions']}"
    if state["phase"] == "stopped":
        phase += f", {duration(silent)} ago"
    elif silent > STALE_S:
        phase = f"NO NEWS for {duration(silent)}, is it running? It was {phase}"
    yield "receiver", phase
    yield "server end", state["server_end_lsn"]
    yield "received", f"{state['received_lsn']}, {size(state['bytes_per_second'])}/s"
    yield "written", state["written_lsn"]
    behind = f"{size(state['lag_bytes'])} and {duration(state['lag_seconds'])} behind the server"
    yield "flushed", f"{state['flushed_lsn']}, {behind}"
    if state["retained_bytes"] is not None:  # None: no slot, or not asked yet
        yield "slot", f"the server retains {size(state['retained_bytes'])} for it"
    fsync = f"{state['fsyncs']} calls"
    if state["fsyncs"]:
        last, slowest = state["last_fsync_seconds"], state["slowest_fsync_seconds"]
        fsync += f", last {duration(last)}, slowest {duration(slowest)}"
    yield "fsync", fsync
    for child in state.get("redo_children", ()):
        yield "redo child", child
    for hole in state["holes"]:
        yield "HOLE", hole
    for name in state["set_aside"]:
        yield "set aside", name
    if state["waiting_for_space"]:
        yield "DISK FULL", state["waiting_for_space"]
    if state["last_error"]:
        when = f" ({duration(now - state['last_error_at'])} ago)"
        yield "last error", state["last_error"] + when


def size(count: float) -> str:
    """Returns a number of bytes as people read it, in powers of 1024."""
    power = min(max(int(count).bit_length() - 1, 0) // 10, len(UNITS) - 1)
    value = count / 1024**power
    return f"{value:.0f} {UNITS[power]}" if value >= 100 else f"{value:.3g} {UNITS[power]}"


def duration(seconds: float) -> str:
    """Returns a length of time as people read it."""
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    for length, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
