"""``walstream undo``: the SQL that takes changes of a table back."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from walstream.cli.arguments import MOMENT, STORE
from walstream.text import encode

if TYPE_CHECKING:
    from walstream.index.moment import MomentText

# What the text of values depends on; names and texts are in the encoding of the database.
SETTINGS = (
    "SET LOCAL datestyle = 'ISO, YMD'; SET LOCAL intervalstyle = postgres; "
    "SET LOCAL timezone = 'UTC'; DO $$ BEGIN PERFORM "
    "set_config('client_encoding', getdatabaseencoding(), true); END $$;"
)


@click.command()
@click.argument("store", type=STORE)
@click.option("--table", required=True, help="[db.]schema.table")
@click.option("--from", "before", type=MOMENT, metavar="WHEN", help="Back to this moment.")
@click.option(
    "--to",
    "after",
    type=MOMENT,
    default="latest",
    show_default=True,
    metavar="WHEN",
    help="Changes up to this moment.",
)
@click.option("--xid", type=click.IntRange(3), help="The changes of this transaction only.")
@click.option("--db", "database", help="Database of the table, if not named in front of it.")
def command(
    store: Path,
    table: str,
    before: MomentText | None,
    after: MomentText,
    xid: int | None,
    database: str | None,
) -> None:
    """Print SQL, one statement a line, that takes the changes of a table back.

    What was inserted is deleted, what was updated gets its old values, what was deleted is
    inserted. Every statement has a guard: a row that was changed again since keeps its value. Look
    at it, then give it to psql. Triggers and foreign keys of the server act as on any statement.
    """
    import trio

    from walstream.app.open import diff_moments
    from walstream.cli.exit_codes import ROWS_LOST
    from walstream.index.moment import parse_moment
    from walstream.rows.diff import UndoWriter

    if (before is None) == (xid is None):
        raise click.UsageError("give one of --from WHEN and --xid N")
    if xid is not None:
        # Nothing but this transaction becomes visible between the two.
        before, after = parse_moment(f"before xid:{xid}"), parse_moment(f"xid:{xid}")
    assert before is not None
    found = trio.run(diff_moments, store, table, database, before, after)
    if found.damaged:
        for damage in found.damaged:
            click.echo(f"walstream: rows lost: {damage}", err=True)
        click.echo("walstream: no SQL is made of rows that are not whole", err=True)
        sys.exit(ROWS_LOST)
    # All of them before the first is printed: half of them would be worse than none.
    statements = list(UndoWriter(found).statements())
    out = sys.stdout.buffer
    out.write(f"BEGIN; {SETTINGS}\n".encode())
    for statement in statements:
        out.write(encode(statement) + b"\n")
    out.write(b"COMMIT;\n")
    out.flush()
    key = "its primary key" if found.has_key else "whole rows: it has no primary key"
    click.echo(f"{len(statements)} statements for {found.name} by {key}", err=True)
