"""``walstream psql``: psql at a moment."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from walstream.cli.arguments import MOMENT, STORE

if TYPE_CHECKING:
    from walstream.index.moment import MomentText


@click.command()
@click.argument("store", type=STORE)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.option("--at", "asked", type=MOMENT, metavar="WHEN", help="Moment [default: the newest].")
@click.option(
    "--bindir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where PostgreSQL's programs of that version are [default: looked for].",
)
def command(
    store: Path, arguments: tuple[str, ...], asked: MomentText | None, bindir: Path | None
) -> None:
    """Run psql on the cluster in STORE as it was at a moment, read-only.

    The short form of walstream open. psql's own arguments follow --; its exit code is ours.

      walstream psql store --at '5 minutes ago' -- -d app -c 'TABLE orders'
    """
    import trio

    from walstream.app.opening import OpenOptions
    from walstream.cli.opened import open_and_run

    sys.exit(trio.run(open_and_run, store, asked, OpenOptions(bindir=bindir), list(arguments)))
