"""What ``open`` and ``psql`` share: a moment opened while something runs."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import click
import trio

from walstream.app.opening import Opening, OpenOptions, open_branch, open_moment
from walstream.datadir.configuration import OUTSIDE, OVERRIDES
from walstream.errors import ConfigError, LocalServerError
from walstream.index.moment import parse_moment
from walstream.mount.branch import DESCRIPTION, branch_path
from walstream.mount.hydrate import Hydrated
from walstream.mount.place import place_beside
from walstream.server.postmaster import check_end
from walstream.server.programs import client_program
from walstream.tasks.supervise import open_bare_nursery
from walstream.terminal import StatusLine
from walstream.wal.model import format_lsn

INTERVAL_S = 0.5

if TYPE_CHECKING:
    from walstream.index.moment import MomentText


async def open_and_run(
    store: Path,
    asked: MomentText | None,
    options: OpenOptions,
    psql: list[str] | None,
    verbose: bool = False,
    follow_s: float | None = None,
) -> int:
    """Opens a moment or branch; runs psql with these arguments, or waits for a signal.

    ``follow_s``: so often the newest moment is opened anew, at the same place.

    Returns the exit code: psql's, or 0.

    Raises:
        ConfigError: a moment was given for a branch that is there.
        WalstreamError: see ``open_moment``.

    Cancellation: psql and the server are ended.
    """
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            code = 0

            async def run() -> None:
                nonlocal code
                if follow_s is not None:
                    await _follow(signals, store, options, verbose, follow_s)
                else:
                    async with _open(store, asked, options) as opening:
                        _tell(opening, options, verbose)
                        if psql is None:
                            await _until(signals, opening, options)
                        else:
                            code = await _psql(signals, opening, psql)
                        if verbose and opening.lower is not None:
                            click.echo(f"pages made: {opening.lower.pages_made}", err=True)
                nursery.cancel_scope.cancel()

            nursery.start_soon(run)
        return code


def _open(
    store: Path, asked: MomentText | None, options: OpenOptions
) -> AbstractAsyncContextManager[Opening]:
    name = options.name
    if name is not None and (branch_path(store, name) / DESCRIPTION).exists():
        if asked is not None:
            raise ConfigError(f"branch {name} is there already: --at cannot move it")
        return open_branch(store, name, options)
    return open_moment(store, asked or parse_moment("latest"), options)


async def _follow(
    signals: AsyncIterator[int], store: Path, options: OpenOptions, verbose: bool, every_s: float
) -> None:
    """Opens the newest moment again and again, until a signal."""
    async with place_beside(store) as place:
        ended = False
        while not ended:
            async with open_moment(store, parse_moment("latest"), options, place) as opening:
                _tell(opening, options, verbose)
                with trio.move_on_after(every_s) as waiting:
                    await _until(signals, opening, options)
                ended = not waiting.cancelled_caught


def _tell(opening: Opening, options: OpenOptions, verbose: bool) -> None:
    moment = opening.moment
    what = f"branch {opening.branch.name}, " if options.name is not None else ""
    at = format_lsn(opening.branch.lsn) if moment is None else str(moment)
    click.echo(f"{what}moment: {at}", err=True)
    if verbose:
        names = ", ".join(one.name for one in OVERRIDES)
        click.echo(f"overridden in postgresql.auto.conf: {names}", err=True)
        click.echo(f"taken out of the configuration: {', '.join(OUTSIDE)}", err=True)
        click.echo(f"data directory: {opening.data_directory}", err=True)
        click.echo(f"server log: {opening.branch.path / 'server.log'}", err=True)


async def _until(signals: AsyncIterator[int], opening: Opening, options: OpenOptions) -> None:
    """Waits for a signal, or for the server's own end.

    Raises:
        LocalServerError: it did not end in good order.
    """
    click.echo(f'psql "{opening.connection.conninfo}"')
    async with trio.open_nursery() as nursery:

        async def watch() -> None:
            await opening.process.wait()
            check_end(opening.process, opening.branch.path / "server.log")
            nursery.cancel_scope.cancel()

        nursery.start_soon(watch)
        if options.hydrate:
            nursery.start_soon(_tell_hydration, opening.hydrated)
        async for _ in signals:
            break
        nursery.cancel_scope.cancel()


async def _tell_hydration(hydrated: Hydrated) -> None:
    with StatusLine(sys.stderr.isatty()) as line:
        while not hydrated.complete:
            share = 100 * hydrated.done // max(hydrated.pages, 1)
            line.show([f"hydrated {share} % of {hydrated.pages} pages", f"{share} %"])
            await trio.sleep(INTERVAL_S)
    after = "; it opens without a mount from now on" if hydrated.plain else ""
    click.echo(f"hydrated: {hydrated.made} pages made{after}", err=True)


async def _psql(signals: AsyncIterator[int], opening: Opening, arguments: list[str]) -> int:
    """Runs psql at our terminal; Ctrl-C is psql's, SIGTERM ends it."""
    found = client_program("psql", opening.programs)
    if found is None:
        raise LocalServerError(f"there is no psql in {opening.programs} and none on PATH")
    process: trio.Process = await trio.lowlevel.open_process(
        [found, *arguments],
        env={**os.environ, **opening.connection.environment},
    )

    async def pass_on() -> None:
        async for number in signals:
            if number == signal.SIGTERM:
                process.send_signal(number)

    try:
        async with open_bare_nursery() as nursery:
            nursery.start_soon(pass_on)
            code = await process.wait()
            nursery.cancel_scope.cancel()
        return code
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
