"""``walstream restore-wal``: a restore_command."""

from __future__ import annotations

from pathlib import Path

import click

from walstream.cli.arguments import STORE
from walstream.cli.server_commands import restore_wal


@click.command("restore-wal")
@click.argument("store", type=STORE)
@click.argument("name", metavar="%f")
@click.argument("target", metavar="%p", type=click.Path(path_type=Path))
def command(store: Path, name: str, target: Path) -> None:
    """Put the WAL file %f of STORE at %p; for use as restore_command.

    STORE is a store or a directory of segments. Of a segment that is still being received
    everything that was flushed is given. In postgresql.conf:

        restore_command = 'walstream restore-wal /srv/store "%f" "%p"'

    Exit code 1 says that STORE does not have the file: PostgreSQL then ends its recovery. Whatever
    else goes wrong is 200 and more, at which PostgreSQL stops: 206 a file cannot be
    written, 207 WAL is damaged, 213 it is another cluster's, 216 a file cannot be read
    (docs/reference/exit-codes.md).
    """
    restore_wal(store, name, target)
