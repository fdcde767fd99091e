"""``walstream history``: the records that changed a block."""

from __future__ import annotations

from pathlib import Path

import click

from walstream.cli.arguments import BLOCK, FORK, LSN, RELATION, STORE, buffer_tag
from walstream.text import to_json
from walstream.wal.model import RelFileLocator, format_lsn


@click.command()
@click.argument("store", type=STORE)
@click.argument("relation", metavar="REL", type=RELATION)
@click.argument("block", type=BLOCK)
@click.option("--fork", type=FORK, help="Fork of the relation [default: main, or the path's].")
@click.option("--from", "from_lsn", type=LSN, default=0, help="Only records that end after this.")
@click.option("--to", "to_lsn", type=LSN, help="Only records that end at or before this.")
@click.option("-n", "--limit", type=click.IntRange(1), help="Only the newest N records.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def command(
    store: Path,
    relation: tuple[RelFileLocator, int] | str,
    block: int,
    fork: str | None,
    from_lsn: int,
    to_lsn: int | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """List the records that changed block BLOCK of relation REL, oldest first.

    REL is a name, [db.]schema.table, as of --to, or tablespace/database/relfilenode, or a path
    below the data directory such as base/5/16384. A star marks records that make the page by
    themselves; implicit changes (a heap record that clears visibility map bits) are listed too.
    """
    import trio

    from walstream.app.open import find_relation, open_pages

    if isinstance(relation, str):
        relation = trio.run(find_relation, store, relation, to_lsn)
    tag = buffer_tag(relation, fork, block)

    async def main() -> None:
        async with open_pages(store) as pages:
            for change in await pages.read_history(tag, from_lsn, to_lsn, limit):
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
