"""Progress of a materialization: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from walstream.datadir.materialize import Progress as Files
from walstream.wal.model import BLCKSZ

INTERVAL_S = 10.0
REFRESH_S = 0.25


@contextlib.contextmanager
def show_files(files: Files) -> Iterator[Callable[[Files], None]]:
    """Shows how far ``files`` is until the context ends; yields what to call once it is planned.

    Bytes are those that are copied and, as pages of 8192, those that are rebuilt.
    """
    stop = threading.Event()
    watchers: list[threading.Thread] = []

    def planned(_: Files) -> None:
        watch = _on_terminal if sys.stderr.isatty() else _in_lines
        watchers.append(threading.Thread(target=watch, args=(files, stop), daemon=True))
        watchers[0].start()

    try:
        yield planned
    finally:
        stop.set()
        for watcher in watchers:
            watcher.join()


def _total(files: Files) -> tuple[int, int]:
    done = files.bytes_done + files.pages_done * BLCKSZ
    return done, files.bytes + files.pages * BLCKSZ


def _on_terminal(files: Files, stop: threading.Event) -> None:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        done, total = _total(files)
        task = shown.add_task("writing files", total=total)
        while not stop.wait(REFRESH_S):
            done, total = _total(files)
            shown.update(
                task,
                completed=done,
                total=total,
                description=f"writing files, {files.pages_done} of {files.pages} pages rebuilt",
            )


def _in_lines(files: Files, stop: threading.Event) -> None:
    while not stop.wait(INTERVAL_S):
        done, total = _total(files)
        passed = time.monotonic() - files.started_s
        left = passed * (total - done) / done if done else 0.0
        click.echo(
            f"{done >> 20} of {total >> 20} MB, {files.pages_done} of {files.pages} pages rebuilt "
            f"({files.pages_done / passed:.0f}/s), about {left:.0f} s left",
            err=True,
        )
