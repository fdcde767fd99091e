"""``walstream status``: what a store holds and how far it is."""

from __future__ import annotations

import time
from pathlib import Path

import click

from walstream.cli.arguments import STORE
from walstream.text import readable, to_json


@click.command()
@click.argument("store", type=STORE)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(store: Path, as_json: bool) -> None:
    """Show what a store holds: cluster, base backups, WAL, and how far it is indexed."""
    from walstream.status.store import store_status, store_table

    found = store_status(store)
    if as_json:
        click.echo(to_json(store_table(found), indent=2))
        return
    from walstream.status.text import store_lines

    for title, text in store_lines(found, time.time()):
        click.echo(f"{title:12} {readable(text)}")
