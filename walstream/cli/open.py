"""``walstream open``: a PostgreSQL on a moment."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from walstream.cli.arguments import BYTES, DURATION, MOMENT, STORE

if TYPE_CHECKING:
    from walstream.index.moment import MomentText


@click.command(context_settings={"ignore_unknown_options": False})
@click.argument("store", type=STORE)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.option("--at", "asked", type=MOMENT, metavar="WHEN", help="Moment [default: the newest].")
@click.option("-w", "--writable", is_flag=True, help="Take writes; they go away at the end.")
@click.option("--name", help="Keep it as a branch of that name; takes writes. Opens it again.")
@click.option(
    "-p",
    "--port",
    type=click.IntRange(1, 65535),
    help="Also listen at that port of the loopback addresses, with the roles' passwords.",
)
@click.option(
    "--bindir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where PostgreSQL's programs of that version are [default: looked for].",
)
@click.option(
    "-c",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="A setting of the server, such as shared_buffers=1GB.",
)
@click.option("--ttl", type=DURATION, help="So long is the branch kept, such as 8h or 7d.")
@click.option("--protect", is_flag=True, help="The branch can only be dropped with --force.")
@click.option(
    "--hydrate",
    is_flag=True,
    help="Make all pages in the background; a branch then is a plain data directory.",
)
@click.option(
    "--rate-limit",
    type=BYTES,
    metavar="BYTES",
    help="Of --hydrate: at most so many bytes a second, such as 50MB.",
)
@click.option(
    "--follow",
    type=DURATION,
    help="Every so often, such as 60s, open the newest moment again at the same place.",
)
@click.option("-v", "--verbose", is_flag=True, help="Say what was done to the configuration.")
@click.option("--no-sandbox", is_flag=True, help="Run the redo children without their sandbox.")
def command(
    store: Path,
    arguments: tuple[str, ...],
    asked: MomentText | None,
    writable: bool,
    name: str | None,
    port: int | None,
    bindir: Path | None,
    settings: tuple[str, ...],
    ttl: float | None,
    protect: bool,
    hydrate: bool,
    rate_limit: int | None,
    follow: float | None,
    verbose: bool,
    no_sandbox: bool,
) -> None:
    """Open the cluster in STORE as it was at a moment: a server on it, in about a second.

    Read-only it is a standby; with --writable it takes writes, which go away at the end, and with
    --name they stay in a branch. The store is only read. Pages are made when they are read, so it
    does not matter how large the cluster is. It prints how to connect and runs until Ctrl-C; with
    -- and arguments it runs psql with them, and ends with its exit code.

    Nothing archives, streams or connects elsewhere from it, and only who may reach its socket gets
    in. Needs FUSE, and PostgreSQL's programs of the same major version.

      walstream open store --at '5 minutes ago' -- -d app -c 'SELECT count(*) FROM orders'
    """
    import trio

    from walstream.app.opening import OpenOptions
    from walstream.cli.opened import open_and_run
    from walstream.mount.branch import expiry

    expires = expiry(ttl)
    options = OpenOptions(
        writable=writable or name is not None,
        name=name,
        port=port,
        bindir=bindir,
        settings=tuple(setting_of(text) for text in settings),
        expires=expires,
        protected=protect,
        hydrate=hydrate,
        rate_limit=rate_limit,
        sandbox=not no_sandbox,
    )
    if name is None and (ttl is not None or protect):
        raise click.UsageError("--ttl and --protect are of a branch: give it a --name")
    if hydrate and not options.branches:
        raise click.UsageError("--hydrate is of what takes writes: --writable or --name")
    psql = list(arguments) if arguments else None
    if follow is not None and (options.branches or asked is not None or psql):
        raise click.UsageError("--follow is read-only, of the newest moment, and without psql")
    sys.exit(trio.run(open_and_run, store, asked, options, psql, verbose, follow))


def setting_of(text: str) -> tuple[str, str]:
    """Returns name and value of a setting.

    Raises:
        click.BadParameter: it is none.
    """
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.BadParameter(f"{text!r}: expected NAME=VALUE", param_hint="-c")
    return name.strip(), value.strip()
