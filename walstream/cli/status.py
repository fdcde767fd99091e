"""``walstream status``: what a store holds and how far it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from walstream.cli.arguments import STORE


def summary(path: Path) -> dict[str, Any]:
    """Returns what ``status --json`` prints. LSNs are text; sizes are bytes."""
    from walstream.index.page_index import PageIndex
    from walstream.store.base import list_base_backups
    from walstream.store.directory import Store
    from walstream.wal.model import format_lsn

    store = Store.open(path, lock=False)
    identity = store.identity
    segments = sorted(file for file in store.wal_path.iterdir() if file.is_file())
    found: dict[str, Any] = {
        "store": str(store.path),
        "system_id": str(identity.system_id),
        "version": identity.version,
        "segment_size": identity.segment_size,
        "checksums": identity.checksums,
        "wal_files": len(segments),
        "wal_bytes": sum(file.stat().st_size for file in segments),
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
        index = PageIndex(store.index_path, read_only=True)
        end = index.meta("last_record_end")
        found["indexed_to"] = None if end is None else format_lsn(int(end))
        index.close()
    if store.status_path.exists():
        found["receiver"] = json.loads(store.status_path.read_text())
    return found


@click.command()
@click.argument("store", type=STORE)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(store: Path, as_json: bool) -> None:
    """Show what a store holds: cluster, base backups, WAL, and how far it is indexed."""
    found = summary(store)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    backups = found.pop("base_backups")
    receiver = found.pop("receiver", {})
    for key, value in found.items():
        click.echo(f"{key:16} {value}")
    for backup in backups:
        click.echo(
            f"{'base backup':16} {backup['start_lsn']} to {backup['stop_lsn']}, "
            f"timeline {backup['timeline']}"
        )
    if not backups:
        click.echo(f"{'base backup':16} none yet")
    for key, value in receiver.items():
        click.echo(f"{key:16} {value}")
