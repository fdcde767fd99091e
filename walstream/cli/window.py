"""``walstream window``: which moments of a store can be had."""

from __future__ import annotations

from pathlib import Path

import click

from walstream.cli.arguments import STORE
from walstream.text import readable, to_json


@click.command()
@click.argument("store", type=STORE)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(store: Path, as_json: bool) -> None:
    """Show which moments of STORE can be rebuilt, and what would be lost if the server burnt now.

    The earliest and the latest, the stretches that are kept before the window, WAL that is missing,
    up to where it was checked, the age of the newest base backup, and holds.

    \b
    walstream window STORE --json
    """
    from walstream.status.window import read_window, window_lines, window_table

    found = read_window(store)
    if as_json:
        click.echo(to_json(window_table(found), indent=2))
        return
    for title, text in window_lines(found):
        click.echo(f"{title:12} {readable(text)}")
