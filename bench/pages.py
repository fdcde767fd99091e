"""Pages of the past: ``python bench/pages.py [--scale N] [--seconds S] [--directory DIR]``.

A server with pgbench tables writes WAL for some seconds behind a base backup. Then, in one run:

1. one page, one caller: how long ``get_page`` takes, as a caller sees it (p50, p99), for pages as
   they are in the base backup, with one to three records, and with a hundred or so. "read" pages
   were not asked for before, "again" are pages that were: the cache of the service has them.
2. pages with one to three records and 64 callers, each of which asks for its next page when it has
   the last.
3. bulk: every changed page of the cluster at the end of WAL, and those of the fork with the
   shortest chains.
4. PostgreSQL's own recovery of the same WAL from the same backup, all WAL at hand and room for all
   pages in shared buffers; what its log says that redo took.

WAL and pages are in the page cache for both. Shown are times, and bulk against recovery as a ratio
(above 1: ours is faster). ``--directory`` keeps what was made for the next run.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pickle
import platform
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import trio

sys.path.insert(0, str(Path(__file__).parent.parent))

import walstream.index.chains as kernel
from tests.support.servers import PostgresServer, Setting
from walstream.datadir.relations import RelationFork, RelationTable
from walstream.errors import WalError
from walstream.index.chains import Chains
from walstream.index.ingest import Ingest, begin_index
from walstream.index.page_index import PageIndex
from walstream.pages.service import Base, ClusterFacts, PageService
from walstream.redo.manager import RedoConfig, RedoManager
from walstream.segments.reader import SegmentReader
from walstream.store.base_backup_pages import BasePages
from walstream.wal.model import BufferTag, parse_lsn

VERSION = 15
CONFIG: dict[str, Setting] = {
    "max_wal_size": "64GB",
    "wal_keep_size": "64GB",
    "shared_buffers": "1GB",
    "synchronous_commit": False,
    "checkpoint_timeout": "1d",
}
CALLERS = 64


class Made(NamedTuple):
    """What all parts of the benchmark read. ``directories``: tablespace and database."""

    backup: Path
    wal: Path
    stop_lsn: int
    directories: list[tuple[int, int]]


def make(directory: Path, scale: int, seconds: int) -> Made:
    """Runs a server and returns what it left; what an earlier run left in its place is taken."""
    noted = directory / "made"
    if noted.exists():
        made = pickle.loads(noted.read_bytes())
        assert isinstance(made, Made)
        return made
    with PostgresServer(VERSION, checksums=True, config=CONFIG) as server:
        pgbench = shutil.which("pgbench") or "/usr/lib/postgresql/15/bin/pgbench"
        arguments = [pgbench, "-d", server.dsn]
        run = {"check": True, "capture_output": True}
        subprocess.run([*arguments, "-iq", "-s", str(scale)], **run)  # type: ignore[call-overload]
        server.execute("VACUUM FREEZE")
        backup = server.base_backup(directory / "backup")
        stop_lsn = server.insert_lsn()
        subprocess.run([*arguments, "-c", "4", "-T", str(seconds)], **run)  # type: ignore[call-overload]
        databases = server.execute("SELECT oid FROM pg_database")
        server.stop()
        wal = directory / "wal"
        shutil.copytree(server.wal_directory, wal, ignore=shutil.ignore_patterns("archive_status"))
    # What the backup brought itself would be taken first.
    made = Made(backup, wal, stop_lsn, [(1663, oid) for (oid,) in databases])
    noted.write_bytes(pickle.dumps(made))
    return made


def start_lsn(made: Made) -> int:
    return parse_lsn((made.backup / "backup_label").read_text().split()[3])


def open_index(made: Made, directory: Path) -> tuple[PageIndex, SegmentReader, BasePages]:
    pages = BasePages(made.backup, checksums=True, needs_manifest=True)
    archive = SegmentReader(made.wal, 16 << 20)
    index = PageIndex(directory / "index")
    if index.meta("last_record_end") is None:
        begin_index(index, start_lsn(made), pages.sizes().items())
        ingest = Ingest(index, archive, VERSION, 16 << 20, None)
        with contextlib.suppress(WalError):
            while ingest.end_of_wal is None:
                ingest.advance(ingest.read_lsn + (16 << 20))
    return index, archive, pages


def recovery(made: Made) -> tuple[float, float]:
    """Returns the seconds that PostgreSQL's redo took, elapsed and CPU."""
    config = {**CONFIG, "shared_buffers": "2GB", "fsync": False}
    server = PostgresServer(VERSION, config=config, backup=made.backup)
    with contextlib.closing(server):
        server.create()
        shutil.copytree(made.wal, server.wal_directory, dirs_exist_ok=True)
        for path in (server.wal_directory, *server.wal_directory.iterdir()):
            shutil.chown(path, server.data_directory.owner(), server.data_directory.group())
        for path in server.wal_directory.iterdir():
            if path.is_file():
                path.read_bytes()
        server.start(600)
        found = re.search(
            r"redo done at .*user: ([\d.]+) s, system: ([\d.]+) s, elapsed: ([\d.]+) s",
            server.log_text(),
        )
        assert found is not None, server.log_text()
        return float(found[3]), float(found[1]) + float(found[2])


class Pages(NamedTuple):
    """Blocks by what they cost."""

    base: list[BufferTag]
    short: list[BufferTag]
    long: list[BufferTag]


def choose(service: PageService, forks: Sequence[RelationFork], lsn: int) -> Pages:
    found = Pages([], [], [])
    low = service.bases[-1].start_lsn
    for fork in forks:
        changed = set(fork.changed)
        blocks = random.sample(range(fork.blocks), min(20000, fork.blocks))
        for block in blocks:
            tag = BufferTag(*fork.locator, fork.fork, block)
            if block not in changed:
                if block < fork.base_blocks:
                    found.base.append(tag)
                continue
            chains = Chains()
            service.index.find_chain(chains, tag, low, lsn, False)
            length = chains.length(0)
            if 1 <= length <= 3:
                found.short.append(tag)
            elif 80 <= length <= 200:
                found.long.append(tag)
    for tags in found:
        random.shuffle(tags)
    return found


def quantiles(times: list[float]) -> str:
    times.sort()
    return f"{times[len(times) // 2] * 1e6:9.0f} {times[len(times) * 99 // 100] * 1e6:9.0f}"


async def one_caller(service: PageService, pages: Pages, lsn: int) -> None:
    print("one caller       pages    p50 us    p99 us   again us")
    for name, tags in zip(("base", "1-3 records", "80-200 records"), pages, strict=True):
        for tag in tags[:200]:
            await service.get_page(tag, lsn)
        times, again = [], []
        for tag in tags[200:2200]:
            began = time.perf_counter()
            await service.get_page(tag, lsn)
            times.append(time.perf_counter() - began)
        for tag in tags[200:2200][-1000:]:
            began = time.perf_counter()
            await service.get_page(tag, lsn)
            again.append(time.perf_counter() - began)
        if times:
            print(f"{name:15} {len(times):6} {quantiles(times)} {quantiles(again)[:9]}")


async def many_callers(service: PageService, pages: Pages, lsn: int) -> None:
    tags = pages.short[2200:]
    waiting = iter(tags)

    async def call() -> None:
        for tag in waiting:
            await service.get_page(tag, lsn)

    began, cpu = time.perf_counter(), time.process_time()
    async with trio.open_nursery() as nursery:
        for _ in range(CALLERS):
            nursery.start_soon(call)
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    print(
        f"{CALLERS} callers       {len(tags):6} pages, {len(tags) / took:,.0f} pages/s, "
        f"{cpu / len(tags) * 1e6:.1f} us of CPU of this process a page"
    )


async def bulk(
    service: PageService, forks: Sequence[RelationFork], lsn: int
) -> tuple[int, float, float]:
    """Returns how many pages, and the seconds they took: elapsed, and CPU of this process."""
    count = 0
    began, cpu = time.perf_counter(), time.process_time()
    for fork in forks:
        if fork.changed:
            got = service.get_pages(fork.locator, fork.fork, fork.changed, lsn)
            async with got as received:
                async for blocks in received:
                    assert all(block.page is not None for block in blocks)
                    count += len(blocks)
    return count, time.perf_counter() - began, time.process_time() - cpu


def show_bulk(name: str, pages: int, took: float, cpu: float) -> None:
    print(
        f"bulk, {name:9} {pages:7} pages, {pages / took:,.0f} pages/s, {took:.2f} s, "
        f"{cpu / pages * 1e6:.1f} us of CPU of this process a page"
    )


async def ours(made: Made, directory: Path) -> float:
    """Returns the seconds that all changed pages took."""
    index, archive, base = open_index(made, directory)
    manager = RedoManager(RedoConfig())
    facts = ClusterFacts(VERSION, True, True)
    backup = Base(start_lsn(made), made.stop_lsn, base)
    service = PageService(index, archive, [backup], facts, manager)
    lsn = service.last_record_lsn
    async with trio.open_nursery() as nursery:
        await nursery.start(manager.run)
        table = RelationTable(index, backup.start_lsn, lsn)
        forks = list(table.forks(made.directories))
        pages = choose(service, forks, lsn)
        await one_caller(service, pages, lsn)
        await many_callers(service, pages, lsn)
        for _ in range(2):
            count, took, cpu = await bulk(service, forks, lsn)
        # Where many pages have few records each.
        accounts = max(forks, key=lambda fork: len(fork.changed))
        short, took_short, cpu_short = await bulk(service, [accounts], lsn)
        show_bulk("all", count, took, cpu)
        show_bulk("short", short, took_short, cpu_short)
        manager.shutdown()
    index.close()
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=int, default=20)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--no-recovery", action="store_true")
    arguments = parser.parse_args()
    compiled = kernel.__file__.endswith(".so")
    print(
        f"{platform.platform()}, {os.cpu_count()} CPUs, "
        f"kernels {'compiled' if compiled else 'uncompiled'}"
    )
    random.seed(1)
    with contextlib.ExitStack() as stack:
        directory = arguments.directory
        if directory is None:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        directory.mkdir(parents=True, exist_ok=True)
        made = make(directory, arguments.scale, arguments.seconds)
        if not arguments.no_recovery:
            recovery(made)
            elapsed, cpu = recovery(made)
        took = trio.run(ours, made, directory)
        if not arguments.no_recovery:
            print(f"recovery         {elapsed:.2f} s, {cpu:.2f} s of CPU")
            print(f"ratio            {elapsed / took:.2f}")


if __name__ == "__main__":
    main()
