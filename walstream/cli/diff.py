"""``walstream diff``: the rows of a table that changed between two moments."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from walstream.cli.arguments import MOMENT, STORE
from walstream.text import to_json

if TYPE_CHECKING:
    from walstream.index.moment import MomentText
    from walstream.rows.diff import RowChange, TableDiff

SIGNS = {"inserted": "+", "deleted": "-", "updated": "~"}


@click.command()
@click.argument("store", type=STORE)
@click.argument("table")
@click.argument("before", metavar="A", type=MOMENT)
@click.argument("after", metavar="B", type=MOMENT)
@click.option("--db", "database", help="Database of the table, if not named in front of it.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def command(
    store: Path,
    table: str,
    before: MomentText,
    after: MomentText,
    database: str | None,
    as_json: bool,
) -> None:
    """Show the rows of TABLE that were inserted (+), deleted (-) or updated (~) from A to B.

    Rows are told apart by the primary key; without one by the whole row. Both moments are read
    through, and the rows of both are held in memory. Exit code 10 when there are differences.
    """
    import trio

    from walstream.app.open import diff_moments
    from walstream.cli.exit_codes import DIFFERENT, ROWS_LOST

    found = trio.run(diff_moments, store, table, database, before, after)
    for change in found.changes:
        click.echo(_json(found, change) if as_json else _line(found, change))
    for damage in found.damaged:
        click.echo(f"walstream: rows lost: {damage}", err=True)
    counts = {kind: sum(one.kind == kind for one in found.changes) for kind in SIGNS}
    click.echo(
        f"{found.name}: " + ", ".join(f"{count} {kind}" for kind, count in counts.items()),
        err=True,
    )
    if found.damaged:
        sys.exit(ROWS_LOST)
    if found.changes:
        sys.exit(DIFFERENT)


def _shown(text: bytes | None) -> str:
    return "NULL" if text is None else text.decode("utf-8", "backslashreplace")


def _line(diff: TableDiff, change: RowChange) -> str:
    names = [column.name for column in diff.columns]
    if change.old is not None and change.new is not None:
        key = ", ".join(
            f"{names[at]}={_shown(value)}" for at, value in zip(diff.key, change.key, strict=True)
        )
        changed = ", ".join(
            f"{names[at]}: {_shown(change.old[at])} -> {_shown(change.new[at])}"
            for at in diff.changed_columns(change)
        )
        return f"~ {key}  {changed}"
    row = change.new if change.new is not None else change.old
    assert row is not None
    values = ", ".join(f"{name}={_shown(value)}" for name, value in zip(names, row, strict=True))
    return f"{SIGNS[change.kind]} {values}"


def _json(diff: TableDiff, change: RowChange) -> str:
    names = [column.name for column in diff.columns]

    def row(texts: tuple[bytes | None, ...] | None) -> dict[str, str | None] | None:
        if texts is None:
            return None
        values = [None if text is None else _shown(text) for text in texts]
        return dict(zip(names, values, strict=True))

    return to_json({"kind": change.kind, "old": row(change.old), "new": row(change.new)})
