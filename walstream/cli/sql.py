"""``walstream sql``: SQL over WAL."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from walstream.cli.arguments import LSN, TIMELINE
from walstream.cli.leases import lease_for

if TYPE_CHECKING:
    import duckdb


# Columns that hold LSNs, wherever a query leaves them their names.
LSNS = ("start_lsn", "end_lsn", "prev_lsn")


def print_table(names: list[str], rows: list[tuple[Any, ...]]) -> None:
    """Prints a table that fits the terminal: LSNs as text, the widest columns left out."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from walstream.wal.model import format_lsn

    def text(name: str, cell: Any) -> str:
        if cell is None:
            return ""
        return format_lsn(cell) if name in LSNS and isinstance(cell, int) else str(cell)

    columns = [[text(name, row[i]) for row in rows] for i, name in enumerate(names)]
    # A blank on both sides of each column, and one between two.
    widths = [
        3 + max(len(cell) for cell in (name, *column))
        for name, column in zip(names, columns, strict=True)
    ]
    console = Console()
    shown = list(range(len(names)))
    while len(shown) > 1 and sum(widths[i] for i in shown) + 2 > console.width:
        shown.remove(max(shown[1:], key=lambda i: (widths[i], i)))
    table = Table(*(escape(names[i]) for i in shown), box=SIMPLE)
    for row in range(len(rows)):
        table.add_row(*(escape(columns[i][row]) for i in shown))
    console.print(table)
    left = [name for i, name in enumerate(names) if i not in shown]
    if left:
        click.echo(
            f"too wide, left out: {', '.join(left)} (--format json or tsv has all)", err=True
        )


def run(connection: duckdb.DuckDBPyConnection, statement: str, form: str) -> None:
    """Runs a statement and prints its result; nothing where it has none."""
    connection.execute(statement)
    names = [str(column[0]) for column in connection.description or ()]
    if not names:
        return
    if form == "table":
        print_table(names, connection.fetchall())
        return
    while rows := connection.fetchmany(10_000):
        for row in rows:
            if form == "json":
                click.echo(json.dumps(dict(zip(names, row, strict=True)), default=str))
            else:
                click.echo("\t".join("" if cell is None else str(cell) for cell in row))


class Interrupts:
    """Ctrl-C as a flag: an extension module may swallow the exception that Python makes of it."""

    def __init__(self) -> None:
        self.came = False
        self._held = False
        signal.signal(signal.SIGINT, self._handle)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self.came = True
        if not self._held:
            raise KeyboardInterrupt

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keeps one that comes meanwhile until the end of the block."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
            if self.came:
                raise KeyboardInterrupt

    def run(self, connection: duckdb.DuckDBPyConnection, query: str, form: str) -> None:
        """Runs a statement in a thread, so that Ctrl-C ends it whatever it is at.

        In the main thread DuckDB keeps Python from handling the signal for as long as one of its
        tasks lasts, which for a join may be for ever.
        """
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(run, connection, query, form)
            try:
                while not self.came and not done.done():
                    wait([done], 0.1)
            except KeyboardInterrupt:
                pass
            if self.came:
                self.came = False
                while not done.done():
                    # Again: one that comes before DuckDB has begun is forgotten.
                    connection.interrupt()
                    wait([done], 0.1)
                raise KeyboardInterrupt
            done.result()


def first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


@click.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.argument("query", required=False)
@click.option("-s", "--start", type=LSN, default=0, help="Leave out records before this LSN.")
@click.option("-e", "--end", type=LSN, help="Leave out records from this LSN on.")
@click.option("-t", "--timeline", type=TIMELINE, help="Timeline to read.  [default: the newest]")
@click.option("--format", "form", type=click.Choice(["table", "json", "tsv"]), default="table")
def command(
    path: Path, query: str | None, start: int, end: int | None, timeline: int | None, form: str
) -> None:
    """Run QUERY over the WAL of PATH, or statements from standard input.

    Tables: records, blocks, commits; DESCRIBE shows their columns. lsn('0/16B3748') gives the
    number that start_lsn and end_lsn hold, lsn_text(n) the text. Conditions on start_lsn and
    end_lsn keep other segments from being read.

    \b
    walstream sql wal/ "SELECT rel, count(*) FROM blocks GROUP BY 1 ORDER BY 2 DESC LIMIT 5"
    """
    interrupts = Interrupts()
    try:
        # DuckDB and Arrow make of an interrupted import one that failed.
        with interrupts.held():
            import duckdb

            from walstream.scanning.opening import open_wal
            from walstream.sql.tables import WalScan
    except ImportError as error:
        raise click.ClickException(
            f"{error.name} is not installed: pip install 'walstream[sql]'"
        ) from error

    # What is wrong with PATH is said in our words, before DuckDB wraps it in its own.
    click.get_current_context().with_resource(lease_for(path))
    open_wal(path, timeline).close()
    scan = WalScan(path, start, end, timeline=timeline)
    with interrupts.held():
        connection = scan.to_duckdb()
    click.get_current_context().call_on_close(connection.close)
    if query is not None:
        try:
            interrupts.run(connection, query, form)
        except duckdb.Error as error:
            if scan.failure is not None:
                raise scan.failure from None
            raise click.ClickException(first_line(error)) from error
        return
    interactive = sys.stdin.isatty()
    if interactive:
        # Line editing and history for input().
        import readline  # noqa: F401

        click.echo("records, blocks, commits; end a statement with ; and the shell with Ctrl-D")
    statement = ""
    failed = False
    while True:
        try:
            line = input("wal> " if interactive and not statement else "")
        except EOFError:
            line, statement = "", statement if statement.strip() else ""
            if not statement:
                break
            statement += ";"
        statement += line + "\n"
        if ";" not in statement:
            continue
        try:
            interrupts.run(connection, statement, form)
        except KeyboardInterrupt:
            if not interactive:
                raise
            click.echo("interrupted", err=True)
        except duckdb.Error as error:
            click.echo(f"error: {scan.failure or first_line(error)}", err=True)
            failed = True
        statement = ""
    if failed and not interactive:
        sys.exit(1)
