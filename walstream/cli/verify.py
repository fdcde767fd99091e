"""``walstream verify``: checks every page and record of an archive."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from walstream.cli.arguments import TIMELINE
from walstream.cli.leases import lease_for
from walstream.text import to_json


@click.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("-t", "--timeline", type=TIMELINE, help="Timeline to check.  [default: the newest]")
@click.option("-j", "--threads", type=click.IntRange(1, 64), help="Threads.  [default: all CPUs]")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bar, no report: the exit code.")
def command(
    path: Path, timeline: int | None, threads: int | None, as_json: bool, quiet: bool
) -> None:
    """Check all WAL of PATH: a store, a data directory, a directory of WAL or a tar archive.

    Every page header, CRC, block header and link from record to record is checked, over segments
    and timelines. Reading goes on behind damage and reports what was lost.

    Exit code 0: sound; 7: damaged; 11: ends within a record; 12: segments missing; 13: another
    cluster's WAL.
    """
    from rich.console import Console
    from rich.progress import Progress

    from walstream.cli import exit_codes
    from walstream.scanning.opening import open_wal
    from walstream.scanning.range_scan import default_threads
    from walstream.store.removed import read_removed
    from walstream.store.store import Store
    from walstream.verify.check import verify
    from walstream.verify.report import Verdict
    from walstream.wal.model import format_lsn

    system, removed = None, read_removed(path) if path.is_dir() else ()
    if Store.exists(path):
        store = Store.open(path, lock=False)
        system, removed = store.identity.system_id, read_removed(store.wal_path)
    click.get_current_context().with_resource(lease_for(path))
    source = open_wal(path, timeline)
    click.get_current_context().call_on_close(source.close)
    with Progress(
        console=Console(stderr=True),
        disable=quiet or as_json or not sys.stderr.isatty(),
        transient=True,
    ) as bar:
        task = bar.add_task("segments", total=len(source.numbers()))
        report = verify(
            source,
            threads=threads or default_threads(),
            system_identifier=system,
            progress=lambda done: bar.advance(task, done),
            removed=removed,
        )
    if as_json:
        click.echo(to_json(report.as_json(), indent=2))
    elif not quiet:
        for problem in report.problems:
            click.echo(f"{problem.kind}: {problem.message}")
            if problem.lost_end_lsn is not None:
                lost = problem.lost_end_lsn - problem.lost_start_lsn
                click.echo(
                    f"  no records from {format_lsn(problem.lost_start_lsn)} to "
                    f"{format_lsn(problem.lost_end_lsn)} ({lost} bytes)"
                )
        click.echo(
            f"{report.segments} segments, {report.records} records of PostgreSQL "
            f"{report.version or '?'}, {format_lsn(report.start_lsn)} to "
            f"{format_lsn(report.end_lsn)} in {report.seconds:.1f} s: {report.verdict.value}"
        )
        click.echo(f"end: {report.ending}")
    codes = {
        Verdict.SOUND: exit_codes.OK,
        Verdict.DAMAGED: exit_codes.WAL_DAMAGED,
        Verdict.TRUNCATED: exit_codes.WAL_TRUNCATED,
        Verdict.MISSING: exit_codes.SEGMENT_MISSING,
        Verdict.WRONG_CLUSTER: exit_codes.WRONG_CLUSTER,
    }
    sys.exit(codes[report.verdict])
