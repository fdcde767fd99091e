"""The commands, and ``walstream`` itself as a click group.

Each command lives in ``walstream/cli/NAME.py`` as a click command named ``command`` and is
imported when it is used, so that ``walstream --help`` starts fast.
"""

from __future__ import annotations

import importlib

import click

from walstream import __version__

# name -> (module, first line of help)
COMMANDS = {
    "archive-push": ("archive_push", "Put a WAL file into a store; an archive_command."),
    "base": ("base", "List, make, advance and check the base backups of a store."),
    "branch": ("branch", "List, make and drop the branches of a store."),
    "demo": ("demo", "Show the whole path on an embedded PostgreSQL 18."),
    "drill": ("drill", "Open a moment, check all of it, and write a report."),
    "dump": ("dump", "Print the records of WAL, as pg_waldump or as JSON, Arrow, Parquet."),
    "diff": ("diff", "Show the rows of a table that changed between two moments."),
    "gc": ("gc", "Take away what a store need not keep: window, kept points, undo."),
    "hold": ("hold", "Keep moments until a time, whatever gc is told."),
    "find": ("find", "Find the moment at which a table was dropped or truncated."),
    "history": ("history", "List the records that changed a block."),
    "import": ("import_store", "Take backups and archived WAL of other tools into a store."),
    "materialize": ("materialize", "Make the data directory as it was at a moment."),
    "mount": ("mount", "Mount the data directory as it was at a moment."),
    "open": ("open", "Open a moment: a PostgreSQL on the cluster as it was, in a second."),
    "page": ("page", "Rebuild a page as it was at an LSN."),
    "psql": ("psql", "Run psql on the cluster as it was at a moment."),
    "receive": ("receive", "Stream WAL into a directory, as pg_receivewal does."),
    "redo": ("redo", "Run redo requests by hand and look at the sandbox."),
    "repair": ("repair", "Replace a broken page of a stopped cluster by the rebuilt one."),
    "restore-wal": ("restore_wal", "Get a WAL file out of a store; a restore_command."),
    "reindex": ("reindex", "Make the index of a store again from its WAL."),
    "rows": ("rows", "Print the rows of a table as of a moment, without a server."),
    "run": ("run", "Stream a cluster into a store: base backup, WAL, index."),
    "sql": ("sql", "Query records, blocks and commits of WAL with SQL."),
    "stats": ("stats", "Count records by kind, relation, transaction and time."),
    "status": ("status", "Show what a store holds."),
    "tables": ("tables", "List the tables of a database as of a moment."),
    "undo": ("undo", "Print SQL that takes the changes of a table back."),
    "window": ("window", "Show which moments of a store can be had, and what would be lost."),
    "verify": ("verify", "Check every page and record of an archive of WAL."),
}


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
