"""A drill: a moment is opened and all of it is checked, as one would after a loss."""

from __future__ import annotations

import os
import random
import subprocess
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import trio

from walstream.app.open import open_reader
from walstream.app.opening import Opening, OpenOptions, mount_moment, open_moment
from walstream.errors import WalstreamError
from walstream.index.moment import Moment, MomentText, format_moment_time, parse_moment
from walstream.pages.service import PageService
from walstream.server.programs import client_program, find_programs
from walstream.store.drills import Check, DrillReport, write_drill
from walstream.store.store import Store
from walstream.wal.model import format_lsn


@dataclass(frozen=True, slots=True)
class DrillOptions:
    """What is checked besides that the moment opens.

    ``sql``: a file for psql, in database ``dbname``; ``amcheck``: all tables and B-trees with
    pg_amcheck; ``checksums``: every page with pg_checksums, where the cluster has them.
    """

    sql: Path | None = None
    dbname: str = "postgres"
    amcheck: bool = True
    checksums: bool = True
    bindir: Path | None = None
    sandbox: bool = True


@dataclass(slots=True)
class _Found:
    moment: Moment | None = None
    first_query_s: float | None = None
    pages_read: int = 0
    checks: list[Check] = field(default_factory=list)


async def run_drill(
    store: Path, asked: MomentText | None, options: DrillOptions
) -> tuple[DrillReport, Path]:
    """Opens a moment, checks it, and keeps a report in the store; returns it with its path.

    What goes wrong with the moment is in the report. ``asked``: None for one at random.

    Raises:
        StoreError: it is no store.
        StorageError: the report cannot be written.

    Cancellation: everything is ended; no report is kept.
    """
    await trio.to_thread.run_sync(lambda: Store.open(store, lock=False))
    began, found = datetime.now(UTC), _Found()
    start = time.monotonic()
    try:
        if asked is None:
            asked = await _random_moment(store, options)
        await _open_and_check(store, asked, options, found, start)
        if options.checksums:
            assert found.moment is not None
            await _check_checksums(store, found.moment, options, found)
    except WalstreamError as error:
        found.checks.append(Check("open", False, time.monotonic() - start, str(error)))
    moment = found.moment
    commit = None if moment is None else moment.last_commit
    report = DrillReport(
        began,
        None if moment is None else format_lsn(moment.lsn),
        None if commit is None else format_moment_time(commit.time_us),
        found.first_query_s,
        found.pages_read,
        tuple(found.checks),
    )
    return report, await trio.to_thread.run_sync(write_drill, store, report)


async def _random_moment(store: Path, options: DrillOptions) -> MomentText:
    async with open_reader(store, options.sandbox) as reader:
        return parse_moment(format_lsn(random_lsn(reader.pages)))


def random_lsn(pages: PageService) -> int:
    """Returns an LSN of the moments that gc left, each as likely as another."""
    first, last = pages.first_lsn, pages.last_record_lsn
    ends = [
        (each.from_lsn, last if each.to_lsn is None else min(each.to_lsn, last))
        for each in pages.moments
        if each.from_lsn <= last
    ] or [(first, max(first, last))]
    (chosen,) = random.choices(ends, [end - begin + 1 for begin, end in ends])
    return random.randint(*chosen)


async def _open_and_check(
    store: Path, asked: MomentText, options: DrillOptions, found: _Found, start: float
) -> None:
    # Writable, for amcheck is an extension that may have to be created.
    how = OpenOptions(writable=True, bindir=options.bindir, sandbox=options.sandbox)
    async with open_moment(store, asked, how) as opening:
        found.moment = opening.moment
        answer = await _run(opening, "first query", ["psql", "-XAtqc", "SELECT 1"])
        found.checks.append(answer)
        found.first_query_s = time.monotonic() - start
        if options.amcheck:
            arguments = ["--all", "--install-missing", "--heapallindexed", "--no-strict-names"]
            found.checks.append(await _run(opening, "amcheck", ["pg_amcheck", *arguments]))
        if options.sql is not None:
            arguments = ["-Xqv", "ON_ERROR_STOP=1", "-d", options.dbname, "-f", str(options.sql)]
            found.checks.append(await _run(opening, "sql", ["psql", *arguments]))
        assert opening.lower is not None
        found.pages_read += opening.lower.pages_made


async def _run(opening: Opening, name: str, words: list[str]) -> Check:
    program = client_program(words[0], opening.programs)
    if program is None:
        return Check(name, None, 0.0, f"there is no {words[0]}")
    environment = {**os.environ, **opening.connection.environment}
    return await _timed(name, [program, *words[1:]], environment)


async def _timed(name: str, command: list[str], environment: dict[str, str] | None = None) -> Check:
    start = time.monotonic()
    done = await trio.run_process(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )
    said = (done.stderr or done.stdout).decode(errors="replace").strip()
    passed = done.returncode == 0
    last = "\n".join(said.splitlines()[-20:])
    return Check(name, passed, time.monotonic() - start, "" if passed else last)


async def _check_checksums(
    store: Path, moment: Moment, options: DrillOptions, found: _Found
) -> None:
    """On a mount of its own, where the cluster is shut down, as pg_checksums wants it."""
    asked = parse_moment(format_lsn(moment.lsn))
    async with mount_moment(store, asked, sandbox=options.sandbox) as mounted:
        control = mounted.state.control
        bindir = await trio.to_thread.run_sync(find_programs, control.version, options.bindir)
        program = client_program("pg_checksums", bindir)
        if not control.checksums:
            found.checks.append(Check("checksums", None, 0.0, "the cluster has none"))
        elif program is None:
            found.checks.append(Check("checksums", None, 0.0, "there is no pg_checksums"))
        else:
            command = [program, "--check", "-D", str(mounted.data_directory)]
            found.checks.append(await _timed("checksums", command))
        found.pages_read += mounted.lower.pages_made
