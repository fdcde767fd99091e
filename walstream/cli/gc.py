"""``walstream gc``: what of a store stays and what goes, and taking it away."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from walstream.cli.arguments import DURATION, LSN, STORE
from walstream.cli.implicit import ImplicitGroup
from walstream.text import to_json

if TYPE_CHECKING:
    from walstream.config import RetentionConfig


class SizeType(click.ParamType[int]):
    """``100GB`` -> bytes."""

    name = "size"

    def convert(
        self, value: str | int, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        from walstream.config import parse_size

        if isinstance(value, int):
            return value
        try:
            return parse_size(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


SIZE = SizeType()
CONFIG = click.Path(exists=True, dir_okay=False, path_type=Path)
COUNT = click.IntRange(0)


@click.group(cls=ImplicitGroup, context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Take away what a store need not keep; a dry run unless --apply is given.

    \b
    walstream gc STORE --keep-window 7d --keep-weekly 4            what would stay and go
    walstream gc STORE --keep-window 7d --keep-weekly 4 --apply    take it out of sight
    walstream gc undo STORE                                        bring it back
    walstream gc run --help                                        all options
    """


@command.command("run")
@click.argument("store", type=STORE)
@click.option(
    "--keep-window", type=DURATION, metavar="TIME", help="Every moment of the last 7d, 36h, 2w."
)
@click.option("--keep-from", type=LSN, help="Every moment from this LSN on.")
@click.option("--keep-size", type=SIZE, help="As many moments as fit into 100GB.")
@click.option("--keep-daily", type=COUNT, help="The newest base backup of each of N days.")
@click.option("--keep-weekly", type=COUNT, help="That of each of N weeks.")
@click.option("--keep-monthly", type=COUNT, help="That of each of N months.")
@click.option(
    "--grace",
    type=DURATION,
    metavar="TIME",
    help="How long what was taken away can be brought back.  [default: 24h]",
)
@click.option("--config", type=CONFIG, help="Settings: a TOML file with a table [retention].")
@click.option("--apply", is_flag=True, help="Do it: take out of sight, delete what is due.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def run(
    store: Path,
    keep_window: float | None,
    keep_from: int | None,
    keep_size: int | None,
    keep_daily: int | None,
    keep_weekly: int | None,
    keep_monthly: int | None,
    grace: float | None,
    config: Path | None,
    apply: bool,
    as_json: bool,
) -> None:
    """Show what of STORE stays and goes, and why; with --apply take it away.

    Any moment within the window can be rebuilt: the newest base backup that ends before it stays,
    and all WAL from what that needs on. Beyond the window --keep-daily, --keep-weekly and
    --keep-monthly keep single base backups, each with the WAL to its end. What holds and readers
    need stays too. What goes is out of sight at once, and deleted by the first gc --apply after
    --grace; until then walstream gc undo brings it back. The store may be in use.

    \b
    walstream gc STORE --keep-window 7d --keep-daily 7 --keep-monthly 12
    """
    from rich.console import Console
    from rich.progress import Progress

    from walstream.app.retention import collect, trim_index
    from walstream.retention.text import lines, size_text, table

    asked = {
        "keep_window_s": keep_window,
        "keep_from_lsn": keep_from,
        "keep_size": keep_size,
        "daily": keep_daily,
        "weekly": keep_weekly,
        "monthly": keep_monthly,
        "grace_s": grace,
    }
    console = Console(stderr=True)
    settings = _settings(config, {key: value for key, value in asked.items() if value is not None})
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("deleting", total=None, visible=False)

        def report(deleted: int, total: int) -> None:
            progress.update(task, completed=deleted, total=total, visible=True)

        done = collect(store, settings, apply=apply, report=report)
    trimmed = trim_index(store, done.gone) if apply else 0
    if as_json:
        found = {
            **table(done.plan),
            "applied": apply,
            "mark": done.mark or None,
            "deleted_count": done.swept.names,
            "deleted_bytes": done.swept.size,
            "index_keys_removed": trimmed,
        }
        click.echo(to_json(found, indent=2))
        return
    for line in lines(done.plan):
        click.echo(line)
    if not apply:
        if done.plan.going:
            click.echo("nothing was done: --apply does it")
        return
    if done.mark:
        click.echo(f"out of sight as {done.mark}: walstream gc undo {store} brings it back")
    if done.swept.names:
        click.echo(f"deleted: {done.swept.names} of before, {size_text(done.swept.size)}")
    if trimmed is None:
        click.echo("the index is in use: walstream run trims it")


def _settings(path: Path | None, asked: dict[str, float | int]) -> RetentionConfig:
    """Returns what a file says, less what was asked for otherwise.

    Raises:
        ConfigError: nothing says what is to be kept, or two things do.
    """
    from walstream.config import RetentionConfig, check_retention, read_retention

    windows = ("keep_window_s", "keep_from_lsn", "keep_size")
    settings = (read_retention(path) if path is not None else None) or RetentionConfig()
    if any(key in asked for key in windows):
        settings = replace(settings, keep_window_s=None, keep_from_lsn=None, keep_size=None)
    return check_retention(replace(settings, **asked), "what to keep")  # type: ignore[arg-type]


@command.command("undo")
@click.argument("store", type=STORE)
@click.argument("mark", required=False)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def undo(store: Path, mark: str | None, as_json: bool) -> None:
    """Bring back what a gc --apply took out of sight, and every later one.

    MARK is what that gc printed; without it the newest is taken back. What was deleted after the
    grace does not come back.

    \b
    walstream gc undo STORE 20261130T021500Z
    """
    from walstream.app.retention import take_back
    from walstream.retention.text import size_text

    oldest, back = take_back(store, mark)
    if as_json:
        click.echo(to_json({"mark": oldest, "count": back.names, "bytes": back.size}, indent=2))
    else:
        click.echo(f"brought back from {oldest} on: {back.names}, {size_text(back.size)}")
