"""``walstream page``: one page at one LSN, or many of a relation."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from walstream.cli.arguments import BLOCKS, FORK, MOMENT, RELATION, STORE, buffer_tag
from walstream.errors import WalstreamError
from walstream.text import to_json
from walstream.wal.model import BufferTag, RelFileLocator

if TYPE_CHECKING:
    from walstream.index.moment import MomentText
    from walstream.pages.service import PageService

FORMATS = ("items", "json", "hex", "raw")


@click.command()
@click.argument("store", type=STORE)
@click.argument("relation", metavar="REL", type=RELATION)
@click.argument("asked_blocks", metavar="BLOCK", type=BLOCKS)
@click.option("--fork", type=FORK, help="Fork of the relation [default: main, or the path's].")
@click.option("--at", "asked", type=MOMENT, metavar="WHEN", help="Moment [default: the newest].")
@click.option("--format", "output", type=click.Choice(FORMATS), default="items", show_default=True)
@click.option("--json", "output", flag_value="json", help="Same as --format json.")
@click.option("--no-sandbox", is_flag=True, help="Run the redo child without its sandbox.")
def command(
    store: Path,
    relation: tuple[RelFileLocator, int] | str,
    asked_blocks: int | range,
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

    BLOCK may be a range, FIRST-LAST or FIRST-, which ends where the relation ends. Then "block N"
    stands before each page, or a line of JSON is each page, or raw pages follow one another. A page
    that cannot be rebuilt is told on stderr and the others are shown; raw output ends there.

    Items are shown as pageinspect shows those of that kind of page: heap, every index access
    method with its metapage and special space, visibility and free space map, sequence.
    """
    import trio

    from walstream.app.open import find_lsn, find_relation, open_past

    async def main() -> None:
        async with open_past(store, sandbox=not no_sandbox) as past:
            at_lsn = await find_lsn(past, asked)
            place = relation
            if isinstance(place, str):
                place = await find_relation(past, place, at_lsn)
            if isinstance(asked_blocks, int):
                tag = buffer_tag(place, fork, asked_blocks)
                _show(tag, await past.pages.get_page(tag, at_lsn), output, many=False)
                return
            tag = buffer_tag(place, fork, asked_blocks[0])
            await _show_many(past.pages, tag, asked_blocks, at_lsn, output)

    trio.run(main)


async def _show_many(
    pages: PageService, tag: BufferTag, asked: range, at_lsn: int | None, output: str
) -> None:
    """Shows those of some blocks that a relation has; raises where it has none of them."""
    import trio

    lsn = at_lsn
    if lsn is None:
        lsn = await trio.to_thread.run_sync(pages.planner.check_lsn, None)
    size = await trio.to_thread.run_sync(pages.index.size_at, tag.locator, tag.fork, lsn) or 0
    if tag.block >= size:
        await pages.get_page(tag, lsn)
    blocks = range(asked.start, min(asked.stop, size))
    failed: WalstreamError | None = None
    async with pages.get_pages(tag.locator, tag.fork, blocks, lsn) as batches:
        async for batch in batches:
            for block in batch:
                if block.page is not None or output == "raw":
                    _show(tag._replace(block=block.number), block.rebuilt(), output, many=True)
                else:
                    failed = block.error
                    click.echo(f"block {block.number}: {failed}", err=True)
    if failed is not None:
        raise failed


def _show(tag: BufferTag, page: bytes, output: str, *, many: bool) -> None:
    from walstream.pages.text import hex_lines, page_json, page_lines

    if output == "raw":
        sys.stdout.buffer.write(page)
        return
    if output == "json":
        number = {"block": tag.block} if many else {}
        click.echo(to_json(number | page_json(page, tag.fork, tag.block)))
        return
    if many:
        click.echo(f"block {tag.block}")
    lines = page_lines(page, tag.fork, tag.block) if output == "items" else hex_lines(page)
    for line in lines:
        click.echo(line)
