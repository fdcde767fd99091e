"""``walstream run``: one cluster into one store, until told to stop."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from walstream.cli.arguments import LISTEN
from walstream.config import DEFAULT_SLOT, RunConfig, read_retention


@click.command()
@click.argument("dsn")
@click.option(
    "--store",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory of the store; made when it is not there.",
)
@click.option(
    "-S", "--slot", default=DEFAULT_SLOT, show_default=True, help="Physical replication slot."
)
@click.option("--no-slot", is_flag=True, help="Stream without a slot: WAL may be lost while away.")
@click.option(
    "-s",
    "--status-interval",
    type=click.FloatRange(0),
    default=10.0,
    show_default=True,
    help="Seconds between status updates to the server.",
)
@click.option(
    "--receive-timeout",
    type=click.FloatRange(0),
    default=60.0,
    show_default=True,
    help="Seconds of silence after which the server is left; 0: never.",
)
@click.option("--synchronous", is_flag=True, help="Flush WAL as soon as it arrives.")
@click.option("-n", "--no-loop", is_flag=True, help="End when the connection is lost.")
@click.option("--no-sandbox", is_flag=True, help="Run redo children without their sandbox.")
@click.option("--metrics", metavar="HOST:PORT", type=LISTEN, help="Serve Prometheus metrics there.")
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Settings: a TOML file; [retention] says what to keep, as walstream gc.",
)
@click.option(
    "--group-access",
    is_flag=True,
    help="Make the store readable by its group. [default: as the server's data directory]",
)
@click.option("-v", "--verbose", is_flag=True, help="Say more.")
def command(
    dsn: str,
    store: Path,
    slot: str,
    no_slot: bool,
    status_interval: float,
    receive_timeout: float,
    synchronous: bool,
    no_loop: bool,
    no_sandbox: bool,
    metrics: str | None,
    config: Path | None,
    group_access: bool,
    verbose: bool,
) -> None:
    """Stream the cluster that DSN names into a store: base backup, WAL, index.

    DSN is any libpq connection string; its role needs REPLICATION. The first time the store is
    made: a replication slot and a base backup. Every other time streaming goes on where it was.
    SIGINT or SIGTERM flushes what was received and ends with exit code 0; a second one does not
    wait. Without --config everything is kept.
    """
    import logging
    import os

    import trio

    from walstream.app.run import run

    # Modes are given where files are made; this keeps them from being cut down or widened.
    os.umask(0o027)
    terminal = sys.stderr.isatty()
    handler: logging.Handler = logging.StreamHandler()
    if terminal:
        from walstream.terminal import log_handler

        handler = log_handler()
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler])
    settings = RunConfig(
        conninfo=dsn,
        store=store,
        slot=None if no_slot else slot,
        status_interval_s=status_interval,
        receive_timeout_s=receive_timeout,
        synchronous=synchronous,
        loop=not no_loop,
        sandbox=not no_sandbox,
        metrics=metrics,
        group_access=group_access,
        show_progress=terminal,
        retention=read_retention(config) if config is not None else None,
    )
    trio.run(run, settings)
