"""``walstream branch``: the branches of a store."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from walstream.cli.arguments import DURATION, MOMENT, STORE

# Numbers of blocks that are shown.
MOST = 5

if TYPE_CHECKING:
    from walstream.index.moment import MomentText
    from walstream.mount.branch import Branch


@click.group()
def command() -> None:
    """List, make and drop branches: moments of a store that take writes and stay.

    walstream open STORE --name NAME opens one, and makes it where it is not there.
    """


@command.command("list")
@click.argument("store", type=STORE)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a branch.")
def list_command(store: Path, as_json: bool) -> None:
    """List the branches of STORE; those whose time is over are dropped first."""
    from walstream.mount.branch import drop_expired, is_open, list_branches
    from walstream.store.store import Store

    Store.open(store, lock=False)
    drop_expired(store, datetime.now(UTC))
    for branch in list_branches(store):
        facts = _facts(branch, opened=is_open(branch.path))
        if as_json:
            click.echo(json.dumps(facts))
        else:
            until = f" until {facts['expires']}" if facts["expires"] else ""
            state = " open" if facts["open"] else ""
            protected = " protected" if facts["protected"] else ""
            click.echo(
                f"{branch.name}  {facts['lsn']}  made {facts['created']}{until}{protected}{state}"
            )


def _facts(branch: Branch, *, opened: bool) -> dict[str, object]:
    from walstream.wal.model import format_lsn

    return {
        "name": branch.name,
        "lsn": format_lsn(branch.lsn),
        "timeline": branch.timeline,
        "system_id": str(branch.system_id),
        "created": branch.created.isoformat(),
        "expires": None if branch.expires is None else branch.expires.isoformat(),
        "protected": branch.protected,
        "open": opened,
    }


@command.command()
@click.argument("store", type=STORE)
@click.argument("name")
@click.option("--at", "asked", type=MOMENT, metavar="WHEN", help="Moment [default: the newest].")
@click.option("--ttl", type=DURATION, help="So long it is kept, such as 8h or 7d.")
@click.option("--protect", is_flag=True, help="It can only be dropped with --force.")
@click.option("--from", "parent", metavar="BRANCH", help="A copy of that branch as it is now.")
def create(
    store: Path,
    name: str,
    asked: MomentText | None,
    ttl: float | None,
    protect: bool,
    parent: str | None,
) -> None:
    """Make branch NAME of STORE at a moment, or from another branch, without opening it."""
    import trio

    from walstream.app.branches import create_branch
    from walstream.app.opening import OpenOptions
    from walstream.index.moment import parse_moment
    from walstream.mount.branch import branch_path, copy_branch, expiry, load_branch
    from walstream.wal.model import format_lsn

    expires = expiry(ttl)
    options = OpenOptions(writable=True, name=name, expires=expires, protected=protect)
    if parent is None:
        branch = trio.run(create_branch, store, asked or parse_moment("latest"), options)
    elif asked is not None:
        raise click.UsageError("--at and --from: a copy is of the branch's own moment")
    else:
        found = load_branch(branch_path(store, parent))
        branch = copy_branch(found._replace(expires=expires, protected=protect), name)
    click.echo(f"branch {branch.name} at {format_lsn(branch.lsn)}")


@command.command()
@click.argument("store", type=STORE)
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--force", is_flag=True, help="Even one that is protected.")
def drop(store: Path, names: tuple[str, ...], force: bool) -> None:
    """Drop branches of STORE with all that was written on them."""
    from walstream.mount.branch import branch_path, drop_branch, load_branch

    for name in names:
        path = branch_path(store, name)
        _check_unprotected(load_branch(path), force)
        drop_branch(path)
        click.echo(f"dropped {name}")


@command.command()
@click.argument("store", type=STORE)
@click.argument("name")
@click.option("--force", is_flag=True, help="Even if it is protected.")
def reset(store: Path, name: str, force: bool) -> None:
    """Take branch NAME back to its moment: all that was written on it goes away."""
    import trio

    from walstream.app.branches import create_branch
    from walstream.app.opening import OpenOptions
    from walstream.index.moment import parse_moment
    from walstream.mount.branch import branch_path, drop_branch, load_branch
    from walstream.wal.model import format_lsn

    branch = load_branch(branch_path(store, name))
    _check_unprotected(branch, force)
    drop_branch(branch.path)
    options = OpenOptions(
        writable=True, name=name, expires=branch.expires, protected=branch.protected
    )
    trio.run(create_branch, store, parse_moment(format_lsn(branch.lsn)), options)
    click.echo(f"branch {name} is as at {format_lsn(branch.lsn)} again")


def _check_unprotected(branch: Branch, force: bool) -> None:
    from walstream.errors import StoreError

    if branch.protected and not force:
        raise StoreError(f"branch {branch.name} is protected: --force does it all the same")


@command.command()
@click.argument("store", type=STORE)
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a file.")
def diff(store: Path, name: str, as_json: bool) -> None:
    """List the relation files that branch NAME has changed, made or removed since its moment.

    Pages are compared, hint bits too. While it is open, what was not yet synced is not counted.
    """
    import trio

    from walstream.app.branches import compare_branch

    for file in trio.run(compare_branch, store, name):
        if as_json:
            click.echo(json.dumps(file._asdict()))
        else:
            count = len(file.blocks)
            click.echo(f"{file.kind:8}{count:>8} pages  {file.name}{_some(file.blocks)}")


def _some(blocks: Sequence[int]) -> str:
    """Returns the first of the numbers, in brackets."""
    if not blocks:
        return ""
    more = ", ..." if len(blocks) > MOST else ""
    return f"  (blocks {', '.join(map(str, blocks[:MOST]))}{more})"
