"""``walstream receive``: pg_receivewal's options, on walstream's receiver and writer."""

from __future__ import annotations

import getpass
import logging
import os
import signal
import sys
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from walstream.cli.arguments import LSN, POSTGRES, PostgresCommand, version_option
from walstream.text import to_json

if TYPE_CHECKING:
    from walstream.replication.libpq import ReplicationConnection
    from walstream.store.verifier import VerifyLevel

log = logging.getLogger("walstream")


@dataclass(frozen=True, slots=True)
class ReceiveOptions:
    """What the command line says."""

    directory: Path | None
    conninfo: str
    config: Path | None
    slot: str | None
    end_lsn: int | None
    synchronous: bool
    sync: bool
    loop: bool
    status_interval_s: float
    receive_timeout_s: float
    compression: str
    verify: VerifyLevel | None
    status_file: Path | None
    terminal: bool


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
    options = ReceiveOptions(
        directory=directory,
        conninfo=given,
        config=config,
        slot=slot,
        end_lsn=end_lsn,
        synchronous=synchronous,
        sync=not no_sync,
        loop=not no_loop,
        status_interval_s=status_interval,
        receive_timeout_s=receive_timeout,
        compression=compress,
        verify=verify,
        status_file=status_file,
        terminal=terminal,
    )
    if create_slot or drop_slot:
        trio.run(_change_slot, options, create_slot, if_not_exists)
    else:
        try:
            from walstream.segments.compression import parse_compression

            parse_compression(compress)
        except ValueError as exc:
            raise click.BadParameter(str(exc), param_hint="--compress") from exc
        trio.run(_receive, options, (host, port, username))


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
    from walstream.errors import StoreError
    from walstream.replication.addresses import with_parameters

    base = ""
    if config is not None:
        try:
            table: dict[str, Any] = tomllib.loads(config.read_text(encoding="utf-8"))
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
            raise StoreError(f"configuration {config}: {exc}") from exc
        base = table.get("conninfo", "")
        if not isinstance(base, str):
            raise StoreError(f"configuration {config}: conninfo: expected a string")
    if conninfo and "=" not in conninfo and "://" not in conninfo:
        conninfo = ""  # a mere database name: WAL is the whole cluster's
    return with_parameters(conninfo or base, host=host, port=port, user=username)


async def _connect(options: ReceiveOptions) -> ReplicationConnection:
    from walstream.replication.libpq import connect

    return await connect(options.conninfo, receive_timeout_s=options.receive_timeout_s)


async def _change_slot(options: ReceiveOptions, create: bool, if_not_exists: bool) -> None:
    assert options.slot is not None
    with await _connect(options) as connection:
        if create:
            await connection.create_physical_slot(options.slot, if_not_exists=if_not_exists)
        else:
            await connection.drop_slot(options.slot)


async def _receive(options: ReceiveOptions, overrides: tuple[str | None, ...]) -> None:
    import trio
    from trio_util import AsyncValue

    from walstream.cli.wal_directory import LockedWalDirectory
    from walstream.errors import ServerRefused
    from walstream.progress import Progress
    from walstream.receive.receiver import Receiver
    from walstream.segments.compression import parse_compression
    from walstream.store.verifier import default_level
    from walstream.store.writer import Writer
    from walstream.terminal import StatusLine
    from walstream.wal.layout import VERSIONS

    assert options.directory is not None
    verify = options.verify or default_level()
    if options.verify is None and verify != "records":
        log.warning("verifying page headers only: the kernels were not compiled; see --verify")
    with LockedWalDirectory(options.directory) as directory:
        # A server that cannot be reached at all is an error at once, as for pg_receivewal.
        with await _connect(options) as connection:
            if connection.server_version not in VERSIONS and verify != "off":
                raise ServerRefused(
                    f"PostgreSQL {connection.server_version} is not known (known: "
                    f"{VERSIONS[0]} to {VERSIONS[-1]}); --verify=off stores it unread"
                )
            group = await connection.show("data_directory_mode") == "0750"
        mode = directory.file_mode or (0o640 if group else 0o600)
        os.umask(0o027 if mode & 0o040 else 0o077)
        writer = Writer(
            directory.path,
            synchronous=options.synchronous,
            sync=options.sync,
            verify=verify,
            compression=parse_compression(options.compression),
            system_id=directory.system_id,
            file_mode=mode,
        )
        conninfo = AsyncValue(options.conninfo)
        receiver = Receiver(
            conninfo,
            writer,
            slot=options.slot,
            status_interval_s=options.status_interval_s,
            receive_timeout_s=options.receive_timeout_s,
            report_flush=options.slot is not None or options.synchronous,
            end_lsn=options.end_lsn,
            loop=options.loop,
        )
        progress = Progress(receiver, writer)
        status_path = options.status_file or directory.status_path

        def reload() -> None:
            if options.config is None:
                receiver.reconnect()
                return
            conninfo.value = _conninfo("", options.config, *overrides)

        with StatusLine(options.terminal) as line:
            async with trio.open_nursery() as watching:
                watching.start_soon(_handle_signals, receiver, reload, watching.cancel_scope)
                watching.start_soon(progress.run, status_path, line)
                async with trio.open_nursery() as nursery:
                    await nursery.start(writer.run)
                    await receiver.run()
                    writer.close()
                watching.cancel_scope.cancel()


async def _handle_signals(receiver: Any, reload: Any, everything: Any) -> None:
    """First SIGINT or SIGTERM: stop in good order; second: at once. SIGHUP: read configuration."""
    import trio

    from walstream.errors import WalstreamError

    stopping = 0.0
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        async for number in signals:
            if number == signal.SIGHUP:
                try:
                    reload()
                except WalstreamError as exc:
                    log.warning("%s; going on as before", exc)
            elif stopping:
                everything.cancel()
            else:
                stopping = time.monotonic()
                receiver.stop()
