"""``walstream verify``: checks every page and record of an archive, and the pages of a store."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from walstream.cli.arguments import MOMENT, TIMELINE
from walstream.cli.leases import lease_for
from walstream.cli.step_progress import show_steps
from walstream.text import to_json

if TYPE_CHECKING:
    from walstream.datadir.deep_check import DeepReport
    from walstream.index.moment import MomentText
    from walstream.store.store import Store
    from walstream.verify.bases import BasesReport
    from walstream.verify.ledger import Ledger
    from walstream.verify.report import Report

BAD_SHOWN = 50


class PercentType(click.ParamType[float]):
    """``5%`` or ``5`` -> 0.05."""

    name = "percent"

    def convert(
        self, value: str | float, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, float):
            return value
        try:
            share = float(value.removesuffix("%")) / 100
        except ValueError:
            share = 0.0
        if not 0 < share <= 1:
            self.fail(f"expected a share above 0% to 100%, got {value!r}", param, ctx)
        return share


@click.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("-t", "--timeline", type=TIMELINE, help="Timeline to check.  [default: the newest]")
@click.option("-j", "--threads", type=click.IntRange(1, 64), help="Threads.  [default: all CPUs]")
@click.option(
    "--deep",
    is_flag=True,
    help="Of a store: also compare base backups with their manifests, rebuild the pages of a "
    "moment and check these.",
)
@click.option(
    "--at", "asked", type=MOMENT, metavar="WHEN", help="With --deep: the moment [default: latest]."
)
@click.option(
    "--sample",
    type=PercentType(),
    metavar="N%",
    help="With --deep: check only this share of the pages, others each time.",
)
@click.option(
    "--all", "fresh", is_flag=True, help="Of a store: read again what was verified before."
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bar, no report: the exit code.")
def command(
    path: Path,
    timeline: int | None,
    threads: int | None,
    deep: bool,
    asked: MomentText | None,
    sample: float | None,
    fresh: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Check all WAL of PATH: a store, a data directory, a directory of WAL or a tar archive.

    Every page header, CRC, block header and link from record to record is checked, over segments
    and timelines. Reading goes on behind damage and reports what was lost. A store remembers in
    its file "verified" what was sound, so that the next check reads only what is new or changed.

    With --deep pages are rebuilt as of a moment, all or a sample of them, and their headers,
    checksums, line pointers, tuples and B-trees are checked; they must equal the images that WAL
    has for comparison (wal_consistency_checking, wal_log_hints).

    \b
    Examples:
      walstream verify /srv/store
      walstream verify --deep --sample 5% /srv/store

    Exit code 0: sound; 5: a base backup is damaged; 7: WAL is damaged; 8: pages are not sound;
    11: WAL ends within a record; 12: segments missing; 13: another cluster's WAL.
    """
    from walstream.cli import exit_codes
    from walstream.scanning.opening import open_wal
    from walstream.scanning.range_scan import default_threads
    from walstream.store.removed import read_removed
    from walstream.store.store import Store
    from walstream.verify.check import verify
    from walstream.verify.ledger import Ledger
    from walstream.verify.segments import verify_segments

    store = Store.open(path, lock=False) if Store.exists(path) else None
    wal_path = path if store is None else store.wal_path
    if deep and store is None:
        raise click.UsageError(f"--deep: {path} is no store")
    if not deep and (asked is not None or sample is not None):
        raise click.UsageError("--at and --sample go with --deep")
    click.get_current_context().with_resource(lease_for(path))
    removed = read_removed(wal_path) if wal_path.is_dir() else ()
    source = open_wal(path, timeline)
    click.get_current_context().call_on_close(source.close)
    threads = threads or default_threads()
    bases = pages = None
    with ExitStack() as stack:
        ledger = None
        if store is not None:
            writable = os.access(path, os.W_OK)
            ledger = stack.enter_context(Ledger(path, fresh=fresh, writable=writable))
        done = 0

        def advance(segments: int) -> None:
            nonlocal done
            done += segments
            tell("segments", done, segments_of)

        tell = stack.enter_context(show_steps(shown=not (quiet or as_json)))
        segments_of = len(source.numbers())
        if store is None or ledger is None:
            report = verify(source, threads=threads, progress=advance, removed=removed)
        else:
            report = verify_segments(
                source,
                threads=threads,
                system_identifier=store.identity.system_id,
                progress=advance,
                ledger=ledger,
                removed=removed,
            )
        if deep:
            assert store is not None and ledger is not None
            bases, pages = _deep(store, ledger, asked, sample or 1.0, threads, tell)
        if ledger is not None:
            ledger.save()
    if as_json:
        found = report.as_json()
        if bases is not None and pages is not None:
            found |= {"bases": bases.as_json(), "pages": pages.as_json()}
        click.echo(to_json(found, indent=2))
    elif not quiet:
        _show_wal(report)
        if bases is not None and pages is not None:
            _show_deep(bases, pages)
    code = _code(report)
    if code == exit_codes.OK and bases is not None and bases.damaged:
        code = exit_codes.STORE
    if code == exit_codes.OK and pages is not None and pages.bad:
        code = exit_codes.PAGE
    sys.exit(code)


def _deep(
    store: Store,
    ledger: Ledger,
    asked: MomentText | None,
    sample: float,
    threads: int,
    tell: Callable[[str, int, int], None],
) -> tuple[BasesReport, DeepReport]:
    import trio

    from walstream.app.verify_pages import verify_pages
    from walstream.index.moment import parse_moment
    from walstream.store.base_backup import list_base_backups
    from walstream.verify.bases import verify_bases

    bases = verify_bases(
        store,
        list_base_backups(store.base_path),
        threads=threads,
        ledger=ledger,
        progress=lambda done, total: tell("base backups", done, total),
    )

    async def main() -> DeepReport:
        return await verify_pages(
            store.path,
            asked or parse_moment("latest"),
            sample=sample,
            jobs=threads,
            progress=lambda done, total: tell("pages", done, total),
        )

    return bases, trio.run(main)


def _show_wal(report: Report) -> None:
    from walstream.wal.model import format_lsn

    for problem in report.problems:
        click.echo(f"{problem.kind}: {problem.message}")
        if problem.lost_end_lsn is not None:
            lost = problem.lost_end_lsn - problem.lost_start_lsn
            click.echo(
                f"  no records from {format_lsn(problem.lost_start_lsn)} to "
                f"{format_lsn(problem.lost_end_lsn)} ({lost} bytes)"
            )
    known = f" ({report.remembered} verified before)" if report.remembered else ""
    click.echo(
        f"{report.segments} segments{known}, {report.records} records of PostgreSQL "
        f"{report.version or '?'}, {format_lsn(report.start_lsn)} to "
        f"{format_lsn(report.end_lsn)} in {report.seconds:.1f} s: {report.verdict.value}"
    )
    click.echo(f"end: {report.ending}")


def _show_deep(bases: BasesReport, pages: DeepReport) -> None:
    from walstream.wal.model import format_lsn

    for line in bases.damaged:
        click.echo(f"damaged: {line}")
    known = f" ({bases.remembered} verified before)" if bases.remembered else ""
    verdict = f"{len(bases.damaged)} damaged" if bases.damaged else "sound"
    click.echo(f"{bases.backups} base backups, {bases.files} files{known}: {verdict}")
    for bad in pages.bad[:BAD_SHOWN]:
        click.echo(f"{bad.path} block {bad.tag.block}: {'; '.join(bad.faults)}")
    if len(pages.bad) > BAD_SHOWN:
        click.echo(f"... and {len(pages.bad) - BAD_SHOWN} more: --json has all")
    verdict = f"{len(pages.bad)} bad" if pages.bad else "sound"
    click.echo(
        f"{pages.pages} of {pages.pages_of} pages of {pages.relations} relations at "
        f"{format_lsn(pages.lsn)}, {pages.images} images compared: {verdict}"
    )


def _code(report: Report) -> int:
    from walstream.cli import exit_codes
    from walstream.verify.report import Verdict

    return {
        Verdict.SOUND: exit_codes.OK,
        Verdict.DAMAGED: exit_codes.WAL_DAMAGED,
        Verdict.TRUNCATED: exit_codes.WAL_TRUNCATED,
        Verdict.MISSING: exit_codes.SEGMENT_MISSING,
        Verdict.WRONG_CLUSTER: exit_codes.WRONG_CLUSTER,
    }[report.verdict]
