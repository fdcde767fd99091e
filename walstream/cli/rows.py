"""``walstream rows``: the rows of a table as of a moment."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from zoneinfo import ZoneInfo

import click

from walstream.cli.arguments import MOMENT, STORE, ZONE

if TYPE_CHECKING:
    from walstream.index.moment import MomentText

FORMATS = ("table", "csv", "copy", "json", "insert", "parquet", "arrow")
DAMAGE_SHOWN = 10


@click.command()
@click.argument("store", type=STORE)
@click.argument("table")
@click.option(
    "--at",
    "asked",
    type=MOMENT,
    default="latest",
    show_default=True,
    metavar="WHEN",
    help="An LSN, a time with its zone, '5 minutes ago', 'before xid:731', name:RESTORE_POINT.",
)
@click.option("--db", "database", help="Database of the table, if not named in front of it.")
@click.option("--columns", help="Only these columns, with commas between them.")
@click.option(
    "--where", help="Only rows for which this is true: column = value AND column >= value ..."
)
@click.option("--format", "output", type=click.Choice(FORMATS), default="table", show_default=True)
@click.option("--header", is_flag=True, help="csv: a first line with the names of the columns.")
@click.option(
    "--timezone",
    "zone",
    type=ZONE,
    help="Time zone that timestamps with time zone are printed in [default: UTC].",
)
@click.option("-o", "--output", "path", type=click.Path(path_type=Path), help="File to write.")
@click.option("--no-sandbox", is_flag=True, help="Run the redo child without its sandbox.")
def command(
    store: Path,
    table: str,
    asked: MomentText,
    database: str | None,
    columns: str | None,
    where: str | None,
    output: str,
    header: bool,
    zone: ZoneInfo | None,
    path: Path | None,
    no_sandbox: bool,
) -> None:
    """Print the rows of TABLE ([db.]schema.table) as they were at a moment, without a server.

    The catalogs are those of that moment: dropped tables and columns are there. What a transaction
    had not committed by then is not. csv and copy are byte for byte what COPY TO writes, in heap
    order; insert is SQL that puts the rows back. A page that cannot be read costs its rows only: it
    is named, and the exit code is 14.
    """
    import trio

    from walstream.app.open import OpenCluster, open_cluster
    from walstream.cli.exit_codes import ROWS_LOST
    from walstream.rows.export import ExportRequest, export_rows

    names = None if columns is None else [name.strip() for name in columns.split(",")]
    request = ExportRequest(table, database, names, where, output, header)

    async def main() -> bool:
        async with open_cluster(
            store, asked, zone=zone, sandbox=not no_sandbox, only_then=True
        ) as opened:
            return await run(opened)

    async def run(opened: OpenCluster) -> bool:
        with ExitStack() as stack:
            target: BinaryIO = sys.stdout.buffer
            if path is not None:
                target = stack.enter_context(path.open("wb"))
            done = await export_rows(opened.cluster, request, target)
        for note in done.notes:
            click.echo(f"walstream: {note}", err=True)
        for damage in done.damaged[:DAMAGE_SHOWN]:
            click.echo(f"walstream: rows lost: {damage}", err=True)
        more = len(done.damaged) - DAMAGE_SHOWN
        if more > 0:
            click.echo(f"walstream: rows lost: {more} more", err=True)
        rows = "row" if done.count == 1 else "rows"
        click.echo(f"{done.count} {rows} of {done.name} at {opened.moment}", err=True)
        return bool(done.damaged)

    if trio.run(main):
        sys.exit(ROWS_LOST)
