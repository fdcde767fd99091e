"""``walstream drill``: a restore rehearsed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from walstream.cli.arguments import MOMENT, STORE
from walstream.cli.exit_codes import DRILL, OK

RANDOM = "random"


@click.command()
@click.argument("store", type=STORE)
@click.option(
    "--at", "words", default=RANDOM, metavar="WHEN|random", show_default=True, help="Moment."
)
@click.option(
    "--sql",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Also run this file with psql; an error in it fails the drill.",
)
@click.option("-d", "--dbname", default="postgres", show_default=True, help="Where --sql is run.")
@click.option("--no-amcheck", is_flag=True, help="Do not check tables and B-trees (pg_amcheck).")
@click.option("--no-checksums", is_flag=True, help="Do not check every page (pg_checksums).")
@click.option(
    "--bindir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where PostgreSQL's programs of that version are [default: looked for].",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--no-sandbox", is_flag=True, help="Run the redo children without their sandbox.")
@click.pass_context
def command(
    context: click.Context,
    store: Path,
    words: str,
    sql: Path | None,
    dbname: str,
    no_amcheck: bool,
    no_checksums: bool,
    bindir: Path | None,
    as_json: bool,
    no_sandbox: bool,
) -> None:
    """Open a moment of STORE, check all of it, and keep a report in STORE/drills.

    A server is started on it as walstream open does; every table and B-tree is checked with
    pg_amcheck (heapallindexed), every page with pg_checksums, and a file of SQL is run. That reads
    the whole cluster. The exit code is 19 if anything failed: for cron.

      walstream drill store --at random --sql /etc/walstream/drill.sql
    """
    import trio

    from walstream.app.drill import DrillOptions, run_drill

    asked = None if words == RANDOM else MOMENT.convert(words, None, context)
    options = DrillOptions(
        sql, dbname, not no_amcheck, not no_checksums, bindir, sandbox=not no_sandbox
    )
    report, path = trio.run(run_drill, store, asked, options)
    if as_json:
        click.echo(json.dumps(report.to_json()))
    else:
        click.echo(f"moment       {report.lsn or 'none'}")
        if report.first_query_s is not None:
            click.echo(f"first query  after {report.first_query_s:.2f} s")
        for check in report.checks:
            how = {True: "passed", False: "FAILED", None: "not run"}[check.passed]
            said = f": {check.said}" if check.said else ""
            click.echo(f"{check.name:12} {how} ({check.seconds:.1f} s){said}")
        click.echo(f"pages read   {report.pages_read}")
        click.echo(f"report       {path}")
    sys.exit(OK if report.passed else DRILL)
