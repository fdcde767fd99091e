"""``walstream tables``: the tables of a database as of a moment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from walstream.cli.arguments import MOMENT, STORE
from walstream.text import to_json

if TYPE_CHECKING:
    from walstream.index.moment import MomentText


@click.command()
@click.argument("store", type=STORE)
@click.option("--at", "asked", type=MOMENT, default="latest", show_default=True, metavar="WHEN")
@click.option("--db", "database", help="Only this database [default: all but templates].")
@click.option("-v", "--verbose", is_flag=True, help="The columns of each table too.")
@click.option("-a", "--all", "everything", is_flag=True, help="Catalogs, TOAST and indexes too.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("--no-sandbox", is_flag=True, help="Run the redo child without its sandbox.")
def command(
    store: Path,
    asked: MomentText,
    database: str | None,
    verbose: bool,
    everything: bool,
    as_json: bool,
    no_sandbox: bool,
) -> None:
    """List the tables of a store as they were at a moment: kind, rows (estimated), size, file.

    The number of rows is what the server last noted (VACUUM, ANALYZE), -1 for never. The names work
    with rows, page and history.
    """
    import trio

    from walstream.app.open import open_cluster
    from walstream.rows.listing import describe_tables

    async def main() -> None:
        async with open_cluster(store, asked, sandbox=not no_sandbox, only_then=True) as opened:
            found = await describe_tables(opened.cluster, database, everything)
            if as_json:
                for one in found:
                    click.echo(to_json(one.as_json(verbose)))
                return
            click.echo(f"at {opened.moment}", err=True)
            width = max((len(one.full_name) for one in found), default=0)
            for one in found:
                click.echo(
                    f"{one.full_name:{width}}  {one.kind:18} {one.rows_text:>10} rows "
                    f"{one.size_text:>9}  {one.path}"
                )
                for line in one.column_lines() if verbose else ():
                    click.echo(f"    {line}")

    trio.run(main)
