"""The command line: finds the command, turns our errors into one line and an exit code.

Each command lives in ``walstream/cli/NAME.py`` as a click command named ``command`` and is
imported when it is used, so that ``walstream --help`` starts fast.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import os
import sys
from pathlib import Path
from typing import TextIO

import click

from walstream import __version__
from walstream.errors import WalstreamError
from walstream.restore_command import is_restore_command, run_as_restore_command
from walstream.text import ERRORS, readable

# name -> (module, first line of help)
COMMANDS = {
    "archive-push": ("archive_push", "Put a WAL file into a store; an archive_command."),
    "demo": ("demo", "Show the whole path on an embedded PostgreSQL 18."),
    "dump": ("dump", "Print the records of WAL, as pg_waldump or as JSON, Arrow, Parquet."),
    "diff": ("diff", "Show the rows of a table that changed between two moments."),
    "find": ("find", "Find the moment at which a table was dropped or truncated."),
    "history": ("history", "List the records that changed a block."),
    "materialize": ("materialize", "Make the data directory as it was at a moment."),
    "page": ("page", "Rebuild a page as it was at an LSN."),
    "receive": ("receive", "Stream WAL into a directory, as pg_receivewal does."),
    "redo": ("redo", "Run redo requests by hand and look at the sandbox."),
    "restore-wal": ("restore_wal", "Get a WAL file out of a store; a restore_command."),
    "reindex": ("reindex", "Make the index of a store again from its WAL."),
    "rows": ("rows", "Print the rows of a table as of a moment, without a server."),
    "run": ("run", "Stream a cluster into a store: base backup, WAL, index."),
    "sql": ("sql", "Query records, blocks and commits of WAL with SQL."),
    "stats": ("stats", "Count records by kind, relation, transaction and time."),
    "status": ("status", "Show what a store holds."),
    "tables": ("tables", "List the tables of a database as of a moment."),
    "undo": ("undo", "Print SQL that takes the changes of a table back."),
    "verify": ("verify", "Check every page and record of an archive of WAL."),
}


# What writing to standard output may fail with.
OUTPUT_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.EBADF, errno.EPIPE)
# Written by the build where kernels could not be compiled (setup.py).
KERNELS_NOTE = Path(__file__).parent.parent / "kernels_failed.txt"
# The server calls these for every file and keeps what they say in its log.
QUIET = ("archive-push", "restore-wal")


class LazyGroup(click.Group):
    """A group that imports a command's module only when that command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"walstream.cli.{COMMANDS[cmd_name][0]}")
        command = module.command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in sorted(COMMANDS)])


def print_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    from walstream.wal.record import COMPILED

    kernels = "compiled" if COMPILED else "uncompiled (slower)"
    click.echo(f"walstream {__version__}, kernels: {kernels}")
    ctx.exit()


def uncompiled_kernels() -> str:
    """Returns the words for kernels that the installation could not compile."""
    reason = KERNELS_NOTE.read_text(errors="replace").strip()
    return (
        f"kernels are not compiled, so reading WAL is many times slower ({reason}). "
        "Install a C compiler and install walstream again with pip --force-reinstall --no-deps; "
        "with WALSTREAM_KERNELS=skip in the environment that installation accepts it"
    )


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=print_version,
    help="Show the version and which build of the kernels is in use.",
)
def cli() -> None:
    """PostgreSQL's physical WAL: streamed, kept, decoded, indexed and replayed.

    Exit codes are listed in docs/reference/exit-codes.md.
    """


def main() -> None:
    """Runs the command line and ends the process; the entry point of ``walstream``."""
    if is_restore_command():
        run_as_restore_command(_main)
    _main()


def _main() -> None:
    code: int | str | None = 0
    for stream in (sys.stdout, sys.stderr):
        # What the terminal's encoding has no sign for is written as an escape, never an error.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ERRORS)
    command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    if KERNELS_NOTE.exists() and command not in QUIET:
        with contextlib.suppress(OSError):
            click.echo(f"walstream: warning: {uncompiled_kernels()}", err=True)
    try:
        try:
            cli.main(prog_name="walstream", standalone_mode=True)
        except SystemExit as ended:
            code = ended.code
        flush_output()
    except (WalstreamError, ModuleNotFoundError, BaseExceptionGroup) as error:
        from walstream.cli.exit_codes import FAILED, exit_code
        from walstream.extras import missing_extra

        found: list[BaseException] = [error]
        if isinstance(error, BaseExceptionGroup):
            from walstream.tasks.supervise import leaves  # imports trio, which is slow to import

            found = leaves(error)
        missing = [leaf for leaf in found if isinstance(leaf, ModuleNotFoundError)]
        ours = [leaf for leaf in found if isinstance(leaf, WalstreamError)]
        if missing and (line := missing_extra(missing[0], command)):
            lines, code = [line], FAILED
        elif len(ours) == len(found):
            lines, code = list(dict.fromkeys(map(str, ours))), exit_code(ours[0])
        else:
            raise
        for line in lines:
            with contextlib.suppress(OSError):  # the exit code says it too
                click.echo(f"walstream: error: {readable(line)}", err=True)
    except OSError as error:
        if error.filename is not None or error.errno not in OUTPUT_ERRORS:
            raise
        code = output_failed(error)
    try:
        flush_output()
    except OSError as error:
        code = output_failed(error)
    sys.exit(code)


def flush_output() -> None:
    """Writes out what is buffered, so that a failure is ours to tell."""
    output: TextIO | None = sys.stdout  # None: it was closed before we began
    if output is not None:
        output.flush()


def output_failed(error: OSError) -> int:
    """Says that the output cannot be written, and keeps Python from trying again at its end."""
    from walstream.cli.exit_codes import FAILED, STORAGE

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if error.errno == errno.EPIPE:
        # Whoever read it has seen enough.
        return FAILED
    click.echo(f"walstream: error: could not write the output: {error.strerror}", err=True)
    return STORAGE
