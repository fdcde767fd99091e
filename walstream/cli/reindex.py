"""``walstream reindex``: makes the index again from the base backup and WAL."""

from __future__ import annotations

from pathlib import Path

import click

from walstream.cli.arguments import STORE


@click.command()
@click.argument("store", type=STORE)
def command(store: Path) -> None:
    """Make the index of a store again, from its base backup and the WAL that it keeps.

    The store must not be in use. The old index serves until the new one is complete; interrupted,
    it can be started again.
    """
    from rich.console import Console
    from rich.progress import Progress

    from walstream.app.reindex import reindex
    from walstream.wal.model import format_lsn

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("indexing WAL", total=None)

        def report(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        end = reindex(store, report)
    click.echo(f"indexed up to {format_lsn(end)}")
