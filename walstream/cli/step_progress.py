"""Progress of work in several steps: a bar a step on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

import click

_LINES_EVERY_S = 10.0


@contextlib.contextmanager
def show_steps(*, shown: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Yields what to call with a step, how much of it is done, and of how much (0: not known).

    A bar on a terminal, else a line now and then; nothing where it is not to be shown.
    """
    if shown and sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), transient=True) as bar:
            tasks: dict[str, int] = {}

            def advance(what: str, done: int, total: int) -> None:
                if what not in tasks:
                    tasks[what] = bar.add_task(what, total=None)
                bar.update(tasks[what], completed=done, total=total or None)  # type: ignore[arg-type]

            yield advance
        return
    told = time.monotonic()

    def tell(what: str, done: int, total: int) -> None:
        nonlocal told
        if shown and time.monotonic() - told >= _LINES_EVERY_S:
            told = time.monotonic()
            click.echo(f"{what}: {done} of {total}" if total else what, err=True)

    yield tell
