"""``walstream hold``: moments that stay until a time, whatever gc is told."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from walstream.cli.arguments import STORE, MomentType
from walstream.cli.implicit import ImplicitGroup
from walstream.text import readable, to_json

if TYPE_CHECKING:
    from walstream.index.moment import MomentText
    from walstream.store.holds import Hold


class MomentsType(click.ParamType[tuple["MomentText", "MomentText | None"]]):
    """A moment, or two with ``..`` between."""

    name = "moments"

    def convert(
        self,
        value: str | tuple[MomentText, MomentText | None],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[MomentText, MomentText | None]:
        if isinstance(value, tuple):
            return value
        first, dots, last = value.partition("..")
        moment = MomentType()
        return moment.convert(first, param, ctx), moment.convert(last, param, ctx) if dots else None


class UntilType(click.ParamType[datetime]):
    """A time with its zone, or how long from now (``90d``)."""

    name = "time"

    def convert(
        self, value: str | datetime, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        from datetime import timedelta

        from walstream.config import parse_duration
        from walstream.index.moment import MomentKind, parse_moment
        from walstream.rmgr.clock import POSTGRES_EPOCH

        if isinstance(value, datetime):
            return value
        try:
            return datetime.now(UTC) + timedelta(seconds=parse_duration(value))
        except ValueError:
            pass
        try:
            found = parse_moment(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if found.kind != MomentKind.TIME:
            self.fail(f"expected a time with its zone, or 90d from now, got {value!r}", param, ctx)
        return POSTGRES_EPOCH + timedelta(microseconds=found.value)


@click.group(cls=ImplicitGroup, context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Keep moments of a store until a time, whatever gc is told.

    \b
    walstream hold STORE '2026-11-25 10:00+01' --until 90d --reason 'audit of November'
    walstream hold list STORE
    walstream hold release STORE NAME
    walstream hold add --help                                      all options
    """


@command.command("add")
@click.argument("store", type=STORE)
@click.argument("moments", metavar="WHEN|FROM..TO", type=MomentsType())
@click.option(
    "--until", type=UntilType(), required=True, metavar="TIME", help="A time with its zone, or 90d."
)
@click.option("--reason", required=True, help="Why: for whoever finds it.")
@click.option("--name", help="What to call it.  [default: hold-DATE-TIME]")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def add(
    store: Path,
    moments: tuple[MomentText, MomentText | None],
    until: datetime,
    reason: str,
    name: str | None,
    as_json: bool,
) -> None:
    """Keep the moment WHEN of STORE, or every moment from FROM to TO, until a time.

    WHEN, FROM and TO are an LSN, latest, a time with its zone, '5 minutes ago', xid:N, 'before
    xid:N' or name:NAME; they are looked up once, now. What they are rebuilt from stays: a base
    backup, and WAL from what that needs on.

    \b
    walstream hold STORE 'before xid:7310..name:after the repair' --until 90d --reason incident
    """
    import trio

    from walstream.app.holds import make_hold

    async def main() -> Hold:
        first, last = moments
        return await make_hold(store, first, last, until=until, reason=reason, name=name)

    hold = trio.run(main)
    if as_json:
        click.echo(to_json(_table(hold), indent=2))
        return
    for line in _lines(hold):
        click.echo(line)


@command.command("list")
@click.argument("store", type=STORE)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def show(store: Path, as_json: bool) -> None:
    """List the holds of STORE, those that have expired too.

    \b
    walstream hold list STORE --json
    """
    from walstream.store.holds import list_holds
    from walstream.store.store import Store

    holds = list_holds(Store.open(store, lock=False).path)
    if as_json:
        click.echo(to_json([_table(hold) for hold in holds], indent=2))
        return
    for hold in holds:
        for line in _lines(hold):
            click.echo(line)
    if not holds:
        click.echo("no holds", err=True)


@command.command("release")
@click.argument("store", type=STORE)
@click.argument("name")
def release(store: Path, name: str) -> None:
    """Take the hold NAME of STORE away: the next gc may take what it kept.

    \b
    walstream hold release STORE hold-20261125-100000
    """
    from walstream.store.holds import release_hold
    from walstream.store.store import Store

    release_hold(Store.open(store, lock=False).path, name)
    click.echo(f"released: {name}")


def _table(hold: Hold) -> dict[str, object]:
    from walstream.wal.model import format_lsn

    return {
        "name": hold.name,
        "from_lsn": format_lsn(hold.from_lsn),
        "to_lsn": format_lsn(hold.to_lsn),
        "until": hold.until.isoformat(),
        "expired": hold.expired(datetime.now(UTC)),
        "reason": hold.reason,
        "asked": hold.asked,
        "made_at": hold.made_at.isoformat(),
    }


def _lines(hold: Hold) -> list[str]:
    from walstream.wal.model import format_lsn

    reach = format_lsn(hold.from_lsn)
    if hold.to_lsn != hold.from_lsn:
        reach += f" to {format_lsn(hold.to_lsn)}"
    state = "expired" if hold.expired(datetime.now(UTC)) else "until"
    return [
        f"{hold.name}: {reach}, {state} {hold.until.isoformat(' ', 'seconds')}",
        f"    {readable(hold.asked)}: {readable(hold.reason)}",
    ]
