"""``walstream repair``: a rebuilt page into a stopped cluster's file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from walstream.cli.arguments import BLOCK, FORK, MOMENT, RELATION, STORE, buffer_tag
from walstream.text import to_json
from walstream.wal.model import BufferTag, RelFileLocator

if TYPE_CHECKING:
    from walstream.datadir.repair import Finding
    from walstream.index.moment import MomentText


@click.command()
@click.argument("directory", metavar="DATA_DIRECTORY", type=STORE)
@click.argument("relation", metavar="REL", type=RELATION)
@click.argument("block", type=BLOCK)
@click.option("--store", type=STORE, required=True, help="The store that has the cluster's WAL.")
@click.option("--fork", type=FORK, help="Fork of the relation [default: main, or the path's].")
@click.option(
    "--at",
    "asked",
    type=MOMENT,
    metavar="WHEN",
    help="Moment of the page [default: the end of the cluster's WAL]. An earlier one will do "
    "where nothing changed the block since.",
)
@click.option("--apply", is_flag=True, help="Write the page. Else only tell what would be done.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
def command(
    directory: Path,
    relation: tuple[RelFileLocator, int] | str,
    block: int,
    store: Path,
    fork: str | None,
    asked: MomentText | None,
    apply: bool,
    as_json: bool,
) -> None:
    """Replace block BLOCK of REL in DATA_DIRECTORY by the page that the store rebuilds.

    The server must have been shut down, cleanly, and the store must have all of its WAL. The page
    is replaced only where the one in the file is proven to be broken (checksum, header, line
    pointers), missing, older by its LSN, or not what WAL made of it. Without --apply nothing is
    written. What was in the file is kept in DATA_DIRECTORY/walstream-repair.

    REL is a name, [db.]schema.table, or tablespace/database/relfilenode, or a path below the data
    directory such as base/5/16384.

    \b
    Example:
      walstream repair /srv/data shop.public.orders 17 --store /srv/store
    """
    import trio

    from walstream.app.repair import repair_page
    from walstream.wal.model import format_lsn

    def tag_of(place: tuple[RelFileLocator, int]) -> BufferTag:
        return buffer_tag(place, fork, block)

    finding, at_lsn = trio.run(
        lambda: repair_page(directory.absolute(), store, relation, tag_of, asked, apply=apply)
    )
    if as_json:
        click.echo(to_json(finding.as_json() | {"at_lsn": format_lsn(at_lsn)}, indent=2))
        return
    for line in _lines(finding, at_lsn, applied=apply):
        click.echo(line)


def _lines(finding: Finding, at_lsn: int, *, applied: bool) -> list[str]:
    from walstream.wal.model import format_lsn

    where = f"{finding.path} block {finding.tag.block}"
    lines = [f"{where} is {finding.state.value}: {finding.reason}"]
    if not finding.state.is_repairable:
        return [*lines, "nothing to repair"]
    if finding.kept is not None:
        return [
            *lines,
            f"replaced by the page as of {format_lsn(at_lsn)}; what was there is in {finding.kept}",
        ]
    assert not applied
    return [*lines, f"--apply replaces it by the page as of {format_lsn(at_lsn)}"]
