"""``walstream history``: the records that changed a block."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from walstream.cli.arguments import BLOCK, FORK, MOMENT, RELATION, STORE, buffer_tag
from walstream.text import to_json
from walstream.wal.model import RelFileLocator, format_lsn

if TYPE_CHECKING:
    from walstream.index.moment import MomentText


@click.command()
@click.argument("store", type=STORE)
@click.argument("relation", metavar="REL", type=RELATION)
@click.argument("block", type=BLOCK)
@click.option("--fork", type=FORK, help="Fork of the relation [default: main, or the path's].")
@click.option("--from", "after", type=MOMENT, metavar="WHEN", help="Only records that end after.")
@click.option("--to", "upto", type=MOMENT, metavar="WHEN", help="Only those that end by then.")
@click.option("-n", "--limit", type=click.IntRange(1), help="Only the newest N records.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def command(
    store: Path,
    relation: tuple[RelFileLocator, int] | str,
    block: int,
    fork: str | None,
    after: MomentText | None,
    upto: MomentText | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """List the records that changed block BLOCK of relation REL, oldest first.

    REL is a name, [db.]schema.table, as of --to, or tablespace/database/relfilenode, or a path
    below the data directory such as base/5/16384. A star marks records that make the page by
    themselves; implicit changes (a heap record that clears visibility map bits) are listed too.
    WHEN is an LSN, a time with its zone, '5 minutes ago', xid:N, 'before xid:N' or name:NAME.
    """
    import trio

    from walstream.app.open import find_lsn, find_relation, open_past

    async def main() -> None:
        async with open_past(store) as past:
            from_lsn, to_lsn = await find_lsn(past, after) or 0, await find_lsn(past, upto)
            place = relation
            if isinstance(place, str):
                place = await find_relation(past, place, to_lsn)
            tag = buffer_tag(place, fork, block)
            for change in await past.pages.read_history(tag, from_lsn, to_lsn, limit):
                if as_json:
                    click.echo(
                        to_json(
                            {
                                "start_lsn": format_lsn(change.start_lsn),
                                "end_lsn": format_lsn(change.end_lsn),
                                "xid": change.xid,
                                "rmgr": change.rmgr,
                                "op": change.op,
                                "length": change.length,
                                "makes_page": change.makes_page,
                                "implicit": change.implicit,
                                "description": change.description,
                            }
                        )
                    )
                    continue
                mark = "*" if change.makes_page else " "
                note = " (implicit)" if change.implicit else ""
                click.echo(
                    f"{mark} {format_lsn(change.start_lsn):>12} {format_lsn(change.end_lsn):>12}  "
                    f"xid {change.xid:<10} {change.rmgr}/{change.op}{note}  {change.description}"
                )

    trio.run(main)
