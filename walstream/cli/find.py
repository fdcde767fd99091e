"""``walstream find``: the moment at which a table was dropped or truncated."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from walstream.cli.arguments import STORE
from walstream.text import to_json
from walstream.wal.model import format_lsn


@click.command()
@click.argument("store", type=STORE)
@click.option("--dropped", metavar="TABLE", help="When this table was dropped.")
@click.option("--truncated", metavar="TABLE", help="When this table was truncated.")
@click.option("--db", "database", help="Database of the table, if not named in front of it.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def command(
    store: Path, dropped: str | None, truncated: str | None, database: str | None, as_json: bool
) -> None:
    """Find the moment at which TABLE was dropped or truncated, oldest first.

    Prints time, transaction, LSN, and the --at of the last moment before it, to be used with rows,
    tables or page. Ends with exit code 15 when nothing of that kind happened to such a table.
    """
    import trio

    from walstream.app.open import open_cluster
    from walstream.cli.exit_codes import NO_ROWS
    from walstream.index.moment import format_moment_time, parse_moment
    from walstream.rows.finding import DROPPED, TRUNCATED, TableEvent, find_table_events

    if (dropped is None) == (truncated is None):
        raise click.UsageError("give one of --dropped TABLE and --truncated TABLE")
    table = dropped if dropped is not None else truncated
    wanted = DROPPED if dropped is not None else TRUNCATED
    assert table is not None

    async def main() -> list[TableEvent]:
        async with open_cluster(store, parse_moment("latest")) as opened:
            return await find_table_events(
                opened.pages, opened.first_source, table, database, opened.moment.lsn
            )

    events = trio.run(main)
    matching = [event for event in events if event.kind == wanted]
    for event in matching:
        time, before = format_moment_time(event.time_us), format_lsn(event.before_lsn)
        if as_json:
            shown = {
                "event": event.kind,
                "table": event.name,
                "time": time,
                "xid": event.xid,
                "lsn": format_lsn(event.end_lsn),
                "before": before,
            }
            click.echo(to_json(shown))
        else:
            click.echo(
                f"{event.name} was {event.kind} at {time} by transaction {event.xid}, which ends "
                f"at {format_lsn(event.end_lsn)}: just before it is --at {before}"
            )
    if not matching:
        others = ", ".join(f"{one.kind} at {format_lsn(one.end_lsn)}" for one in events)
        hint = f" (but {others})" if others else ""
        click.echo(f"walstream: no {table} was {wanted} in this store{hint}", err=True)
        sys.exit(NO_ROWS)
