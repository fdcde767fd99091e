"""The demo: a server, a store, a workload, and everything walstream can say about it."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import trio
from rich.console import Console
from rich.live import Live
from trio_util import periodic

from walstream.app.run import Application, open_application
from walstream.config import RunConfig
from walstream.demo.server import DemoServer, demo_server
from walstream.demo.show import (
    history_table,
    stream_table,
    verification_table,
    versions_table,
)
from walstream.demo.workload import relation_paths, run_workload
from walstream.pages.compare import Comparison, compare_with_directory
from walstream.pages.items import heap_tuple, page_items
from walstream.wal.model import BufferTag, format_lsn
from walstream.wal.relpath import parse_relation

MOMENTS = ("insert", "credit", "close account")
MOMENT_LABELS = ("after the inserts", "after a credit", "after a delete")
ITEMS_SHOWN = 6
REFRESH_S = 0.1


async def play(console: Console) -> int:
    """Runs the demo; returns how many pages differ (0 is the only good answer).

    Raises:
        WalstreamError: something could not be done at all.

    Cancellation: the server is stopped, everything temporary is removed.
    """
    console.print("[bold]Starting an embedded PostgreSQL 18 ...")
    with tempfile.TemporaryDirectory(prefix="walstream-demo-") as directory:
        async with demo_server() as server:
            config = RunConfig(server.conninfo, Path(directory) / "store", synchronous=True)
            console.print("[bold]Taking a base backup over the replication protocol ...")
            async with open_application(config) as application:
                await application.streaming()
                different = await show_all(console, server, application)
    return different


async def show_all(console: Console, server: DemoServer, application: Application) -> int:
    """Shows one thing after the other and stops the server; returns how many pages differ.

    Cancellation: of this and all below, nothing is left behind but what the server has done.
    """
    moments, paths = await stream_workload(console, server, application)
    await application.caught_up()
    console.print()
    await show_history(console, application, paths["account"], moments)
    console.print("[bold]Stopping the server; comparing its files with pages rebuilt from WAL ...")
    await server.stop()
    await application.caught_up()
    return await verify(console, server, application, paths)


async def stream_workload(
    console: Console, server: DemoServer, application: Application
) -> tuple[dict[str, int], dict[str, str]]:
    """Runs the workload and shows the stream meanwhile; returns LSNs of moments, and paths.

    Cancellation: takes effect when the workload is over.
    """
    moments: dict[str, int] = {}
    steps = ["starting"]

    def at_step(name: str, lsn: int) -> None:
        moments.setdefault(name, lsn)
        steps.append(name)

    started, start_lsn = trio.current_time(), application.writer.received.value
    with Live(console=console, auto_refresh=False) as live:

        def refresh() -> None:
            elapsed = trio.current_time() - started
            live.update(stream_table(application, steps[-1], start_lsn, elapsed), refresh=True)

        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                async for _ in periodic(REFRESH_S):
                    refresh()

            nursery.start_soon(watch)
            await trio.to_thread.run_sync(partial(run_workload, server.conninfo, at_step))
            paths = await trio.to_thread.run_sync(relation_paths, server.conninfo)
            await application.caught_up()
            nursery.cancel_scope.cancel()
        steps.append("done")
        refresh()
    return moments, paths


async def show_history(
    console: Console, application: Application, path: str, moments: dict[str, int]
) -> None:
    """Shows what happened to block 0 of the account table.

    Cancellation: nothing is left behind.
    """
    locator, fork = parse_relation(path)
    tag = BufferTag(*locator, fork, 0)
    console.print(history_table(f"account ({path})", 0, await application.pages.read_history(tag)))
    pages = {}
    for moment, label in zip(MOMENTS, MOMENT_LABELS, strict=True):
        at_lsn = moments[moment]
        pages[label] = (at_lsn, await application.pages.get_page(tag, at_lsn))
    # The accounts that the last version has deleted or updated, and the first ones beside them.
    last = pages[MOMENT_LABELS[-1]][1]
    touched = [
        item.offset_number
        for item in page_items(last)
        if (row := heap_tuple(item.data)) is not None and row.xmax
    ]
    offsets = sorted({*range(1, ITEMS_SHOWN + 1), *touched[-ITEMS_SHOWN:]})
    console.print(versions_table(f"account ({path})", 0, pages, offsets))


async def verify(
    console: Console, server: DemoServer, application: Application, paths: dict[str, str]
) -> int:
    """Compares every page of the workload's relations; returns how many differ.

    Cancellation: nothing is left behind.
    """
    results: dict[str, Comparison] = {}
    for name, path in paths.items():
        forks = [path + suffix for suffix in ("", "_vm")]
        present = [fork for fork in forks if (server.data_directory / fork).exists()]
        results[name] = await compare_with_directory(
            application.pages, server.data_directory, present
        )
    console.print(verification_table(results))
    pages = sum(result.pages for result in results.values())
    differences = [d for result in results.values() for d in result.differences]
    for difference in differences:
        console.print(f"[red]{difference.path} block {difference.tag.block}: {difference.reason}")
    at = format_lsn(application.ingested.value)
    if not differences:
        console.print(f"[bold green]All {pages} pages at {at} equal the server's own files.")
    else:
        console.print(f"[bold red]{len(differences)} of {pages} pages at {at} differ.")
    return len(differences)
