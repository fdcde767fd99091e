"""``walstream archive-push``: an archive_command."""

from __future__ import annotations

from pathlib import Path

import click

from walstream.cli.arguments import STORE
from walstream.cli.server_commands import archive_push


@click.command("archive-push")
@click.argument("store", type=STORE)
@click.argument(
    "source", metavar="%p", type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
def command(store: Path, source: Path) -> None:
    """Put the WAL file %p into STORE, verified; for use as archive_command.

    STORE is a store or a directory of segments; a receiver may write to it at the same time. A
    file that is there already, with the same content, is a success; with other content it is an
    error, nothing is replaced. PostgreSQL tries again after every exit code but 0. In
    postgresql.conf:

        archive_command = 'walstream archive-push /srv/store "%p"'
    """
    archive_push(store, source)
