"""``walstream materialize``: the data directory as it was at a moment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from walstream.cli.arguments import MOMENT, STORE, TABLESPACE_MAPPING

if TYPE_CHECKING:
    from walstream.index.moment import MomentText


@click.command()
@click.argument("store", type=STORE)
@click.option(
    "--at",
    "moment",
    type=MOMENT,
    required=True,
    help="The moment: an LSN, latest, a time with its zone, '5 minutes ago', xid:N, "
    "'before xid:N' or name:NAME of a restore point.",
)
@click.option(
    "-D",
    "--pgdata",
    "directory",
    type=click.Path(path_type=Path),
    required=True,
    help="The directory to make; it must be empty or not there.",
)
@click.option(
    "-T",
    "--tablespace-mapping",
    "mappings",
    type=TABLESPACE_MAPPING,
    multiple=True,
    metavar="OLD=NEW",
    help="Put the tablespace that lies at OLD on the server into NEW "
    "[default: DIR.tablespaces/OID].",
)
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(1, 64),
    help="Make so many files at a time [default: the number of CPUs].",
)
def command(
    store: Path,
    moment: MomentText,
    directory: Path,
    mappings: tuple[tuple[str, Path], ...],
    jobs: int | None,
) -> None:
    """Make the data directory of the cluster in STORE as it was at a moment.

    A stock PostgreSQL of the same major version starts on it. It is a cluster of its own: another
    system identifier, a timeline of its own, nothing that archives, streams or connects elsewhere
    (see the end of its postgresql.auto.conf). Interrupted, the same command goes on with it.

    As root, everything is given to the owner of the directory, or of the one above it.
    """
    import trio

    from walstream.app.open import open_past
    from walstream.cli.file_progress import show_files
    from walstream.datadir.materialize import Progress, default_jobs, materialize
    from walstream.datadir.plan import Target
    from walstream.wal.model import format_lsn

    target = Target(directory.absolute(), dict(mappings), owner_for(directory))

    async def main() -> None:
        async with open_past(store) as past:
            found = await past.moment(moment)
            click.echo(f"moment: {found}", err=True)
            await past.keep_only(found.lsn)
            source = past.source(found.lsn)
            progress = Progress()
            with show_files(progress) as planned:
                made = await materialize(
                    past.pages,
                    source,
                    found.lsn,
                    target,
                    jobs=jobs or default_jobs(),
                    progress=progress,
                    planned=planned,
                )
        click.echo(
            f"{made.directory}: the cluster at {format_lsn(made.lsn)}, {made.files} files, "
            f"{made.pages} pages rebuilt; timeline {made.timeline}, system identifier "
            f"{made.system_id}"
        )
        for oid, place in sorted(made.tablespaces.items()):
            click.echo(f"tablespace {oid} is in {place}")

    trio.run(main)


def owner_for(directory: Path) -> tuple[int, int] | None:
    """Returns user and group for what root makes: those of the directory or of the one above it."""
    if os.geteuid() != 0:
        return None
    place = directory.absolute()
    while not place.exists():
        place = place.parent
    found = place.stat()
    return found.st_uid, found.st_gid
