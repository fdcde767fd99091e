"""``walstream restore-wal``: a restore_command."""

from __future__ import annotations

from pathlib import Path

import click

from walstream.cli.arguments import STORE


@click.command("restore-wal")
@click.argument("store", type=STORE)
@click.argument("name", metavar="%f")
@click.argument("target", metavar="%p", type=click.Path(path_type=Path))
def command(store: Path, name: str, target: Path) -> None:
    """Put the WAL file %f of STORE at %p; for use as restore_command.

    STORE is a store or a directory of segments. A segment that is still being received is given
    up to its last whole record. In postgresql.conf:

        restore_command = 'walstream restore-wal /srv/store "%f" "%p"'
    """
    from walstream.cli.wal_directory import wal_path
    from walstream.store.exchange import restore_file

    restore_file(wal_path(store), name, target)
