"""``walstream page``: one page at one LSN."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from walstream.cli.arguments import BLOCK, FORK, MOMENT, RELATION, STORE, buffer_tag
from walstream.text import to_json
from walstream.wal.model import BufferTag, RelFileLocator

if TYPE_CHECKING:
    from walstream.index.moment import MomentText

FORMATS = ("items", "json", "hex", "raw")


@click.command()
@click.argument("store", type=STORE)
@click.argument("relation", metavar="REL", type=RELATION)
@click.argument("block", type=BLOCK)
@click.option("--fork", type=FORK, help="Fork of the relation [default: main, or the path's].")
@click.option("--at", "asked", type=MOMENT, metavar="WHEN", help="Moment [default: the newest].")
@click.option("--format", "output", type=click.Choice(FORMATS), default="items", show_default=True)
@click.option("--json", "output", flag_value="json", help="Same as --format json.")
@click.option("--no-sandbox", is_flag=True, help="Run the redo child without its sandbox.")
def command(
    store: Path,
    relation: tuple[RelFileLocator, int] | str,
    block: int,
    fork: str | None,
    asked: MomentText | None,
    output: str,
    no_sandbox: bool,
) -> None:
    """Rebuild block BLOCK of relation REL as it was at a moment.

    REL is a name, [db.]schema.table, as of that moment (an index too), or
    tablespace/database/relfilenode, or a path below the data directory such as base/5/16384. WHEN
    is an LSN x, which means every record that ends at or before x, or a time with its zone, '5
    minutes ago', xid:N, 'before xid:N' or name:NAME of a restore point. The store may be in use by
    a running walstream.

    Items are shown as pageinspect shows those of that kind of page: heap, every index access
    method with its metapage and special space, visibility and free space map, sequence.
    """
    import trio

    from walstream.app.open import find_lsn, find_relation, open_past
    from walstream.pages.text import hex_lines, page_json, page_lines

    async def main() -> tuple[BufferTag, bytes]:
        async with open_past(store, sandbox=not no_sandbox) as past:
            at_lsn = await find_lsn(past, asked)
            place = relation
            if isinstance(place, str):
                place = await find_relation(past, place, at_lsn)
            tag = buffer_tag(place, fork, block)
            return tag, await past.pages.get_page(tag, at_lsn)

    tag, page = trio.run(main)
    if output == "raw":
        sys.stdout.buffer.write(page)
        return
    if output == "json":
        click.echo(to_json(page_json(page, tag.fork, tag.block)))
        return
    lines = page_lines(page, tag.fork, tag.block) if output == "items" else hex_lines(page)
    for line in lines:
        click.echo(line)
