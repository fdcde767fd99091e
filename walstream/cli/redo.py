"""``walstream redo``: try redo children by hand."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from walstream.redo.manager import RedoConfig
    from walstream.redo.protocol import RedoRequest

VERSION_OPTION = click.option(
    "--pg-version",
    type=click.IntRange(14, 18),
    help="Major version of PostgreSQL; by default taken from the name of a dump.",
)
COMMAND_OPTION = click.option(
    "--redo-command",
    metavar="COMMAND",
    help="Another child, such as 'postgres --wal-redo'; {version} stands for the major version.",
)
SANDBOX_OPTION = click.option("--no-sandbox", is_flag=True, help="Run the child without sandbox.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Run redo requests by hand and look at the sandbox."""


@command.command("replay")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@VERSION_OPTION
@click.option("--stamp-hints", is_flag=True, help="The cluster has checksums or wal_log_hints.")
@COMMAND_OPTION
@SANDBOX_OPTION
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the pages there, one after the other.",
)
@click.option("--hex", "as_hex", is_flag=True, help="Show the pages in hexadecimal.")
def replay(
    file: Path,
    pg_version: int | None,
    stamp_hints: bool,
    redo_command: str | None,
    no_sandbox: bool,
    output: Path | None,
    as_hex: bool,
) -> None:
    """Run a dumped redo input again and show each page, or the error.

    FILE holds raw redo requests, as a store's dumps/ directory does. Every request that fails is
    shown with the child's own words; the next one goes to a fresh child.
    """
    import trio

    from walstream.errors import RedoProtocolError
    from walstream.redo.dumps import dump_settings
    from walstream.redo.protocol import decode_requests

    named = dump_settings(file)
    version = pg_version or (named[0] if named else None)
    if version is None:
        raise click.UsageError("the file's name does not tell the major version: use --pg-version")
    try:
        requests = [request for request in decode_requests(file.read_bytes()) if request]
    except RedoProtocolError as exc:
        raise click.BadParameter(f"{file} is not a redo input: {exc}") from exc
    pages = trio.run(
        _replay,
        _config(redo_command, no_sandbox),
        version,
        stamp_hints or bool(named and named[1]),
        requests,
        as_hex,
    )
    if output is not None:
        output.write_bytes(b"".join(page for page in pages if page is not None))
    if None in pages:
        from walstream.cli.exit_codes import REDO

        sys.exit(REDO)


@command.command("check")
@VERSION_OPTION
@COMMAND_OPTION
@SANDBOX_OPTION
def check(pg_version: int | None, redo_command: str | None, no_sandbox: bool) -> None:
    """Start a redo child and show its sandbox, start-up time and memory.

    Each wall of the sandbox was tried by the child itself: "refused" lists what it attempted.
    """
    import trio

    trio.run(_check, _config(redo_command, no_sandbox), pg_version or 18)


def _config(redo_command: str | None, no_sandbox: bool) -> RedoConfig:
    import os
    import shlex

    from walstream.redo.manager import RedoConfig

    words = tuple(shlex.split(redo_command)) if redo_command else None
    return RedoConfig(command=words, environment=dict(os.environ), sandbox=not no_sandbox)


async def _replay(
    config: RedoConfig,
    version: int,
    stamp_hints: bool,
    requests: list[RedoRequest],
    as_hex: bool,
) -> list[bytes | None]:
    """Runs the requests one by one; returns their pages, None for those that failed."""
    import trio

    from walstream.errors import RedoError
    from walstream.redo.manager import child_command
    from walstream.redo.process import RedoProcess
    from walstream.redo.protocol import decode_error, encode_request
    from walstream.redo.result import check_page

    words, environment = child_command(config, version, stamp_hints)
    process: RedoProcess | None = None
    pages: list[bytes | None] = []
    async with trio.open_nursery() as nursery:
        for number, request in enumerate(requests, 1):
            tag = request.tag
            click.echo(
                f"request {number}: block {tag.block} of {tag.locator} fork {tag.fork},"
                f" {'base page' if request.base_page else 'no base page'},"
                f" {len(request.records)} records"
            )
            if process is None or process.death is not None:
                process = RedoProcess(words, environment=environment, limits=config.limits)
                await nursery.start(process.run)
            try:
                page = await process.request(encode_request(request))
                if decode_error(page) is None:
                    _show_page(page, as_hex)
                check_page(page, request)
            except RedoError as exc:
                click.echo(f"  failed: {exc}", err=True)
                pages.append(None)
            else:
                pages.append(page)
        if process is not None:
            process.close()
    return pages


def _show_page(page: bytes, as_hex: bool) -> None:
    from walstream.wal.model import format_lsn

    lsn = int.from_bytes(page[:4], "little") << 32 | int.from_bytes(page[4:8], "little")
    flags, lower, upper, special = (
        int.from_bytes(page[at : at + 2], "little") for at in (10, 12, 14, 16)
    )
    click.echo(
        f"  page: lsn {format_lsn(lsn)} flags {flags:#x} lower {lower} upper {upper}"
        f" special {special}"
    )
    if as_hex:
        blank = bytes(16)
        for at in range(0, len(page), 16):
            row = page[at : at + 16]
            if row != blank:
                text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
                click.echo(f"  {at:04x}  {row.hex(' ')}  {text}")


async def _check(config: RedoConfig, version: int) -> None:
    from time import perf_counter

    import trio

    from walstream.redo.manager import child_command
    from walstream.redo.process import RedoProcess

    words, environment = child_command(config, version, False)
    process = RedoProcess(words, environment=environment, limits=config.limits)
    began = perf_counter()
    async with trio.open_nursery() as nursery:
        await nursery.start(process.run)
        click.echo(f"command    {' '.join(words)}")
        click.echo(f"start-up   {(perf_counter() - began) * 1000:.0f} ms to the first reply")
        with Path(f"/proc/{process.pid}/statm").open() as file:
            pages = int(file.read().split()[1])
        click.echo(f"memory     {pages * 4096 / 1e6:.1f} MB resident")
        await process.ping()
        click.echo("sandbox")
        for wall in process.sandbox.split():
            name, _, state = wall.partition("=")
            click.echo(f"  {name:13} {state}")
        process.close()
