"""``walstream page``: one page at one LSN."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from walstream.cli.arguments import BLOCK, FORK, LSN, RELATION, STORE, buffer_tag
from walstream.text import to_json
from walstream.wal.model import RelFileLocator

FORMATS = ("items", "json", "hex", "raw")


@click.command()
@click.argument("store", type=STORE)
@click.argument("relation", metavar="REL", type=RELATION)
@click.argument("block", type=BLOCK)
@click.option("--fork", type=FORK, help="Fork of the relation [default: main, or the path's].")
@click.option("--at", "at_lsn", type=LSN, help="Page as of this LSN [default: the newest].")
@click.option("--format", "output", type=click.Choice(FORMATS), default="items", show_default=True)
@click.option("--json", "output", flag_value="json", help="Same as --format json.")
@click.option("--no-sandbox", is_flag=True, help="Run the redo child without its sandbox.")
def command(
    store: Path,
    relation: tuple[RelFileLocator, int] | str,
    block: int,
    fork: str | None,
    at_lsn: int | None,
    output: str,
    no_sandbox: bool,
) -> None:
    """Rebuild block BLOCK of relation REL as it was at an LSN.

    REL is a name, [db.]schema.table, as of that moment (an index too), or
    tablespace/database/relfilenode, or a path below the data directory such as base/5/16384. Page
    at LSN x means every record that ends at or before x. The store may be in use by a running
    walstream.
    """
    import trio

    from walstream.app.open import find_relation, open_pages
    from walstream.pages.text import hex_lines, page_json, page_lines

    if isinstance(relation, str):
        relation = trio.run(find_relation, store, relation, at_lsn)
    tag = buffer_tag(relation, fork, block)

    async def main() -> bytes:
        async with open_pages(store, sandbox=not no_sandbox) as pages:
            return await pages.get_page(tag, at_lsn)

    page = trio.run(main)
    if output == "raw":
        sys.stdout.buffer.write(page)
        return
    if output == "json":
        click.echo(to_json(page_json(page, tag.fork, tag.block)))
        return
    lines = page_lines(page, tag.fork, tag.block) if output == "items" else hex_lines(page)
    for line in lines:
        click.echo(line)
