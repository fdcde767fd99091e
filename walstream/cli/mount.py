"""``walstream mount``: the data directory of a moment as a directory."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from walstream.cli.arguments import MOMENT, STORE

if TYPE_CHECKING:
    from walstream.index.moment import MomentText


@click.command()
@click.argument("store", type=STORE)
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--at", "asked", type=MOMENT, metavar="WHEN", help="Moment [default: the newest].")
@click.option("--allow-other", is_flag=True, help="Other users may look into it too.")
@click.option("--no-sandbox", is_flag=True, help="Run the redo children without their sandbox.")
def command(
    store: Path,
    directory: Path,
    asked: MomentText | None,
    allow_other: bool,
    no_sandbox: bool,
) -> None:
    """Mount the data directory of the cluster in STORE as it was at a moment, read-only.

    DIRECTORY/data is the data directory, for cp, pg_checksums, pg_controldata and whatever else
    reads one; tablespaces are in DIRECTORY/data.tablespaces. Pages are made when they are read. It
    stays mounted until Ctrl-C. Needs FUSE.

      walstream mount store /mnt/then --at '2026-11-25 10:00+01'
    """
    import trio

    from walstream.app.opening import mount_moment
    from walstream.index.moment import parse_moment

    async def main() -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with mount_moment(
                store,
                asked or parse_moment("latest"),
                directory,
                others=allow_other,
                sandbox=not no_sandbox,
            ) as mounted:
                click.echo(f"moment: {mounted.moment}", err=True)
                click.echo(f"{mounted.data_directory}: mounted")
                async for _ in signals:
                    return

    trio.run(main)
