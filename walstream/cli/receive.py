"""``walstream receive``: pg_receivewal's options, on walstream's receiver and writer."""

from __future__ import annotations

import getpass
import logging
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from walstream.cli.arguments import LSN, POSTGRES, PostgresCommand, version_option
from walstream.text import to_json

if TYPE_CHECKING:
    from walstream.store.verifier import VerifyLevel


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        return to_json(
            {
                "time": round(record.created, 3),
                "level": record.levelname.lower(),
                "logger": record.name,
                "message": record.getMessage(),
            }
        )


@click.command("receive", cls=PostgresCommand, context_settings=POSTGRES)
@version_option
@click.option("-D", "--directory", type=click.Path(path_type=Path), help="WAL goes here.")
@click.option("-E", "--endpos", "end_lsn", type=LSN, help="Exit when WAL up to there is on disk.")
@click.option("-S", "--slot", help="Replication slot to use.")
@click.option("--create-slot", is_flag=True, help="Create the slot, with its WAL kept, and exit.")
@click.option("--drop-slot", is_flag=True, help="Drop the slot and exit.")
@click.option("--if-not-exists", is_flag=True, help="No error when the slot exists already.")
@click.option("--synchronous", is_flag=True, help="Flush WAL as soon as it is written.")
@click.option("--no-sync", is_flag=True, help="Never wait for the disk; nothing counts as flushed.")
@click.option("-n", "--no-loop", is_flag=True, help="Exit when the connection is lost.")
@click.option(
    "-s", "--status-interval", type=click.FloatRange(0), default=10.0, show_default=True,
    help="Seconds between status updates; 0: only those that are asked for.",
)  # fmt: skip
@click.option(
    "--receive-timeout", type=click.FloatRange(0), default=60.0, show_default=True,
    help="Seconds of silence after which the server is left; 0: never.",
)  # fmt: skip
@click.option(
    "-Z", "--compress", default="none", show_default=True,
    help="gzip, lz4, zstd or none, with :LEVEL; a number is a level of gzip.",
)  # fmt: skip
@click.option(
    "--verify", type=click.Choice(["off", "headers", "records"]),
    help="What is checked before it is stored. [default: records; headers without a compiler]",
)  # fmt: skip
@click.option("-d", "--dbname", "conninfo", default="", help="Connection string.")
@click.option("-h", "--host", help="Database server host or socket directory.")
@click.option("-p", "--port", help="Database server port.")
@click.option("-U", "--username", help="Connect as this user.")
@click.option("-w", "--no-password", is_flag=True, help="Never ask for a password.")
@click.option("-W", "--password", "ask_password", is_flag=True, help="Ask for a password.")
@click.option(
    "--config", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TOML file with conninfo = '...'; read again on SIGHUP.",
)  # fmt: skip
@click.option("--status-file", type=click.Path(path_type=Path), help="JSON, replaced each second.")
@click.option("--log-json", is_flag=True, help="Log one JSON object a line.")
@click.option("-v", "--verbose", is_flag=True, help="Log what happens, not only what is wrong.")
def command(
    directory: Path | None,
    end_lsn: int | None,
    slot: str | None,
    create_slot: bool,
    drop_slot: bool,
    if_not_exists: bool,
    synchronous: bool,
    no_sync: bool,
    no_loop: bool,
    status_interval: float,
    receive_timeout: float,
    compress: str,
    verify: VerifyLevel | None,
    conninfo: str,
    host: str | None,
    port: str | None,
    username: str | None,
    no_password: bool,
    ask_password: bool,
    config: Path | None,
    status_file: Path | None,
    log_json: bool,
    verbose: bool,
) -> None:
    """Stream WAL from a running PostgreSQL into a directory, as pg_receivewal does.

    The directory is a plain one, or a store. Segments are those of the server, byte for byte; the
    unfinished one is called .partial. Every record is verified before it is stored.
    """
    import trio

    if create_slot and drop_slot:
        raise click.UsageError("cannot use --create-slot together with --drop-slot")
    if (create_slot or drop_slot) and slot is None:
        raise click.UsageError("--create-slot and --drop-slot need --slot")
    if synchronous and no_sync:
        raise click.UsageError("cannot use --synchronous together with --no-sync")
    if no_password and ask_password:
        raise click.UsageError("cannot use --no-password together with --password")
    if directory is None and not (create_slot or drop_slot):
        raise click.UsageError("no target directory specified: use -D")
    terminal = sys.stderr.isatty() and not log_json
    _set_up_logging(verbose, log_json, terminal)
    given = _conninfo(conninfo, config, host, port, username)
    if ask_password:
        from walstream.replication.addresses import with_parameters

        given = with_parameters(given, password=getpass.getpass("Password: "))
    if create_slot or drop_slot:
        from walstream.app.receive import change_slot

        change = partial(
            change_slot,
            create=create_slot,
            if_not_exists=if_not_exists,
            receive_timeout_s=receive_timeout,
        )
        trio.run(change, given, slot)
        return
    from walstream.app.receive import receive
    from walstream.config import ReceiveConfig
    from walstream.segments.compression import parse_compression

    try:
        parse_compression(compress)
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint="--compress") from exc
    assert directory is not None
    options = ReceiveConfig(
        conninfo=given,
        directory=directory,
        slot=slot,
        end_lsn=end_lsn,
        status_interval_s=status_interval,
        receive_timeout_s=receive_timeout,
        synchronous=synchronous,
        sync=not no_sync,
        loop=not no_loop,
        compression=compress,
        verify=verify,
        status_file=status_file,
        show_progress=terminal,
        reread=None if config is None else partial(_conninfo, "", config, host, port, username),
    )
    trio.run(receive, options)


def _set_up_logging(verbose: bool, log_json: bool, terminal: bool) -> None:
    handler: logging.Handler = logging.StreamHandler()
    if log_json:
        handler.setFormatter(JsonLines())
    elif terminal:
        from walstream.terminal import log_handler

        handler = log_handler()
    else:
        handler.setFormatter(logging.Formatter("walstream: %(levelname)s: %(message)s"))
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, handlers=[handler])
    # A line a minute where there is no terminal.
    logging.getLogger("walstream.progress").setLevel(logging.INFO)


def _conninfo(
    conninfo: str, config: Path | None, host: str | None, port: str | None, username: str | None
) -> str:
    """Returns the connection string: options win over ``--dbname``, that over the file."""
    from walstream.config import read_conninfo
    from walstream.replication.addresses import with_parameters

    base = "" if config is None else read_conninfo(config)
    if conninfo and "=" not in conninfo and "://" not in conninfo:
        conninfo = ""  # a mere database name: WAL is the whole cluster's
    return with_parameters(conninfo or base, host=host, port=port, user=username)
