"""``walstream stats``: what WAL is made of."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from walstream.cli.arguments import LSN, TIMELINE
from walstream.cli.exit_codes import WAL_TRUNCATED
from walstream.cli.leases import lease_for
from walstream.errors import WriteError
from walstream.text import readable, to_json

KINDS = ("rmgr", "record", "relation", "fork", "fpi", "transaction", "time")


@click.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("-s", "--start", type=LSN, default=0, help="Leave out records before this LSN.")
@click.option("-e", "--end", type=LSN, help="Leave out records from this LSN on.")
@click.option("-t", "--timeline", type=TIMELINE, help="Timeline to read.  [default: the newest]")
@click.option(
    "--by",
    "kinds",
    type=click.Choice([*KINDS, "all"]),
    multiple=True,
    help="What to count by; may be given several times.  [default: rmgr]",
)
@click.option("-n", "--limit", type=click.IntRange(1), default=20, help="Rows of a long table.")
@click.option("--format", "form", type=click.Choice(["table", "json", "html"]), default="table")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="File.")
@click.option("-j", "--threads", type=click.IntRange(1, 64), help="Threads.  [default: all CPUs]")
def command(
    path: Path,
    start: int,
    end: int | None,
    timeline: int | None,
    kinds: tuple[str, ...],
    limit: int,
    form: str,
    output: Path | None,
    threads: int | None,
) -> None:
    """Count the records of PATH: a store, a data directory, a directory of WAL or a tar archive.

    By resource manager and by kind of record the table is that of ``pg_waldump --stats``. JSON and
    HTML hold everything. Where WAL is damaged, what is before it is counted; the exit code is that
    of ``walstream verify``.
    """
    from walstream.scanning.ending import EndKind, raise_ending
    from walstream.scanning.opening import open_wal
    from walstream.scanning.range_scan import default_threads
    from walstream.stats.waldump_table import stats_table

    click.get_current_context().with_resource(lease_for(path))
    source = open_wal(path, timeline)
    click.get_current_context().call_on_close(source.close)
    if "all" in kinds:
        kinds = KINDS
    kinds = kinds or ("rmgr",)
    if form == "table" and set(kinds) <= {"rmgr", "record"}:
        from walstream.stats.record_stats import count_records

        totals, version, ending = count_records(source, threads or default_threads(), start, end)
        text = "\n".join(
            stats_table(totals, totals.first_lsn, version or 18, kind == "record") for kind in kinds
        )
    else:
        from walstream.stats.breakdown import as_json, collect
        from walstream.stats.report import html_page, text_table

        sums = collect(source, start, end)
        ending = sums.ending
        report = as_json(sums, limit)
        if form == "json":
            text = to_json(report, indent=2) + "\n"
        elif form == "html":
            text = html_page(report, readable(str(path)))
        else:
            text = "\n".join(
                stats_table(sums.totals, sums.first_lsn, sums.version or 18, kind == "record")
                if kind in ("rmgr", "record")
                else text_table(report, kind)
                for kind in kinds
            )
    if output is None:
        click.echo(text, nl=False)
    else:
        write_file(output, text)
    if ending is not None:
        if ending.kind is EndKind.TRUNCATED:
            click.echo(f"walstream stats: {ending.message}", err=True)
            sys.exit(WAL_TRUNCATED)
        raise_ending(ending)


def write_file(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise WriteError(f"could not write {path}: {error.strerror}", str(path)) from error
